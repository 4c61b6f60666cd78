"""How an application enqueues: ``async with AsyncClient(url) as skycap: await skycap.enqueue(Payload(…))``.

Importing this module loads neither Redis nor taskiq; they are loaded when a client connects.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self

from skycap.envelope import Envelope
from skycap.errors import Refused
from skycap.job import Enqueued, Job, new_id
from skycap.payload import Payload

if TYPE_CHECKING:
    from types import TracebackType

    from skycap.engine.link import Link
    from skycap.engine.queue import Queue

LONGEST_DELAY = timedelta(days=3653)


class BaseClient:
    """Builds and checks envelopes; does no I/O."""

    def envelope(self, payload: Payload, *, job_id: str | None = None) -> Envelope:
        """The envelope of a new job. Raises PayloadTooLarge when it is sent."""
        spec = type(payload).payload_spec
        return Envelope(
            id=job_id or new_id(),
            kind=spec.kind,
            version=spec.version,
            payload=payload.on_the_wire(),
            queue=spec.queue,
            priority=spec.priority,
            enqueued_at=datetime.now(UTC),
        )

    def checked_delay(self, delay: timedelta | None) -> timedelta:
        """Raises Refused for a delay of more than ten years, which is a mistake in a unit; the past is now."""
        delay = delay or timedelta(0)
        if delay > LONGEST_DELAY:
            raise Refused(f"a delay of {delay.days:,} days is over the limit of ten years; is the unit right?")
        return max(delay, timedelta(0))


class AsyncClient(BaseClient):
    """Enqueues over Redis. Connects on first use; use it as an async context manager, or ``close()`` it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._link: Link | None = None

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

    async def enqueue(self, payload: Payload, *, delay: timedelta | None = None, job_id: str | None = None) -> Enqueued:
        """Store one job, to run after ``delay``; when this returns, it will not be lost while Redis keeps its data.

        ``job_id`` makes the call repeatable: the same id is one job, however often it is sent.
        Raises Refused (nothing was stored) and Unavailable (send it again with the same id).
        """
        envelope = self.envelope(payload, job_id=job_id)
        ((state, duplicate),) = await self.queue(envelope.queue).add([(envelope, self.checked_delay(delay))])
        return Enqueued(job_id=envelope.id, state=state, duplicate=duplicate)

    async def wait(self, job_id: str, *, queue: str, timeout: timedelta) -> Job | None:
        """The job once it has reached a final state, or as it stands after ``timeout``; None when unknown."""
        where = self.queue(queue)
        # Subscribed before looking: a job that ends in between is announced, not missed.
        async with self._connected().subscribed(where.keys.finished) as announced:
            try:
                async with asyncio.timeout(timeout.total_seconds()):
                    while (job := await where.get(job_id)) is not None and not job.state.is_final:
                        await anext(told async for told in announced if told == job_id)
            except TimeoutError:
                job = await where.get(job_id)
        return job

    def queue(self, name: str) -> Queue:
        """One queue's own operations: counts, get, cancel, retry, pause."""
        from skycap.engine.queue import Queue

        return Queue(name, self._connected())

    def _connected(self) -> Link:
        if self._link is None:
            from skycap.engine.link import Link

            self._link = Link.to(self._url)
        return self._link
