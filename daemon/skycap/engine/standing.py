"""Standing: how a queue stands, for those who watch the fleet; one call to Redis."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from skycap.engine.queue import Queue
from skycap.engine.stored import text


@dataclass(frozen=True, kw_only=True)
class Standing:
    """All but ``dead`` and what follows it count since Redis has the queue's data."""

    enqueued: int
    deduplicated: int
    """Requests that added nothing, since there was such a job."""
    reclaimed: int
    """Leases that ran out: of workers that died, hung or were cut off."""
    completed: int
    retried: int
    discarded: int
    dead: int
    oldest_waiting: timedelta | None
    """Of the jobs that could run and wait at no limit; None when there are none."""
    paused_because: str
    """Blank when it is not paused, or somebody paused it."""


async def standing(queue: Queue) -> Standing:
    """Raises Unavailable."""
    completed, retried, discarded, dead, oldest_ms, why, *counted = await queue.link.call("standing", queue.keys.prefix)
    enqueued, deduplicated, reclaimed = counted
    return Standing(
        enqueued=enqueued,
        deduplicated=deduplicated,
        reclaimed=reclaimed,
        completed=completed,
        retried=retried,
        discarded=discarded,
        dead=dead,
        oldest_waiting=None if oldest_ms < 0 else timedelta(milliseconds=oldest_ms),
        paused_because=text(why),
    )
