"""Calendars: what the template of an ``.ics`` wrote, made into an iCalendar file (RFC 5545).

The template writes one JSON object for each event and line, and no iCalendar of its own: what a guest has written can
then be nothing but the words of a property. See ``_Event`` for what an object may have.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, Final, Literal, Protocol, cast
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

PRODUCER: Final = "-//skycap//mails//EN"

_ZONED = re.compile(r"(?P<moment>[^\[\]]+)\[(?P<zone>[^\[\]]+)\]")


def calendar(source: str) -> bytes:
    """The file, to be sent with ``method=PUBLISH``; equal sources give equal bytes.

    Raises ValueError, which names the line and the property but not what stands there, for a source without events
    and for one with anything that is no event.
    """
    events = [_event(number, line) for number, line in enumerate(source.split("\n"), start=1) if line.strip()]
    if not events:
        raise ValueError("there is no event in it")
    made = _new("Calendar")
    made.add("prodid", PRODUCER)
    made.add("version", "2.0")
    made.add("calscale", "GREGORIAN")
    # A booking is a fact: nobody is asked to accept it, and removing it from a calendar cancels nothing.
    made.add("method", "PUBLISH")
    for name, years in sorted(_zones(events).items()):
        made.add_component(_time_zone(name, years))
    for event in events:
        made.add_component(_component(event))
    return made.to_ical()


class _Component(Protocol):
    """What the library's classes have, with the types that they leave out."""

    def add(self, name: str, value: object) -> None: ...
    def add_component(self, component: object) -> None: ...
    def to_ical(self) -> bytes: ...


def _new(kind: Literal["Calendar", "Event", "Timezone", "TimezoneStandard", "TimezoneDaylight"]) -> _Component:
    """The library is loaded by who needs it: most processes never do."""
    import icalendar

    return cast("_Component", getattr(icalendar, kind)())


def _moment(text: object) -> object:
    """``2027-06-11``, ``2027-06-11T19:30:00``, ``…+03:00``, or ``…+03:00[Europe/Istanbul]`` (RFC 9557)."""
    if not isinstance(text, str):
        return text
    try:
        if found := _ZONED.fullmatch(text):
            zone = ZoneInfo(found["zone"])
            moment = datetime.fromisoformat(found["moment"])
            return moment.astimezone(zone) if moment.tzinfo else moment.replace(tzinfo=zone)
        return datetime.fromisoformat(text) if "T" in text else date.fromisoformat(text)
    except (ValueError, KeyError, OSError, OverflowError):  # KeyError and OSError: the zone is none, or a folder
        raise ValueError("is no day and no moment") from None


_When = Annotated[datetime | date, BeforeValidator(_moment)]


