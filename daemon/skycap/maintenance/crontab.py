"""Crontabs as everybody writes them, for APScheduler, which reads them otherwise; and right about summer time.

APScheduler finds the next time on a wall whose days all have 24 hours. Which moment that is in a zone is decided here.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger  # pyright: ignore[reportMissingTypeStubs]  # it has none

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""By cron's numbers, in which 0 and 7 are both Sunday; APScheduler's 0 is Monday (its issue 286)."""

_NUMBERS = re.compile(r"([0-7])(?:-([0-7]))?(/\d+)?")

_EVERY_HOUR = frozenset({"*", "*/1", "0-23"})

_MILLISECOND = timedelta(milliseconds=1)
_LONGEST_STEP = timedelta(days=1)
"""Before and after a time that a zone skips there are moments within it whose offsets differ."""


class Crontab:
    """The ticks of a crontab in a zone, with the rule for summer time that ``Schedule`` states."""

    def __init__(self, text: str, zone: ZoneInfo) -> None:
        """Raises ValueError, which says what is wrong, for what is no crontab or never comes."""
        fields = text.split()
        if len(fields) != 5:  # noqa: PLR2004 - minute, hour, day, month, day of the week
            raise ValueError(f"has {len(fields)} fields; write five: minute hour day month weekday")
        self._zone = zone
        self._names_hours = fields[1] not in _EVERY_HOUR
        self._triggers = [_trigger(fields) for fields in _alternatives(fields)]
        if self._next_on_the_wall(datetime(2000, 1, 1, tzinfo=UTC)) is None:
            raise ValueError("never comes: no month has such a day")

    def next_after(self, moment: datetime) -> datetime | None:
        """The first tick that is later than ``moment``, in UTC; None when there is none before the year 9999."""
        return self._next_by_the_wall(moment) if self._names_hours else self._next_in_real_time(moment)

    def _next_by_the_wall(self, moment: datetime) -> datetime | None:
        wall = self._next_on_the_wall(self._wall(moment))
        while wall is not None:
            tick = moment_of(wall, self._zone)
            if tick > moment:
                return tick
            wall = self._next_on_the_wall(wall + _MILLISECOND)
        return None

    def _next_in_real_time(self, moment: datetime) -> datetime | None:
        """On to the next time on the wall, and from the moment on at which the wall itself jumps before it."""
        start = moment + _MILLISECOND
        while True:
            offset = self._offset(start)
            wall = self._next_on_the_wall(start + offset)
            if wall is None:
                return None
            tick = wall - offset
            # No zone jumps twice in a week; a longer wait is looked over week by week.
            until = min(tick, start + timedelta(days=7))
            if self._offset(until) != offset:
                start = _jump(self._zone, start, until)
            elif until == tick:
                return tick
            else:
                start = until

    def _next_on_the_wall(self, wall: datetime) -> datetime | None:
        """The wall's time is carried as if it were UTC."""
        found = [trigger.get_next_fire_time(None, wall) for trigger in self._triggers]
        return min((each for each in found if each is not None), default=None)

    def _wall(self, moment: datetime) -> datetime:
        return moment.astimezone(self._zone).replace(tzinfo=UTC, fold=0)

    def _offset(self, moment: datetime) -> timedelta:
        return _offset_at(self._zone, moment)


def moment_of(wall: datetime, zone: ZoneInfo) -> datetime:
    """When a clock on the wall of ``zone`` shows this time first; if it never does, the moment at which it jumps."""
    local = wall.replace(tzinfo=zone, fold=0)
    moment = local.astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None):
        return moment
    return _jump(zone, moment - _LONGEST_STEP, moment)


def _jump(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The first moment with another offset than ``before``, to the second; ``after`` has another one."""
    offset = _offset_at(zone, before)
    low, high = int(before.timestamp()), int(-(-after.timestamp() // 1))
    while high - low > 1:
        middle = (low + high) // 2
        if _offset_at(zone, datetime.fromtimestamp(middle, UTC)) == offset:
            low = middle
        else:
            high = middle
    return datetime.fromtimestamp(high, UTC)


def _offset_at(zone: ZoneInfo, moment: datetime) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta(0)


def _trigger(fields: list[str]) -> Any:
    return cast("Any", CronTrigger).from_crontab(" ".join([*fields[:4], _with_names(fields[4])]), timezone=UTC)


def _alternatives(fields: list[str]) -> list[list[str]]:
    """As in cron, a day of the month and one of the week are alternatives; in APScheduler both must hold."""
    minute, hour, day, month, weekday = fields
    if day.startswith("*") or weekday.startswith("*"):
        return [fields]
    return [[minute, hour, day, month, "*"], [minute, hour, "*", month, weekday]]


def _with_names(days: str) -> str:
    return ",".join(_named(part) for part in days.split(","))


def _named(part: str) -> str:
    match = _NUMBERS.fullmatch(part)
    if match is None:
        return part
    first, last, step = match.groups()
    if last is None:
        return _DAYS[int(first)]
    # Listed one by one: APScheduler's week begins on Monday, so that 0-2 would end before it begins.
    return ",".join(_DAYS[int(first) : int(last) + 1 : int((step or "/1")[1:])])
