"""Daemons that are killed at work under load, and what became of every job."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Self

from skycap import AsyncClient
from skycap.errors import Unavailable
from skycap.job import new_id
from tests.support.diary import CrashSite, Entry, SyncWork, Victim, Work
from tests.support.redis import redis_at
from tests.support.workers import eventually


@dataclass(frozen=True, kw_only=True)
class Kill:
    pid: int
    at: float


@dataclass(kw_only=True)
class Load:
    """Enqueues without a pause until it is left, and notes what was asked for and what was promised."""

    client: AsyncClient
    chance: random.Random
    jobs_per_second: float
    attempted: set[str] = field(default_factory=set[str])
    acknowledged: set[str] = field(default_factory=set[str])

    @asynccontextmanager
    async def applied(self) -> AsyncGenerator[None]:
        task = asyncio.create_task(self._enqueue_on_and_on(), name="load")
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _enqueue_on_and_on(self) -> None:
        while True:
            job_id, fails_once = new_id(), self.chance.random() < 0.1
            kind = self.chance.choice((Work, Work, SyncWork))
            self.attempted.add(job_id)
            with suppress(Unavailable):  # then nobody knows whether it was stored, and nothing was promised
                await self.client.enqueue(kind(seconds=self.chance.random() / 20, fails_once=fails_once), job_id=job_id)
                self.acknowledged.add(job_id)
            await asyncio.sleep(1 / self.jobs_per_second)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of the jobs, in the words that tests of queues use."""

    acknowledged: int
    attempted: int
    lost: frozenset[str]
    """Acknowledged, and never ended."""
    duplicated: Mapping[str, int]
    """Ended more than once, and how often too many."""
    unexpected: frozenset[str]
    """Ran, though nobody asked for it."""
    recovered: frozenset[str]
    """Not acknowledged, and ran all the same."""
    unexplained: frozenset[str]
    """Ended again although nobody killed the process in which it had ended before."""
    recovery_seconds: float
    """From a kill until the last of the victim's jobs was started again, at worst."""

    @classmethod
    def of(cls, load: Load, diary: Iterable[Entry], kills: Iterable[Kill]) -> Verdict:
        entries, kills = list(diary), list(kills)
        ends = [entry for entry in entries if entry.word == "end"]
        ended = Counter(entry.job_id for entry in ends)
        duplicated = {job_id: times - 1 for job_id, times in ended.items() if times > 1}
        killed = {kill.pid for kill in kills}
        first_end = {entry.job_id: entry.pid for entry in reversed(ends)}
        return cls(
            acknowledged=len(load.acknowledged),
            attempted=len(load.attempted),
            lost=frozenset(load.acknowledged - ended.keys()),
            duplicated=duplicated,
            unexpected=frozenset({entry.job_id for entry in entries} - load.attempted),
            recovered=frozenset(ended.keys() & load.attempted - load.acknowledged),
            unexplained=frozenset(job_id for job_id in duplicated if first_end[job_id] not in killed),
            recovery_seconds=max((_recovery(kill, entries) for kill in kills), default=0.0),
        )

    def __str__(self) -> str:
        return (
            f"acknowledged {self.acknowledged}, attempted {self.attempted}, lost {len(self.lost)}, "
            f"duplicated {sum(self.duplicated.values())}, unexpected {len(self.unexpected)}, "
            f"recovered {len(self.recovered)}, recovery at worst {self.recovery_seconds:.2f} s"
        )


def _recovery(kill: Kill, entries: list[Entry]) -> float:
    """Seconds from the kill until the last job that was cut short ran again."""
    mine = [entry for entry in entries if entry.pid == kill.pid]
    open_jobs = {entry.job_id for entry in mine if entry.word == "start"}
    # One that failed has no end, but a later start: whatever began again is not what the kill cut short.
    open_jobs -= {entry.job_id for entry in mine if entry.word == "end"}
    again = [entry for entry in entries if entry.word == "start" and entry.job_id in open_jobs and entry.at > kill.at]
    first_again = {entry.job_id: entry.at for entry in reversed(again)}
    return max((at - kill.at for at in first_again.values()), default=0.0)


@dataclass(kw_only=True)
class Fleet:
    """Daemons of which one after another is killed and replaced."""

    site: CrashSite
    chance: random.Random = field(default_factory=random.Random)
    daemons: list[Victim] = field(default_factory=list[Victim])
    kills: list[Kill] = field(default_factory=list[Kill])
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    @asynccontextmanager
    async def running(self, count: int) -> AsyncGenerator[Self]:
        """So many daemons that are ready; they, and those that took their places, end with the block."""
        async with self._stack:
            for _ in range(count):
                await self._spawn()
            await asyncio.gather(*(daemon.until_ready() for daemon in self.daemons))
            yield self

    async def kill_one(self) -> None:
        """Kill -9 one that has worked when there is another, and start one in its place, which may take its time."""
        at_work: list[Victim] = []

        async def two_have_worked() -> bool:
            pids = {entry.pid for entry in self.site.diary()}
            at_work[:] = [daemon for daemon in self.daemons if daemon.pid in pids]
            return len(at_work) >= 2

        await eventually(two_have_worked)
        victim = self.chance.choice(at_work)
        self.kills.append(Kill(pid=victim.pid, at=time.monotonic()))
        await victim.kill()
        self.daemons.remove(victim)
        await self._spawn()

    async def _spawn(self) -> None:
        daemon = self.site.daemon()
        self._stack.push_async_callback(daemon.close)
        await daemon.spawn()
        self.daemons.append(daemon)


async def cut_all_connections(redis_url: str) -> None:
    async with redis_at(redis_url) as redis:
        await redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


async def until_settled(client: AsyncClient, queue: str = "default") -> None:
    """Return when no job of the queue waits or runs."""

    async def settled() -> bool:
        counts = await client.queue(queue).counts()
        return counts.available + counts.later + counts.running == 0

    await eventually(settled)
