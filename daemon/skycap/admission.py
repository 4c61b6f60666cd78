"""Admission: what is refused of a job before it is stored, whoever enqueues it; each raises Refused."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from skycap.errors import Refused
from skycap.payload import HIGHEST_PRIORITY, LOWEST_PRIORITY

LONGEST_DELAY = timedelta(days=3653)


def checked_priority(priority: int) -> int:
    """Raises Refused for one outside of 1 (first) to 1000."""
    if not HIGHEST_PRIORITY <= priority <= LOWEST_PRIORITY:
        raise Refused(f"priority {priority} is outside {HIGHEST_PRIORITY} (first) to {LOWEST_PRIORITY}")
    return priority


def checked_time(when: timedelta | datetime, *, what: str) -> timedelta | datetime:
    """Raises Refused for a moment without a zone, and for more than ten years ahead, which is a mistake in a unit."""
    if isinstance(when, timedelta):
        ahead = when
    elif when.tzinfo is None:
        raise Refused(f"{what} {when.isoformat()} has no time zone; give one, such as datetime.now(UTC) has")
    else:
        ahead = when - datetime.now(UTC)
    if ahead > LONGEST_DELAY:
        raise Refused(f"{what} is {ahead.days:,} days ahead, over the limit of ten years; is the unit right?")
    return when


def checked_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """A single text is no list of tags: it would be one tag for each of its letters."""
    if isinstance(tags, str):
        raise Refused(f"tags={tags!r} is one text; give a list: tags=[{tags!r}]")
    return tuple(tags)
