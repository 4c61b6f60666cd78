"""Calendar entries: what of a booking belongs into the guest's calendar, and how a calendar knows it again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from skycap_travel.content.itinerary import STAYS, Itinerary, Part
from skycap_travel.metadata.moments import When
from skycap_travel.rows import BookingRow

_STATUSES: Final = {
    "PENDING": "TENTATIVE",
    "CONFIRMED": "CONFIRMED",
    "CANCELLED": "CANCELLED",
    "REFUNDED": "CANCELLED",
}
_GREATEST_SEQUENCE: Final = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class CalendarEntry:
    """One entry, in the words of ``skycap.services.calendars``, but for those that need a language.

    ``name`` is the left part of its UID: the same for the same part of a booking in every mail about it. ``ends`` is
    exclusive, as RFC 5545 has it, or None.
    """

    part: Part
    name: str
    sequence: int
    status: str
    stamp: str
    starts: str
    ends: str | None
    is_transparent: bool


def calendar_entries(booking: BookingRow, itinerary: Itinerary) -> tuple[CalendarEntry, ...]:
    """None for a trip that is over, or in a status that is new, and none for a part without a date.

    The sequence rises with every change of the booking: it is how many seconds after its making that came.
    """
    status = _STATUSES.get(booking.status)
    if status is None:
        return ()
    age = (booking.updated_at - booking.created_at) // timedelta(seconds=1)
    return tuple(
        CalendarEntry(
            part=part,
            name=f"{booking.reference}-{number}",
            sequence=min(max(age, 0), _GREATEST_SEQUENCE),
            status=status,
            stamp=booking.updated_at.isoformat(timespec="seconds"),
            starts=starts,
            ends=ends,
            is_transparent=part.kind in STAYS,
        )
        for number, part in enumerate(itinerary.parts(), start=1)
        for starts, ends in _spans(part)
    )


def _spans(part: Part) -> list[tuple[str, str | None]]:
    """When the part begins and ends; nothing, or one pair. What is not known, or cannot be, has no end."""
    starts, ends = part.starts, part.ends
    if starts is None:
        return []
    if starts.moment is None:
        last = ends.day if ends and ends.day >= starts.day else starts.day
        # A guest leaves on the day of check-out: it is no night of the stay.
        after = last if part.kind in STAYS and last > starts.day else last + timedelta(days=1)
        return [(starts.day.isoformat(), after.isoformat())]
    return [(_written(starts.moment), _end(starts.moment, ends))]


def _end(starts: datetime, ends: When | None) -> str | None:
    if ends is None or ends.moment is None or (starts.tzinfo is None) != (ends.moment.tzinfo is None):
        return None
    return _written(ends.moment) if ends.moment > starts else None


def _written(moment: datetime) -> str:
    """RFC 9557: ``2027-06-11T19:30:00+03:00[Europe/Istanbul]``."""
    zone = f"[{moment.tzinfo.key}]" if isinstance(moment.tzinfo, ZoneInfo) else ""
    return f"{moment.isoformat(timespec='seconds')}{zone}"
