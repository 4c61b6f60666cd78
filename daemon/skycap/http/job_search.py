"""Where a job is, of which the asker knows the id only."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from skycap.engine.queue import Queue
from skycap.http.errors import NOT_FOUND, ApiError
from skycap.job import Job


async def find_job(queues: Mapping[str, Queue], job_id: str) -> tuple[Queue, Job]:
    """Asks all queues at once, which is one round trip: their questions share a connection. Raises ApiError."""
    found = await asyncio.gather(*(queue.get(job_id) for queue in queues.values()))
    for queue, job in zip(queues.values(), found, strict=True):
        if job is not None:
            return queue, job
    raise ApiError(NOT_FOUND, "no queue has a job with this id; it never was there, or is forgotten by now")
