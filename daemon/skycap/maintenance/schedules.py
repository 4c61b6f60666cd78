"""Schedules: what a person asks about the schedules of the fleet, and tells it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from skycap.engine.schedule_book import Became, Record, ScheduleBook
from skycap.maintenance.clock import Clock, Ticking
from skycap.maintenance.ticks import LONGEST_CATCH_UP, newest, period_at
from skycap.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class ScheduleStatus:
    """One schedule as it stands. ``next_tick`` is when it would tick, also where it is paused or switched off."""

    schedule: Schedule
    record: Record
    next_tick: datetime | None
    period: timedelta | None
    """Between the ticks before and after now; None where there are none, as at one moment only."""

    @property
    def outcome(self) -> str | None:
        """Of the last tick: the state of its job, or why it was none; None of one that has never ticked."""
        became = self.record.became
        if became is not Became.ENQUEUED:
            return None if became is None else f"skipped: {became}"
        return self.record.job_state or "enqueued"

    @property
    def standing(self) -> str:
        """``on``, ``paused`` or ``off``."""
        if not self.schedule.enabled:
            return "off"
        return "paused" if self.record.is_paused else "on"

    def document(self) -> dict[str, Any]:
        schedule, record = self.schedule, self.record
        return {
            "schedule": schedule.name,
            "kind": schedule.kind,
            "queue": schedule.queue,
            "plugin": schedule.plugin or None,
            "when": schedule.when,
            "crontab": schedule.crontab,
            "everySeconds": None if schedule.every is None else schedule.every.total_seconds(),
            "at": schedule.at,
            "zone": schedule.zone,
            "jitterSeconds": schedule.jitter.total_seconds(),
            "catchUp": schedule.catch_up,
            "overlap": schedule.overlap,
            "standing": self.standing,
            "pausedUntil": record.paused_until,
            "last": record.last_tick,
            "outcome": self.outcome,
            "jobId": record.job_id,
            "jobState": record.job_state,
            "lastRun": record.run_at,
            "lastRunJobId": record.run_job_id,
            "lastRunState": record.run_state,
            "next": self.next_tick,
        }


class Schedules:
    """Every method raises Unavailable when Redis cannot be reached, and KeyError for a schedule that there is not."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    @property
    def names(self) -> list[str]:
        return list(self._clock.schedules)

    async def list(self) -> list[ScheduleStatus]:
        """All, in the order in which plugins and configuration name them."""
        books = {each.book.queue.name: each.book for each in self._clock.schedules.values()}
        of_books = await asyncio.gather(*map(self._of, books.values()))
        found = {each.schedule.name: each for statuses in of_books for each in statuses}
        return [found[name] for name in self.names]

    async def _of(self, book: ScheduleBook) -> Sequence[ScheduleStatus]:
        here = [each for each in self._clock.schedules.values() if each.book is book]
        now = await book.now()
        records = await book.records([each.schedule.name for each in here], now=now)
        return [_status(each, records[each.schedule.name], now=now) for each in here]

    async def pause(self, name: str, duration: timedelta | None = None) -> None:
        """Ticks become no jobs, for the whole fleet, over restarts: for so long, or until ``resume``."""
        await self._clock.schedules[name].book.pause(name, duration)

    async def resume(self, name: str) -> None:
        await self._clock.schedules[name].book.resume(name)

    async def run(self, name: str) -> str:
        """Enqueue its job now, beside its ticks, also while it is paused or an earlier one runs; the job's id."""
        ticking = self._clock.schedules[name]
        now = await ticking.book.now()
        job_id = f"{name}-run-{round(now.timestamp() * 1000)}"
        await ticking.book.run(name, self._clock.envelope(ticking.schedule.payload, job_id=job_id, enqueued_at=now))
        return job_id

    async def run_tick(self, name: str) -> tuple[datetime, Became] | None:
        """Decide about the latest tick that is due, as a daemon's clock would: for timers of the system.

        None when none has been due in the last 31 days.
        """
        ticking = self._clock.schedules[name]
        now = await ticking.book.now()
        ticks = newest(ticking.ticks, after=now - LONGEST_CATCH_UP, until=now, most=1)
        return (ticks[-1], await self._clock.decide(name, ticks[-1])) if ticks else None


def _status(ticking: Ticking, record: Record, *, now: datetime) -> ScheduleStatus:
    return ScheduleStatus(
        schedule=ticking.schedule,
        record=record,
        next_tick=ticking.ticks.next_after(now),
        period=period_at(ticking.ticks, now),
    )
