"""The ticks of a schedule: when the next one is, and which of those that have passed are still to be enqueued."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, cast, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from apscheduler.triggers.date import DateTrigger  # pyright: ignore[reportMissingTypeStubs]  # it has none
from apscheduler.triggers.interval import IntervalTrigger  # pyright: ignore[reportMissingTypeStubs]  # as above

from skycap.errors import ConfigurationError
from skycap.maintenance.crontab import Crontab, moment_of
from skycap.schedule import CatchUp, Overlap, Schedule

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""What intervals are counted from, on every host alike."""

SHORTEST_INTERVAL = timedelta(milliseconds=100)
LONGEST_INTERVAL = timedelta(days=366)
LONGEST_JITTER = timedelta(days=1)

LONGEST_CATCH_UP = timedelta(days=31)
"""Older ticks are not looked for: walking through the minutes of years would hold the daemon up."""

MOST_CAUGHT_UP = 1000
"""Of the ticks that a schedule with catch_up = "all" has missed, the newest."""

GRACE = timedelta(minutes=1)
"""What is later than this is missed for a schedule with catch_up = "skip"."""

_HALF_A_MILLISECOND = timedelta(microseconds=500)


class Ticks(Protocol):
    """When a schedule is due."""

    def next_after(self, moment: datetime) -> datetime | None:
        """The first tick that is later than ``moment``; None when there is none any more."""
        ...


class _Apscheduler:
    """The ticks of one of its triggers whose arithmetic needs no help. Ticks are whole milliseconds."""

    def __init__(self, trigger: Any) -> None:
        self._trigger = trigger

    def next_after(self, moment: datetime) -> datetime | None:
        # Half a millisecond, since its floating-point numbers may miss a tick that is exactly where it looks from.
        tick = cast("datetime | None", self._trigger.get_next_fire_time(None, moment + _HALF_A_MILLISECOND))
        if tick is None:
            return None
        tick = _nearest_millisecond(tick)  # or from 2106 on, it may be a microsecond late
        # The trigger of one date does not care that it has passed.
        return tick if tick > moment else None


def _nearest_millisecond(moment: datetime) -> datetime:
    late = moment + _HALF_A_MILLISECOND
    return late.replace(microsecond=late.microsecond // 1000 * 1000)


def ticks_of(schedule: Schedule) -> Ticks:
    """Raises ConfigurationError, naming the schedule, for one that makes no sense."""
    where = f"schedule {schedule.name} of plugin {schedule.plugin}" if schedule.plugin else f"schedules.{schedule.name}"
    try:
        zone = _zone(schedule.zone)
        _check(schedule)
        return _ticks(schedule, zone)
    except ValueError as error:
        raise ConfigurationError(f"{where}: {error}") from error


def due(schedule: Schedule, ticks: Ticks, *, after: datetime, now: datetime) -> list[datetime]:
    """What is to be enqueued ``now``, oldest first, when nothing since ``after`` has been."""
    return newest(
        ticks,
        after=max(after, now - LONGEST_CATCH_UP),
        until=now,
        most=MOST_CAUGHT_UP if schedule.catch_up == "all" else 1,
    )


def newest(ticks: Ticks, *, after: datetime, until: datetime, most: int) -> list[datetime]:
    """The newest ticks later than ``after`` and not later than ``until``, oldest first; ``most`` of them at most.

    Looked for from the end, in a time that doubles, so that it takes no longer for a long time than for a short one.
    """
    first = ticks.next_after(after)
    if first is None or first > until:
        return []
    length = timedelta(minutes=1)
    while True:
        start = max(after, until - length)
        found = list(_between(ticks, start, until))
        if start == after or len(found) >= most:
            return found[-most:]
        length *= 2


def period_at(ticks: Ticks, now: datetime) -> timedelta | None:
    """From the newest tick to the next one. None when there is no next one, or there was none in LONGEST_CATCH_UP."""
    coming = ticks.next_after(now)
    past = newest(ticks, after=now - LONGEST_CATCH_UP, until=now, most=1)
    return coming - past[0] if coming is not None and past else None


def jitter_of(schedule: Schedule, tick_ms: int) -> timedelta:
    """How long after its tick a job starts: by chance, yet the same on every host."""
    digest = hashlib.sha256(f"{schedule.name} {tick_ms}".encode()).digest()
    return schedule.jitter * (int.from_bytes(digest[:6], "big") / 2**48)


def _between(ticks: Ticks, after: datetime, until: datetime) -> Iterator[datetime]:
    tick = ticks.next_after(after)
    while tick is not None and tick <= until:
        yield tick
        tick = ticks.next_after(tick)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"there is no time zone {name!r}; give an IANA name such as Europe/Istanbul") from error


def _check(schedule: Schedule) -> None:
    given = [name for name in ("crontab", "every", "at") if getattr(schedule, name) is not None]
    if len(given) != 1:
        raise ValueError(f"says when by {' and '.join(given) or 'nothing'}; give one of crontab, every and at")
    if not timedelta(0) <= schedule.jitter <= LONGEST_JITTER:
        raise ValueError(f"a jitter of {schedule.jitter.total_seconds():g} s; give one from 0 to a day")
    for name, choices in (("catch_up", get_args(CatchUp)), ("overlap", get_args(Overlap))):
        if (given := getattr(schedule, name)) not in choices:
            raise ValueError(f"{name} = {given!r}; give {', '.join(choices[:-1])} or {choices[-1]}")
    if schedule.catch_up == "all" and schedule.overlap == "skip":
        raise ValueError(
            'catch_up = "all" enqueues missed ticks together, of which overlap = "skip" lets only one through; '
            'give overlap = "allow"'
        )


def _ticks(schedule: Schedule, zone: ZoneInfo) -> Ticks:
    if schedule.crontab is not None:
        try:
            return Crontab(schedule.crontab, zone)
        except ValueError as error:
            raise ValueError(f"{schedule.crontab!r}: {error}") from error
    if schedule.every is not None:
        every = schedule.every
        if not SHORTEST_INTERVAL <= every <= LONGEST_INTERVAL or every % timedelta(milliseconds=1):
            raise ValueError(f"every {every.total_seconds():g} s; give whole milliseconds, from 0.1 s to 366 days")
        return _Apscheduler(cast("Any", IntervalTrigger)(seconds=every.total_seconds(), start_date=EPOCH, timezone=UTC))
    at = cast("datetime", schedule.at)
    moment = at.astimezone(UTC) if at.tzinfo is not None else moment_of(at, zone)
    return _Apscheduler(
        cast("Any", DateTrigger)(run_date=moment.replace(microsecond=moment.microsecond // 1000 * 1000))
    )
