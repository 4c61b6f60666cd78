"""A process of its own that calls a partner behind a breaker: it does what it is told, line by line.

    python -m tests.support.breaker_caller REDIS_URL

``admit N`` asks for so many calls at once and answers with how many may be made; they stay under way, for hours or,
with ``brief N``, until a lease ends that is soon over. ``end RESULT`` ends all of them at once and answers with the
changes of state that it was told of.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from skycap.breaker import BreakerChange, BreakerSpec
from skycap.engine import breakers as engine
from skycap.engine.link import Link
from skycap.errors import BreakerOpen
from skycap.observe import logs
from skycap.services.breakers import Call, FleetBreakers, Result

SPEC = BreakerSpec(name="partner", opens_after=7, closes_after=3, tries_again_after=timedelta(hours=2))
LEASES = {"admit": timedelta(hours=1), "brief": timedelta(milliseconds=500)}


@dataclass(kw_only=True)
class Caller:
    """Such a process, as a test has it."""

    process: Process

    @classmethod
    async def start(cls, url: str, environ: Mapping[str, str]) -> Caller:
        words = (sys.executable, "-m", "tests.support.breaker_caller", url)
        env = os.environ | environ
        return cls(process=await asyncio.create_subprocess_exec(*words, stdin=PIPE, stdout=PIPE, env=env))

    async def ask(self, line: str) -> list[str]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{line}\n".encode())
        answer = await self.process.stdout.readline()
        assert answer, "the process has ended"
        return answer.decode().split()

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> None:
        if self.process.returncode is None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            await self.process.wait()


@dataclass(kw_only=True)
class _Caller:
    breakers: FleetBreakers
    calls: list[Call] = field(default_factory=list[Call])

    async def admit(self, count: int, lease: timedelta) -> int:
        admitted = await asyncio.gather(*(self._admitted(lease) for _ in range(count)))
        calls = [call for call in admitted if call is not None]
        self.calls += calls
        return len(calls)

    async def _admitted(self, lease: timedelta) -> Call | None:
        try:
            return await self.breakers["partner"].admit(lease=lease)
        except BreakerOpen:
            return None

    async def end(self, result: Result) -> None:
        calls, self.calls = self.calls, []
        await asyncio.gather(*(call.end(result) for call in calls))


async def _main(url: str) -> None:
    changes: list[str] = []

    async def changed(change: BreakerChange) -> None:
        changes.append(change.state.name)

    link = Link.to(url)
    caller = _Caller(breakers=FleetBreakers({SPEC.name: SPEC}, engine.FleetBreakers(link), on_change=changed))
    while line := await asyncio.to_thread(sys.stdin.readline):
        verb, word = line.split()
        if verb in LEASES:
            _say(str(await caller.admit(int(word), LEASES[verb])))
        else:
            await caller.end("failed" if word == "failed" else "ok")
            await caller.breakers.close()
            _say(" ".join(["told", *changes]))
            changes.clear()
    await link.close()


def _say(answer: str) -> None:
    os.write(1, f"{answer}\n".encode())


if __name__ == "__main__":
    logs.configure(level="error", style="console")  # to stderr: what is said to stdout is for the test
    asyncio.run(_main(sys.argv[1]))
