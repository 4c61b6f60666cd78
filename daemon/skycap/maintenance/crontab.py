"""Crontabs as everybody writes them, for APScheduler, which numbers the days of the week otherwise."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Protocol, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from apscheduler.triggers.cron import CronTrigger  # pyright: ignore[reportMissingTypeStubs]  # it has none

from skycap.errors import ConfigurationError
from skycap.schedule import Schedule

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""By cron's numbers, in which 0 and 7 are both Sunday; APScheduler's 0 is Monday (its issue 286)."""

_NUMBERS = re.compile(r"([0-7])(?:-([0-7]))?(/\d+)?")


class Trigger(Protocol):
    """APScheduler's trigger."""

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime | None: ...


def trigger_of(schedule: Schedule) -> Trigger:
    """Raises ConfigurationError, naming the schedule, for a crontab or a zone that does not exist."""
    where = f"schedule {schedule.name} of plugin {schedule.plugin}"
    try:
        zone = ZoneInfo(schedule.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigurationError(
            f"{where}: there is no time zone {schedule.zone!r}; give an IANA name such as Europe/Istanbul"
        ) from error
    fields = schedule.crontab.split()
    if len(fields) != 5:  # noqa: PLR2004 - minute, hour, day, month, day of the week
        raise ConfigurationError(
            f"{where}: {schedule.crontab!r} has {len(fields)} fields; write five: minute hour day month weekday"
        )
    parse = cast("Any", CronTrigger).from_crontab
    try:
        return cast("Trigger", parse(" ".join([*fields[:4], _with_names(fields[4])]), timezone=zone))
    except ValueError as error:
        raise ConfigurationError(f"{where}: {schedule.crontab!r}: {error}") from error


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
