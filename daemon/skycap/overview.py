"""Overview: how the whole fleet stands at one moment, read from Redis alone; for pages, dashboards and terminals."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from skycap.engine.alarms import Alarm, alarms_now
from skycap.engine.breakers import BreakerStatus, FleetBreakers
from skycap.engine.fleet import Fleet, Presence
from skycap.engine.minutes import minutes
from skycap.engine.standing import standing
from skycap.patience import in_time

if TYPE_CHECKING:
    from skycap.breaker import BreakerSpec
    from skycap.engine.link import Link
    from skycap.engine.minutes import Minute
    from skycap.engine.queue import Counts, Queue
    from skycap.engine.standing import Standing


@dataclass(frozen=True, kw_only=True)
class QueueOverview:
    """One queue of the fleet."""

    counts: Counts
    standing: Standing
    minutes: Sequence[Minute]
    """What happened in each of the last ones, the oldest first."""


@dataclass(frozen=True, kw_only=True)
class Overview:
    """What is None could not be told: Redis did not answer in time."""

    at: datetime | None
    """By Redis' clock."""
    queues: Mapping[str, QueueOverview | None]
    daemons: Sequence[Presence] | None
    breakers: Mapping[str, BreakerStatus] | None
    alarms: Sequence[Alarm] | None
    """Those that fire, or have fired lately."""


async def overview_of(
    link: Link, queues: Sequence[Queue], breakers: Mapping[str, BreakerSpec], *, last_minutes: int = 60
) -> Overview:
    """Never raises Unavailable, and never takes longer than two seconds.

    All is asked at once, and so takes one round trip to a Redis that stands alone.
    """
    of_queues = asyncio.gather(*(in_time(_of_queue(queue, last_minutes)) for queue in queues))
    fleet, found_breakers, found_alarms, found_queues = await asyncio.gather(
        in_time(Fleet(link).now()),
        in_time(FleetBreakers(link).statuses(breakers)),
        in_time(_alarms(link)),
        of_queues,
    )
    return Overview(
        at=None if fleet is None else fleet.at,
        queues=dict(zip([queue.name for queue in queues], found_queues, strict=True)),
        daemons=None if fleet is None else list(fleet.daemons.values()),
        breakers=found_breakers,
        alarms=found_alarms,
    )


async def _of_queue(queue: Queue, last_minutes: int) -> QueueOverview:
    counts, stands, happened = await asyncio.gather(queue.counts(), standing(queue), minutes(queue, last=last_minutes))
    return QueueOverview(counts=counts, standing=stands, minutes=happened)


async def _alarms(link: Link) -> list[Alarm]:
    alarms, _ = await alarms_now(link)
    return alarms
