"""Moments: when something takes place, on the clocks of the place; read from columns and from free-form metaData."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator


@dataclass(frozen=True, kw_only=True)
class When:
    """A day at the place; ``moment`` is None when only the day is known, or only the day is meant.

    A naive ``moment`` is what the place's clocks show, where nobody has said in which zone it lies.
    """

    day: date
    moment: datetime | None

    @property
    def has_zone(self) -> bool:
        """Whether the moment is one in the world, not just on a clock."""
        return self.moment is not None and self.moment.tzinfo is not None


# Nobody travels in others, and the first and the last that there are overflow in a zone.
_YEARS = range(1900, 2200)


def stored(moment: datetime | None, zone: ZoneInfo, *, is_day: bool) -> When | None:
    """What a column holds. ``is_day`` drops the time: when a room is ready is the hotel's rule, not the booking's.

    Midnight UTC is how the backend stores a date alone, so it means that date, whatever the zone. Any other moment is
    read in ``zone``; there, too, midnight is a date alone. What really begins at one of these midnights loses its time
    in the mail, but never gains a wrong one.
    """
    if moment is None or moment.year not in _YEARS:
        return None
    if moment.time() == time():
        return When(day=moment.date(), moment=None)
    local = moment.astimezone(zone)
    return When(day=local.date(), moment=None if is_day or local.time() == time() else local)


# What the backend's partners and JavaScript write, in the same years.
_WRITTEN = re.compile(
    r"(?P<day>(?:19|20|21)\d\d-\d\d-\d\d)"
    r"(?:[T ](?P<time>\d\d:\d\d(?::\d\d)?)(?:[.,]\d+)?(?:\s?(?P<offset>Z|[+-]\d\d:?\d\d))?)?",
    re.ASCII,
)
_CLOCK = re.compile(r"(?P<hour>[01]?\d|2[0-3])[:.](?P<minute>[0-5]\d)(?::00)?", re.ASCII)


def written(text: object, zone: ZoneInfo | None, *, elsewhere: ZoneInfo) -> When | None:
    """What metaData says, in ISO 8601; None for anything else.

    A moment in UTC is shown in ``zone``, or in ``elsewhere`` when the place's zone is not known; one with another
    offset was written on the place's clocks, and keeps them. One without is naive unless ``zone`` is known. Midnight
    in UTC is a date alone, as in a column.
    """
    found = _WRITTEN.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        return None
    try:
        day = date.fromisoformat(found["day"])
        clock = time.fromisoformat(found["time"]) if found["time"] else None
        if clock is None or (found["offset"] == "Z" and clock == time()):
            return When(day=day, moment=None)
        moment = datetime.combine(day, clock)
        moment = _on_the_clocks(moment, found["offset"], zone, elsewhere)
    except ValueError:  # the 31st of February, 25 o'clock, an offset of 30 hours
        return None
    return When(day=moment.date(), moment=moment)


def _on_the_clocks(moment: datetime, offset: str | None, zone: ZoneInfo | None, elsewhere: ZoneInfo) -> datetime:
    if offset is None:
        return moment.replace(tzinfo=zone)
    if offset == "Z":
        offset = "+00:00"
    aware = datetime.fromisoformat(f"{moment.isoformat()}{offset}")
    if zone is not None or not aware.utcoffset():
        return aware.astimezone(zone or elsewhere)
    return aware


def at_clock(when: When, text: object, zone: ZoneInfo | None) -> When:
    """``when`` with the time ``text`` (``19:30``), if it had none and ``text`` is one."""
    found = _CLOCK.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None or when.moment is not None:
        return when
    clock = time(int(found["hour"]), int(found["minute"]))
    return When(day=when.day, moment=datetime.combine(when.day, clock, tzinfo=zone))


# Region/City as IANA names them, without the other things that lie in a zoneinfo folder: localtime, posix/…
_ZONE_NAME = re.compile(r"UTC|(?!posix/|right/)[A-Za-z_]+(?:/[A-Za-z0-9_+-]+){1,2}")


def zone_called(name: object) -> ZoneInfo | None:
    """The zone of that IANA name; None if it is none."""
    if not isinstance(name, str) or not _ZONE_NAME.fullmatch(name):
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # OSError: a folder of zones, such as America/Argentina
        return None


def _known(name: str) -> str:
    if zone_called(name) is None:
        raise ValueError(f"there is no time zone {name!r}; give an IANA name such as Europe/Istanbul")
    return name


ZoneName = Annotated[str, AfterValidator(_known)]
"""A setting that names a zone."""


def nights_between(starts: When | None, ends: When | None) -> int | None:
    """None unless there is at least one."""
    nights = (ends.day - starts.day) // timedelta(days=1) if starts and ends else 0
    return nights if nights > 0 else None
