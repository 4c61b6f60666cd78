"""Minutes: what happened in a queue in each of the last minutes, as the scripts count it; one call to Redis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from skycap.engine.queue import Queue
from skycap.engine.stored import fields_of, moment, number

MOST_MINUTES = 360
"""Those before have been forgotten."""

_MINUTE_MS = 60_000
_MOST_DOUBLINGS = 45
"""A thousand years: longer waits are others' inventions."""


@dataclass(frozen=True, kw_only=True)
class Minute:
    """How many jobs were added, started and so on in one minute, of the whole fleet.

    Waits are counted in eighths of doublings, so that each is known to within a sixteenth of itself. A job waits from
    when it was added, or due, until it is handed to a worker; one that was retried or reclaimed waits anew.
    """

    at: datetime
    """When it began, by Redis' clock."""
    added: int = 0
    completed: int = 0
    retried: int = 0
    discarded: int = 0
    cancelled: int = 0
    snoozed: int = 0
    reclaimed: int = 0
    """Taken back from workers that were lost."""
    waits: Mapping[int, int] = field(default_factory=dict[int, int])
    """How many of the jobs that started had waited, by bucket; step.lua numbers them."""

    @property
    def started(self) -> int:
        return sum(self.waits.values())

    @property
    def wait_total(self) -> timedelta:
        """Of all that started."""
        return timedelta(milliseconds=sum(n * _middle(bucket) for bucket, n in self.waits.items()))

    @property
    def wait_longest(self) -> timedelta | None:
        """None when none started."""
        return self.wait(1)

    def wait(self, fraction: float) -> timedelta | None:
        """How long this part of those that started had waited at most: 0.5 for the median. None when none started."""
        rank, passed = fraction * self.started, 0
        for bucket, n in sorted(self.waits.items()):
            passed += n
            if passed >= rank:
                return timedelta(milliseconds=_middle(bucket))
        return None


async def minutes(queue: Queue, *, last: int) -> list[Minute]:
    """The last minutes, the oldest first and the present one last, however little there was in them.

    Raises Unavailable, and ValueError for less than one or more than MOST_MINUTES.
    """
    if not 1 <= last <= MOST_MINUTES:
        raise ValueError(f"the last {last} minutes: there are 1 to {MOST_MINUTES}")
    now_ms, *rows = await queue.link.call("minutes", queue.keys.prefix, last)
    first_ms = now_ms - now_ms % _MINUTE_MS - (last - 1) * _MINUTE_MS
    return [minute_of(moment(first_ms + i * _MINUTE_MS), fields_of(row)) for i, row in enumerate(rows)]


def together(parts: Sequence[Minute]) -> Minute:
    """All of them as if they were one, that began when the first did. Raises IndexError when there are none."""
    waits = Counter[int]()
    for part in parts:
        waits.update(part.waits)
    return Minute(
        at=parts[0].at,
        added=sum(part.added for part in parts),
        completed=sum(part.completed for part in parts),
        retried=sum(part.retried for part in parts),
        discarded=sum(part.discarded for part in parts),
        cancelled=sum(part.cancelled for part in parts),
        snoozed=sum(part.snoozed for part in parts),
        reclaimed=sum(part.reclaimed for part in parts),
        waits=waits,
    )


def minute_of(at: datetime, row: Mapping[str, bytes]) -> Minute:
    """The minute whose hash this is."""
    counted = {name: number(stored) for name, stored in row.items()}
    return Minute(
        at=at,
        added=counted.get("added", 0),
        completed=counted.get("completed", 0),
        retried=counted.get("retried", 0),
        discarded=counted.get("discarded", 0),
        cancelled=counted.get("cancelled", 0),
        snoozed=counted.get("snoozed", 0),
        reclaimed=counted.get("reclaimed", 0),
        waits={int(name): n for name, n in counted.items() if name.isdecimal()},
    )


def _middle(bucket: int) -> float:
    """The mean of the whole milliseconds that fall into it."""
    if bucket == 0:
        return 0
    doubling, eighth = divmod(bucket, 8)
    width = 2.0 ** (min(doubling, _MOST_DOUBLINGS) - 2) / 8
    return (8 + eighth) * width + max(0.0, (width - 1) / 2)