class _Event(BaseModel):
    """``uid`` and ``sequence`` make a later event replace an earlier one, or cancel it; ``ends`` is exclusive."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True, frozen=True)

    uid: str = Field(min_length=1)
    sequence: int = Field(ge=0, lt=2**31)
    stamp: _When
    status: Literal["TENTATIVE", "CONFIRMED", "CANCELLED"]
    starts: _When
    ends: _When | None = None
    transparent: bool = False
    summary: str = Field(min_length=1)
    location: str | None = None
    description: str | None = None
    url: Annotated[str, Field(pattern=r"^https?://[!-~]+$")] | None = None

    @model_validator(mode="after")
    def _is_possible(self) -> _Event:
        if _zone_of(self.stamp) is None:
            raise ValueError("stamp is no moment with an offset")
        if self.ends is not None:
            if (_is_moment(self.starts), _zone_of(self.starts) is None) != (
                _is_moment(self.ends),
                _zone_of(self.ends) is None,
            ):
                raise ValueError("starts and ends must both be days, or moments, or moments with an offset")
            if self.ends <= self.starts:
                raise ValueError("ends is not after starts")
        return self


def _is_moment(when: date) -> bool:
    return isinstance(when, datetime)


def _zone_of(when: date) -> object | None:
    return when.tzinfo if isinstance(when, datetime) else None


def _event(number: int, line: str) -> _Event:
    try:
        return _Event.model_validate_json(line)
    except ValidationError as error:
        problems = (
            f"{'.'.join(str(part) for part in each['loc'])} {each['msg']}".strip()
            for each in error.errors(include_input=False, include_url=False)
        )
        raise ValueError(f"line {number}: {'; '.join(problems)}") from None


def _component(event: _Event) -> _Component:
    made = _new("Event")
    made.add("uid", event.uid)
    made.add("dtstamp", _utc(event.stamp))
    made.add("last-modified", _utc(event.stamp))
    made.add("sequence", event.sequence)
    made.add("status", event.status)
    made.add("summary", event.summary)
    made.add("dtstart", _shown(event.starts))
    if event.ends is not None:
        made.add("dtend", _shown(event.ends))
    made.add("transp", "TRANSPARENT" if event.transparent else "OPAQUE")
    if event.location:
        made.add("location", event.location)
    if event.description:
        made.add("description", event.description)
    if event.url:
        made.add("url", event.url)
    return made


def _utc(when: date) -> date:
    return when.astimezone(UTC) if isinstance(when, datetime) else when


def _shown(when: date) -> date:
    """A moment in a zone that has a name keeps it; an offset alone has none, and becomes UTC."""
    is_named = isinstance(when, datetime) and isinstance(when.tzinfo, ZoneInfo) and when.tzinfo.key != "UTC"
    return when if is_named or _zone_of(when) is None else _utc(when)


def _zones(events: list[_Event]) -> dict[str, set[int]]:
    """The zones that the events name, each with the years that it is needed for."""
    found: dict[str, set[int]] = {}
    for event in events:
        for when in (event.starts, event.ends):
            shown = _shown(when) if when else None
            if isinstance(shown, datetime) and isinstance(shown.tzinfo, ZoneInfo):
                found.setdefault(shown.tzinfo.key, set()).add(shown.year)
    return found


def _time_zone(name: str, years: set[int]) -> _Component:
    """What the clocks there do in these years. Each observance begins at what they show just before (§3.6.5)."""
    zone = ZoneInfo(name)
    made = _new("Timezone")
    made.add("tzid", name)
    # A day before: where the year begins there, it may still be the last in UTC.
    first = datetime(min(years), 1, 1, tzinfo=UTC) - timedelta(days=1)
    made.add_component(_observance(zone, first, first))
    for change in sorted({change for year in years for change in _changes(name, year)}):
        made.add_component(_observance(zone, change, change - timedelta(seconds=1)))
    return made


@lru_cache(maxsize=512)
def _changes(name: str, year: int) -> tuple[datetime, ...]:
    """The moments from which on the clocks have another offset, from the last day of the year before to the next's."""
    zone = ZoneInfo(name)
    days = [datetime(year, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in range(-1, 368)]
    return tuple(
        _change_between(zone, day, following)
        for day, following in pairwise(days)
        if _offset(zone, day) != _offset(zone, following)
    )


def _change_between(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    old = _offset(zone, before)
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(after - before) // timedelta(seconds=2))
        before, after = (middle, after) if _offset(zone, middle) == old else (before, middle)
    return after


def _offset(zone: ZoneInfo, moment: datetime) -> timedelta | None:
    return moment.astimezone(zone).utcoffset()


def _observance(zone: ZoneInfo, begins: datetime, before: datetime) -> _Component:
    local, old = begins.astimezone(zone), before.astimezone(zone)
    made = _new("TimezoneDaylight" if local.dst() else "TimezoneStandard")
    old_offset = old.utcoffset() or timedelta()
    made.add("dtstart", (begins + old_offset).replace(tzinfo=None))
    made.add("tzoffsetfrom", old_offset)
    made.add("tzoffsetto", local.utcoffset() or timedelta())
    made.add("tzname", local.tzname())
    return made
