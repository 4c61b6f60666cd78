"""Relays that are killed at work, a PostgreSQL that crashes, and backends that commit and roll back meanwhile.

As a program it starts relays: for each line on its standard input one process, a copy of itself that has loaded all
there is to load, whose number it prints.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from skycap.assembly import assemble
from skycap.embedded import EmbeddedServers
from skycap.observe import logs
from skycap.settings import load_settings
from tests.support.daemons import CLEAN

PLUGIN = """
import os
from pathlib import Path

from skycap import Context, Payload, Plugin

plugin = Plugin("runs")
RUNS = os.open(Path({folder!r}) / "runs", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


class NoteRun(Payload, kind="note-run"):
    pass


@plugin.job()
async def note_run(ctx: Context, payload: NoteRun) -> None:
    os.write(RUNS, f"{{ctx.job.id}}\\n".encode())
"""


@dataclass(kw_only=True)
class Backend:
    """Enqueues in transactions of which some are rolled back, and notes what it was told of each."""

    database_url: str
    chance: random.Random
    name: str
    committed: set[str] = field(default_factory=set[str])
    rolled_back: set[str] = field(default_factory=set[str])
    _number: int = 0

    async def work(self) -> None:
        """Until cancelled, over crashes of the server."""
        while True:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
                connection = await asyncpg.connect(self.database_url, timeout=2)
                try:
                    while True:
                        await self._transact(connection)
                finally:
                    connection.terminate()
            await asyncio.sleep(0.05)

    async def _transact(self, connection: asyncpg.Connection[Any]) -> None:
        job_ids = {self._new_id() for _ in range(self.chance.randint(1, 5))}
        transaction = connection.transaction()
        await transaction.start()
        for job_id in job_ids:
            await connection.execute("SELECT skycap.enqueue_v1('note-run', job_id => $1)", job_id)
        await asyncio.sleep(self.chance.random() / 20)
        if self.chance.random() < 0.3:
            self.rolled_back |= job_ids
            await transaction.rollback()
        else:
            await transaction.commit()
            self.committed |= job_ids

    def _new_id(self) -> str:
        self._number += 1
        return f"{self.name}-{self._number}"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of the rows."""

    promised: int
    committed: int
    rolled_back: int
    lost: frozenset[str]
    """Committed, and not run."""
    repeated: frozenset[str]
    """Run more than once."""
    undone: frozenset[str]
    """Rolled back, and run all the same."""
    forgotten: frozenset[str]
    """Told that it is committed, and not there: PostgreSQL's own guarantee."""

    @classmethod
    def of(cls, backends: Iterable[Backend], rows: Iterable[str], runs: Iterable[str]) -> Verdict:
        backends = list(backends)
        there, ran = set(rows), Counter(runs)
        promised = {job_id for backend in backends for job_id in backend.committed}
        undone = {job_id for backend in backends for job_id in backend.rolled_back}
        return cls(
            promised=len(promised),
            committed=len(there),
            rolled_back=len(undone),
            lost=frozenset(there - ran.keys()),
            repeated=frozenset(job_id for job_id, times in ran.items() if times > 1),
            undone=frozenset((undone | (ran.keys() - there)) & ran.keys()),
            forgotten=frozenset(promised - there),
        )


@dataclass(kw_only=True)
class Fleet:
    """Relays of which one after the other is killed, or stopped for a while, and replaced."""

    nursery: asyncio.subprocess.Process
    pids: list[int] = field(default_factory=list[int])
    stopped: list[int] = field(default_factory=list[int])

    async def spawn(self) -> None:
        assert self.nursery.stdin is not None
        assert self.nursery.stdout is not None
        self.nursery.stdin.write(b"\n")
        self.pids.append(int(await self.nursery.stdout.readline()))

    async def kill_one(self, chance: random.Random) -> None:
        victim = self.pids.pop(chance.randrange(len(self.pids)))
        os.kill(victim, signal.SIGKILL)
        await self.spawn()

    async def stop_one(self, chance: random.Random) -> None:
        """It is as dead to the others, but comes back with what it was about to do."""
        victim = self.pids.pop(chance.randrange(len(self.pids)))
        os.kill(victim, signal.SIGSTOP)
        self.stopped.append(victim)
        await self.spawn()

    def wake_one(self) -> None:
        """Let one that was stopped go on, beside the one that took its place, which is then killed in its turn."""
        if self.stopped:
            back = self.stopped.pop(0)
            os.kill(back, signal.SIGCONT)
            self.pids.append(back)
        while len(self.pids) > _MOST_RELAYS:
            os.kill(self.pids.pop(0), signal.SIGKILL)


_MOST_RELAYS = 4


@asynccontextmanager
async def fleet(config: Path, count: int) -> AsyncGenerator[Fleet]:
    with config.with_name("relays.log").open("ab") as log:
        nursery = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.outbox_crash", config),
            env={**CLEAN, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    relays = Fleet(nursery=nursery)
    try:
        for _ in range(count):
            await relays.spawn()
        yield relays
    finally:
        for pid in (*relays.pids, *relays.stopped):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert nursery.stdin is not None
        nursery.stdin.close()
        await nursery.wait()


async def crash(servers: EmbeddedServers, folder: Path) -> None:
    """Kill -9 every process of the PostgreSQL in ``folder``, and start it again: it goes through its log."""
    postmaster = int((folder / "pg" / "postmaster.pid").read_text().splitlines()[0])
    children = _children(postmaster)
    for pid in (postmaster, *children):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    await servers.stop()
    await servers.start()


def _children(parent: int) -> list[int]:
    found: list[int] = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            # pid (comm) state ppid …, where comm may have spaces.
            if int(status.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(status.parent.name))
    return found


def _relay(config: Path) -> None:
    daemon = assemble(load_settings(config))
    assert daemon.outbox is not None
    asyncio.run(daemon.outbox.run())


def _nurse(config: Path) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    logs.configure(level="warning", style="json")
    assemble(load_settings(config))  # so that every module is loaded
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _relay(config)
        print(pid, flush=True)  # noqa: T201 - the protocol


if __name__ == "__main__":
    _nurse(Path(sys.argv[1]))
