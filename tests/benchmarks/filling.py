"""Many jobs into one queue, fast: a thousand in each call, two calls in flight."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from skycap.engine.queue import NewJob, Queue
from skycap.envelope import Envelope
from skycap.job import new_id
from skycap.payload import Payload

_AT_ONCE = 1000
_CALLS_IN_FLIGHT = 2


def new_job(queue: Queue, payload: Payload, *, priority: int = 10) -> NewJob:
    """A job for ``queue``, whichever one its kind is for."""
    envelope = Envelope(
        id=new_id(),
        kind=payload.payload_spec.kind,
        payload=payload.on_the_wire(),
        queue=queue.name,
        priority=priority,
        enqueued_at=datetime.now(UTC),
    )
    return NewJob(envelope=envelope)


async def fill(queue: Queue, number: int, payload: Payload) -> None:
    """Add ``number`` jobs with this payload."""
    starts = iter(range(0, number, _AT_ONCE))

    async def feed() -> None:
        for start in starts:
            await queue.add([new_job(queue, payload) for _ in range(min(_AT_ONCE, number - start))])

    async with asyncio.TaskGroup() as group:
        for _ in range(_CALLS_IN_FLIGHT):
            group.create_task(feed())
