"""How an application enqueues: ``async with AsyncClient(url) as skycap: await skycap.enqueue(Payload(…))``.

Importing this module loads neither Redis nor taskiq; they are loaded when a client connects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Self

from skycap.admission import checked_priority, checked_tags, checked_time
from skycap.envelope import Envelope
from skycap.errors import Refused
from skycap.job import Enqueued, Job, new_id
from skycap.payload import Payload
from skycap.unique import Unique

if TYPE_CHECKING:
    from types import TracebackType

    from skycap.engine.link import Link
    from skycap.engine.queue import NewJob, Queue

_NO_DELAY = timedelta(0)


class BaseClient:
    """Builds and checks envelopes; does no I/O."""

    def envelope(
        self,
        payload: Payload,
        *,
        job_id: str | None = None,
        priority: int | None = None,
        tags: Sequence[str] = (),
        fields: Mapping[str, Any] | None = None,
        enqueued_at: datetime | None = None,
    ) -> Envelope:
        """The envelope of a new job. Raises PayloadTooLarge when it is sent.

        ``fields`` are the payload's as on the wire, for a caller that has made them already.
        """
        spec = type(payload).payload_spec
        return Envelope(
            id=job_id or new_id(),
            kind=spec.kind,
            version=spec.version,
            payload=payload.on_the_wire() if fields is None else fields,
            queue=spec.queue,
            priority=spec.priority if priority is None else checked_priority(priority),
            enqueued_at=enqueued_at or datetime.now(UTC),
            tags=checked_tags(tags),
            largest_bytes=spec.largest_bytes,
        )


class AsyncClient(BaseClient):
    """Enqueues over Redis. Connects on first use; use it as an async context manager, or ``close()`` it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._link: Link | None = None
        self._queues: dict[str, Queue] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        if self._link is not None:
            await self._link.close()
            self._link = None
            self._queues = {}

    async def enqueue(
        self,
        payload: Payload,
        *,
        delay: timedelta | None = None,
        at: datetime | None = None,
        deadline: timedelta | datetime | None = None,
        priority: int | None = None,
        job_id: str | None = None,
        unique: Unique | None = None,
        tags: Sequence[str] = (),
    ) -> Enqueued:
        """Store one job, to run after ``delay`` or ``at`` a time; when this returns, it will not be lost while Redis
        keeps its data.

        After ``deadline`` it is not run any more. ``priority`` (1 is first) and ``unique`` are the kind's own unless
        given. ``job_id`` makes the call repeatable: the same id is one job, however often it is sent.
        Raises Refused (nothing was stored; QueueFull: for now) and Unavailable (send it again with the same id).
        """
        job = self._new_job(
            payload,
            delay=delay,
            at=at,
            deadline=deadline,
            priority=priority,
            job_id=job_id,
            unique=unique,
            tags=tags,
        )
        (added,) = await self.queue(job.envelope.queue).add((job,))
        return added

    async def enqueue_many(self, payloads: Iterable[Payload], *, delay: timedelta | None = None) -> list[Enqueued]:
        """Store many jobs in one round trip for each queue; of one queue, all or none. Raises as ``enqueue`` does."""
        now = datetime.now(UTC)
        by_queue: dict[str, list[NewJob]] = {}
        order: list[tuple[str, int]] = []
        for payload in payloads:
            job = self._new_job(payload, delay=delay, enqueued_at=now)
            jobs = by_queue.setdefault(job.envelope.queue, [])
            order.append((job.envelope.queue, len(jobs)))
            jobs.append(job)
        added = {name: await self.queue(name).add(jobs) for name, jobs in by_queue.items()}
        return [added[name][place] for name, place in order]

    async def wait(self, job_id: str, *, queue: str, timeout: timedelta) -> Job | None:
        """The job once it has reached a final state, or as it stands after ``timeout``; None when unknown."""
        from skycap.engine.events import EventStream

        where = self.queue(queue)
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

    def queue(self, name: str) -> Queue:
        """One queue's own operations: counts, get, cancel, retry, pause."""
        found = self._queues.get(name)
        if found is None:
            from skycap.engine.queue import Queue

            found = self._queues[name] = Queue(name, self._connected())
        return found

    def _new_job(
        self,
        payload: Payload,
        *,
        delay: timedelta | None = None,
        at: datetime | None = None,
        deadline: timedelta | datetime | None = None,
        priority: int | None = None,
        job_id: str | None = None,
        unique: Unique | None = None,
        tags: Sequence[str] = (),
        enqueued_at: datetime | None = None,
    ) -> NewJob:
        if delay is not None and at is not None:
            raise Refused("give either a delay or a time (at), not both")
        unique = unique or type(payload).payload_spec.unique
        fields = payload.on_the_wire()
        envelope = self.envelope(
            payload, job_id=job_id, priority=priority, tags=tags, fields=fields, enqueued_at=enqueued_at
        )
        when = delay if at is None else at
        return _new_job_class()(
            envelope=envelope,
            when=_NO_DELAY if when is None else checked_time(when, what="the time to run at"),
            deadline=None if deadline is None else checked_time(deadline, what="the deadline"),
            unique_key=unique.key_of(envelope.kind, fields, payload.wire_names()) if unique else None,
            unique_within=unique.within if unique else None,
            on_conflict=unique.on_conflict if unique else "keep",
        )

    def _connected(self) -> Link:
        if self._link is None:
            from skycap.engine.link import Link

            self._link = Link.to(self._url)
        return self._link


@cache
def _new_job_class() -> type[NewJob]:
    # Loaded when it is first needed, as everything that needs Redis.
    from skycap.engine.queue import NewJob

    return NewJob
