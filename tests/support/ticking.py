"""Daemons whose schedules tick while they are killed, stopped and told wrong times; and what became of every tick."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from skycap import AsyncClient
from skycap.demo.daemon import DaemonProcess
from skycap.engine.queue import Queue
from skycap.engine.schedule_book import ScheduleBook
from skycap.engine.stored import text
from skycap.errors import Unavailable
from skycap.job import JobState
from tests.support import faketime
from tests.support.daemons import Site
from tests.support.redis_servers import RedisServer
from tests.support.workers import eventually

PERIOD = timedelta(milliseconds=200)
DURABLE = ("--appendonly", "yes", "--appendfsync", "everysec", "--save", "")
"""Which loses nothing when the process is killed; a failure of the power is not what is tried here."""
HOUR = timedelta(hours=1)

_PLUGIN = f"""
from datetime import timedelta

from skycap import Context, Payload, Plugin

plugin = Plugin("ticking")
PERIOD = timedelta(milliseconds={PERIOD // timedelta(milliseconds=1)})


class Tick(Payload, kind="tick", queue="ticks"):
    pass


@plugin.job()
async def tick(ctx: Context, payload: Tick) -> None:
    pass


plugin.schedule(payload=Tick(), every=PERIOD, name="each", catch_up="all", overlap="allow")
plugin.schedule(payload=Tick(), every=PERIOD, name="latest", overlap="allow")
"""


@dataclass(kw_only=True)
class Host:
    """A daemon on a host of its own, as far as its clock is concerned."""

    site: Site
    clock_file: Path
    environ: dict[str, str]
    daemon: DaemonProcess

    @classmethod
    def of(cls, site: Site, number: int) -> Self:
        clock_file = site.folder / f"clock-{number}"
        clock_file.write_text("+0\n")
        environ = faketime.clock_file(clock_file)
        return cls(site=site, clock_file=clock_file, environ=environ, daemon=_daemon(site, environ))

    def step_clock(self, offset: timedelta) -> None:
        """To the true time and so much more, within a second."""
        # In one step: it may be read meanwhile.
        written = self.clock_file.with_suffix(".new")
        written.write_text(f"{offset.total_seconds():+.0f}\n")
        written.replace(self.clock_file)

    async def replace(self) -> None:
        """With a new daemon, after the old one was killed."""
        await self.daemon.close()
        self.daemon = _daemon(self.site, self.environ)
        await self.daemon.spawn()

    def signal(self, number: int) -> None:
        os.kill(self.daemon.pid, number)


def _daemon(site: Site, environ: dict[str, str]) -> DaemonProcess:
    return DaemonProcess(site.log, "--config", str(site.config), environ=environ)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of the ticks of one schedule, from its first to its last."""

    schedule: str
    ticks: int
    missing: Sequence[int]
    doubled: Sequence[int]
    off_the_grid: Sequence[int]
    early: Sequence[int]
    latest: timedelta
    """How late the latest was."""

    def __str__(self) -> str:
        without = "missing" if self.schedule == "each" else "for which a later one stands"
        return (
            f"{self.schedule}: {self.ticks} ticks, {len(self.missing)} {without}, {len(self.doubled)} doubled, "
            f"{len(self.off_the_grid)} off the grid, {len(self.early)} early, "
            f"the latest {self.latest.total_seconds():.1f} s after it was due"
        )


@dataclass(kw_only=True)
class Fleet:
    """Three hosts and a Redis, all of which may be disturbed. Nobody runs the jobs, so that each can be looked at."""

    redis: RedisServer
    client: AsyncClient
    hosts: list[Host]
    chance: random.Random
    done: Counter[str] = field(default_factory=Counter[str])

    @property
    def queue(self) -> Queue:
        return self.client.queue("ticks")

    async def until_ticked(self, times: int) -> None:
        """Return when both schedules have come so many ticks further."""
        before = await self._last()

        async def has() -> bool:
            try:
                return await self._last() - before >= times * PERIOD
            except Unavailable:
                return False

        await eventually(has)

    async def _last(self) -> datetime:
        return min((await ScheduleBook(self.queue).known(["each", "latest"])).last.values())

    async def kill_one(self) -> None:
        host = self.chance.choice(self.hosts)
        await host.daemon.kill()
        await self.until_ticked(3)
        await host.replace()
        await host.daemon.until_ready()

    async def stop_one_for_a_while(self) -> None:
        host = self.chance.choice(self.hosts)
        host.signal(signal.SIGSTOP)
        await self.until_ticked(5)
        host.signal(signal.SIGCONT)
        await self.until_ticked(5)

    async def step_a_clock(self) -> None:
        self.chance.choice(self.hosts).step_clock(self.chance.choice([-HOUR, timedelta(0), HOUR]))
        await self.until_ticked(5)

    async def restart_redis(self) -> None:
        await self.redis.kill()
        await self.redis.start(*DURABLE)
        await self.until_ticked(5)

    async def be_away(self) -> None:
        """All daemons, for several ticks."""
        began = await self._last()
        for host in self.hosts:
            await host.daemon.kill()

        async def several_are_due() -> bool:
            return (await ScheduleBook(self.queue).now()) - began > 8 * PERIOD

        await eventually(several_are_due)
        for host in self.hosts:
            await host.replace()
        await self.until_ready()
        await self.until_ticked(5)

    async def until_ready(self) -> None:
        for host in self.hosts:
            await host.daemon.until_ready()

    async def verdicts(self) -> list[Verdict]:
        return [await self._verdict(name) for name in ("each", "latest")]

    async def _verdict(self, schedule: str) -> Verdict:
        """From the jobs that there are, and from all that Redis has told of jobs: one enqueued twice is told twice."""
        told = Counter(
            int(job_id.removeprefix(f"{schedule}-"))
            for job_id in await self._told()
            if job_id.startswith(f"{schedule}-")
        )
        jobs = {
            int(job.id.removeprefix(f"{schedule}-")): job
            for job in await self.queue.jobs(JobState.AVAILABLE, limit=100_000)
            if job.id.startswith(f"{schedule}-")
        }
        assert jobs.keys() == told.keys()
        period = PERIOD // timedelta(milliseconds=1)
        grid = range(min(told), max(told) + 1, period)
        late = {tick: jobs[tick].enqueued_at.timestamp() * 1000 - tick for tick in jobs}
        return Verdict(
            schedule=schedule,
            ticks=len(told),
            missing=sorted({*grid} - told.keys()),
            doubled=[tick for tick, times in told.items() if times > 1],
            off_the_grid=[tick for tick in told if tick % period],
            early=[tick for tick, milliseconds in late.items() if milliseconds < -0.5],
            latest=timedelta(milliseconds=max(late.values())),
        )

    async def _told(self) -> list[str]:
        entries = await self.queue.link.command("XRANGE", self.queue.keys.events, "-", "+")
        words = [text(word) for _, fields in entries for word in fields]
        return [job_id for state, job_id in zip(words[::2], words[1::2], strict=True) if state == "available"]


@asynccontextmanager
async def ticking_fleet(folder: Path, *, chance: random.Random, hosts: int = 3) -> AsyncGenerator[Fleet]:
    plugins = folder / "plugins"
    plugins.mkdir()
    (plugins / "ticking.py").write_text(_PLUGIN)
    redis = RedisServer(folder / "redis")
    await redis.start(*DURABLE)
    site = Site(folder=folder, redis_url=redis.url, plugins_dir=plugins, extra={"queues.ticks": {"concurrency": 1}})
    async with AsyncExitStack() as stack:
        stack.push_async_callback(redis.kill)
        client = await stack.enter_async_context(AsyncClient(redis.url))
        await client.queue("ticks").pause()
        fleet = Fleet(
            redis=redis, client=client, hosts=[Host.of(site, number) for number in range(hosts)], chance=chance
        )
        for host in fleet.hosts:
            await host.daemon.spawn()
        stack.push_async_callback(_close, fleet)
        await fleet.until_ready()
        await fleet.until_ticked(3)
        yield fleet


async def _close(fleet: Fleet) -> None:
    for host in fleet.hosts:
        await host.daemon.kill()
        await host.daemon.close()
