"""Clock: every daemon has one, and Redis lets each tick through once for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from apscheduler.executors.base import BaseExecutor  # pyright: ignore[reportMissingTypeStubs]  # it has none
from apscheduler.schedulers.asyncio import AsyncIOScheduler  # pyright: ignore[reportMissingTypeStubs]  # it has none

from skycap.backoff import Backoff
from skycap.client import BaseClient
from skycap.engine.queue import Queue
from skycap.errors import Unavailable
from skycap.maintenance.crontab import trigger_of
from skycap.schedule import Schedule
from skycap.signing import Signer

_log = structlog.get_logger("skycap.clock")

LONGEST_CATCH_UP = timedelta(days=31)
"""Older ticks are not looked for: walking through the minutes of years would hold the start up."""

_REDIS_AWAY = Backoff(first=timedelta(seconds=1), factor=2, longest=timedelta(seconds=10), attempts=1)


class Clock(BaseClient):
    """Enqueues the payloads of schedules when they are due."""

    def __init__(
        self, schedules: Sequence[Schedule], queues: Mapping[str, Queue], *, signer: Signer | None = None
    ) -> None:
        """Raises ConfigurationError for a schedule that makes no sense."""
        super().__init__(signer=signer)
        self._schedules = {schedule.name: schedule for schedule in schedules}
        self.triggers = {schedule.name: trigger_of(schedule) for schedule in schedules}
        self._queues = queues
        self._ticking: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Tick until cancelled."""
        last = await self._last_ticks()
        scheduler: Any = AsyncIOScheduler(timezone=UTC, executors={"default": _Ticks(self._tick)})
        now = datetime.now(UTC)
        for name, trigger in self.triggers.items():
            resume = max(last.get(name, now), now - LONGEST_CATCH_UP) + timedelta(milliseconds=1)
            scheduler.add_job(
                _ignored,
                trigger,
                id=name,
                # Missed ticks become one: a sweep that runs twice in a row finds nothing the second time.
                coalesce=True,
                misfire_grace_time=None,
                next_run_time=trigger.get_next_fire_time(None, resume),
            )
        scheduler.start()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            scheduler.shutdown(wait=False)
            for task in self._ticking:
                task.cancel()

    def next_tick(self, name: str) -> datetime | None:
        """When a schedule is due next, seen from now."""
        now = datetime.now(UTC)
        return self.triggers[name].get_next_fire_time(None, now)

    async def enqueue_tick(self, name: str, at: datetime) -> bool:
        """Enqueue the tick of ``at``; False when it, or a later one, has been enqueued by anybody."""
        schedule = self._schedules[name]
        milliseconds = round(at.timestamp() * 1000)
        envelope = self.envelope(schedule.payload, job_id=f"{name}-{milliseconds}")
        return await self._queues[envelope.queue].tick(name, milliseconds, envelope)

    async def _last_ticks(self) -> dict[str, datetime]:
        misses = 0
        while True:
            try:
                found: dict[str, datetime] = {}
                for queue in self._queues.values():
                    found |= await queue.last_ticks()
            except Unavailable:
                misses += 1
                await asyncio.sleep(_REDIS_AWAY.wait(misses).total_seconds())
            else:
                return found

    def _tick(self, name: str, at: datetime) -> None:
        task = asyncio.create_task(self._enqueue_surely(name, at), name=f"tick of {name}")
        self._ticking.add(task)
        task.add_done_callback(self._ticking.discard)

    async def _enqueue_surely(self, name: str, at: datetime) -> None:
        """Until Redis has it; a tick that another daemon enqueued meanwhile is no harm."""
        misses = 0
        while True:
            try:
                if await self.enqueue_tick(name, at):
                    _log.info("schedule ticked", schedule=name, tick=at.isoformat())
            except Unavailable as error:
                misses += 1
                _log.warning("tick not enqueued yet", schedule=name, problem=str(error))
                await asyncio.sleep(_REDIS_AWAY.wait(misses).total_seconds())
            else:
                return


class _Ticks(BaseExecutor):  # type: ignore[misc]  # APScheduler has no types
    """Tells which tick is due; APScheduler's own executors tell their jobs nothing."""

    def __init__(self, tick: Callable[[str, datetime], None]) -> None:
        super().__init__()
        self._due = tick

    def _do_submit_job(self, job: Any, run_times: Sequence[datetime]) -> None:
        self._due(job.id, run_times[-1])
        self._run_job_success(job.id, [])  # pyright: ignore[reportUnknownMemberType]  # as above


def _ignored() -> None:
    """APScheduler wants a function for each job; what is done is up to _Ticks."""
