"""RedisTransport: straight into the queues, without a daemon in between."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from skycap.client.base import Order
from skycap.engine.adding import add_all
from skycap.engine.events import EventStream
from skycap.engine.keys import QUEUES
from skycap.engine.link import Link
from skycap.engine.queue import NewJob, Queue
from skycap.engine.stored import text
from skycap.errors import Refused
from skycap.intake import new_job
from skycap.job import Enqueued, Job, JobState
from skycap.payload import Payload, PayloadSpec
from skycap.raw_payload import RawPayload
from skycap.signing import Signer

_PRIORITY = 10


class RedisTransport:
    """See Transport."""

    def __init__(self, url: str, *, signer: Signer | None = None) -> None:
        self._link = Link.to(url)
        self._signer = signer
        self._queues: dict[str, Queue] = {}

    def queue(self, name: str) -> Queue:
        found = self._queues.get(name)
        if found is None:
            found = self._queues[name] = Queue(name, self._link)
        return found

    async def add(self, orders: Sequence[Order]) -> list[Enqueued]:
        if len(orders) == 1:
            job = self._job(orders[0])
            return await self.queue(job.envelope.queue).add((job,))
        now = datetime.now(UTC)
        by_queue: dict[Queue, list[NewJob]] = {}
        places: list[tuple[str, int]] = []
        for order in orders:
            job = self._job(order, now)
            jobs = by_queue.setdefault(self.queue(job.envelope.queue), [])
            places.append((job.envelope.queue, len(jobs)))
            jobs.append(job)
        added = await add_all(by_queue)
        return [added[queue][place] for queue, place in places]

    async def get(self, job_id: str, *, queue: str | None) -> Job | None:
        _, job = await self._find(job_id, queue)
        return job

    async def wait(self, job_id: str, *, queue: str | None, timeout: timedelta) -> Job | None:
        where, job = await self._find(job_id, queue)
        if where is None or job is None or job.state.is_final:
            return job
        events = EventStream(where)
        # The newest event is noted before looking: a job that ends in between is told of, not missed.
        last = await events.newest()
        job = await where.get(job_id)
        if job is None or job.state.is_final:
            return job
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                async for event in events.after(last):
                    if event.job_id == job_id:
                        job = await where.get(job_id)
                        if job is None or job.state.is_final:
                            break
        except TimeoutError:
            job = await where.get(job_id)
        return job

    async def cancel(self, job_id: str, *, queue: str | None) -> JobState | None:
        where, _ = await self._find(job_id, queue)
        return None if where is None else await where.cancel(job_id)

    async def retry(self, job_id: str, *, queue: str | None) -> JobState | None:
        where, _ = await self._find(job_id, queue)
        return None if where is None else await where.retry(job_id)

    async def close(self) -> None:
        await self._link.close()

    def _job(self, order: Order, now: datetime | None = None) -> NewJob:
        payload, request = order.payload, order.request
        names: Mapping[str, str] = {}
        if isinstance(payload, Payload):
            spec, names = payload.payload_spec, payload.wire_names()
        else:
            spec = _spec_of(payload)
        return new_job(
            request, spec, request.payload, names, version=request.version, signer=self._signer, enqueued_at=now
        )

    async def _find(self, job_id: str, queue: str | None) -> tuple[Queue | None, Job | None]:
        if queue is not None:
            where = self.queue(queue)
            return where, await where.get(job_id)
        # Daemons note the queues that they serve; what this client has enqueued may be for others.
        known = {text(name) for name in await self._link.command("SMEMBERS", QUEUES)} | self._queues.keys()
        queues = [self.queue(name) for name in sorted(known)]
        found = await asyncio.gather(*(each.get(job_id) for each in queues))
        return next(((each, job) for each, job in zip(queues, found, strict=True) if job), (None, None))


def _spec_of(payload: RawPayload) -> PayloadSpec:
    if payload.queue is None:
        raise Refused(
            f"{payload.kind}: over Redis nobody knows the queue of a kind; "
            f"give it: RawPayload(kind={payload.kind!r}, queue=…)"
        )
    return PayloadSpec(kind=payload.kind, queue=payload.queue, priority=_PRIORITY)
