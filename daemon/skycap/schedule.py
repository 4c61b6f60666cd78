"""Schedule: a payload that is enqueued again and again, at the times of a crontab or an interval; or once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

from skycap.payload import Payload

CatchUp: TypeAlias = Literal["skip", "latest", "all"]
"""What becomes of ticks that were missed while no daemon ran, or Redis was away: those older than a minute are
skipped, the latest becomes one job for all of them, or each becomes a job (the newest 1,000 of 31 days).
"""

Overlap: TypeAlias = Literal["skip", "allow"]
"""What becomes of a tick while the job of an earlier one has not ended: it is skipped, or is one more job."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """``name`` is unique among all plugins. One of ``crontab``, ``every`` and ``at`` says when; each tick is enqueued
    once by the whole fleet, and by Redis' clock.

    A ``crontab`` has five fields, read in the IANA time zone ``zone``. One that names hours ticks by the clock on the
    wall: what falls into an hour that summer time skips ticks at the first moment after it, what falls into one that
    is repeated ticks in the first of both. One for every hour (``*``) ticks in all hours that there are.
    ``every`` is counted from 1970-01-01 00:00 UTC, so that all daemons tick together: at least 100 ms, in whole ones.
    ``at`` is one tick; without a zone of its own it is read in ``zone``. If it had passed when a daemon first knew of
    the schedule, it never comes.

    A job starts up to ``jitter`` after its tick, always as long after the same tick, so that what many schedules
    start at midnight does not start at once.
    """

    name: str
    payload: Payload
    plugin: str
    crontab: str | None = None
    every: timedelta | None = None
    at: datetime | None = None
    zone: str = "UTC"
    jitter: timedelta = timedelta(0)
    catch_up: CatchUp = "latest"
    overlap: Overlap = "skip"
    enabled: bool = True

    @property
    def kind(self) -> str:
        return self.payload.payload_spec.kind

    @property
    def queue(self) -> str:
        return self.payload.payload_spec.queue

    @property
    def when(self) -> str:
        """As a person says it: the crontab, ``every 900 s``, ``at 2026-12-24 08:00``."""
        if self.every is not None:
            return f"every {self.every.total_seconds():g} s"
        if self.at is not None:
            return f"at {self.at:%Y-%m-%d %H:%M:%S%z}"
        return self.crontab or ""
