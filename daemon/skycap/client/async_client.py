"""AsyncClient: ``async with AsyncClient(url) as skycap: await skycap.enqueue(Payload(…))``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self, TypeVar

from skycap.client.addresses import transport_to
from skycap.client.base import BaseClient, Order
from skycap.client.recorder import Recorder
from skycap.errors import Refused, Unavailable
from skycap.job import Enqueued, Job, JobState
from skycap.payload import Payload
from skycap.raw_payload import RawPayload
from skycap.signing import Signer
from skycap.unique import Unique

if TYPE_CHECKING:
    from types import TracebackType

    from skycap.client.transport import Transport
    from skycap.engine.queue import Queue

_T = TypeVar("_T")

_WAITS_SECONDS = (0.1, 0.4)
"""Before a request whose answer was lost is sent again: long enough for a connection that a failover has cut."""

_LONGEST_TRY = timedelta(seconds=2)
"""What has waited so long for an answer is not tried again: its caller waits, too."""


class AsyncClient(BaseClient):
    """Enqueues by address: redis:// and its kin, http(s):// with a ``token``, or postgresql:// through the outbox.

    Connects on first use; use it as an async context manager, or ``close()`` it. For one event loop; any number of its
    tasks may share it. Tests give it a ``Recorder`` in the place of an address. ``signing_key`` (``KEY-ID:SECRET``)
    signs what goes to Redis. ``repr()`` shows neither address nor token.
    """

    def __init__(self, url: str | Recorder, *, token: str | None = None, signing_key: str | None = None) -> None:
        super().__init__(signer=None if signing_key is None else Signer.parse(signing_key))
        self._make: Callable[[], Transport]
        if isinstance(url, Recorder):
            self._make = lambda: url
        else:
            self._make = lambda: transport_to(url, token=token, signer=self._signer)
        self._made: Transport | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close what was connected; the next call connects again."""
        made, self._made = self._made, None
        if made is not None:
            await made.close()

    async def enqueue(
        self,
        payload: Payload | RawPayload,
        *,
        delay: timedelta | None = None,
        at: datetime | None = None,
        deadline: timedelta | datetime | None = None,
        priority: int | None = None,
        job_id: str | None = None,
        unique: Unique | None = None,
        tags: Sequence[str] = (),
        tx: Any = None,
    ) -> Enqueued:
        """Store one job, to run after ``delay`` or ``at`` a time; when this returns, it will not be lost while Redis
        (or, until a daemon has taken it from there, PostgreSQL) keeps its data.

        After ``deadline`` it is not run any more. ``priority`` (1 is first) and ``unique`` are the kind's own unless
        given. ``job_id`` makes the call repeatable: the same id is one job, however often it is sent; each call
        sends its own again by itself when an answer was lost. ``tx`` is a transaction of yours (a connection of
        asyncpg or psycopg, or ctx.db's): the job exists if and only if that commits, wherever the client leads to.
        Raises Refused (nothing was stored; QueueFull: for now) and Unavailable (it may have been stored; the error
        names the job_id to send it again with).
        """
        order = self.order(
            payload,
            delay=delay,
            at=at,
            deadline=deadline,
            priority=priority,
            job_id=job_id,
            unique=unique,
            tags=tags,
        )
        (added,) = await self.add([order], tx=tx)
        return added

    async def enqueue_many(
        self, payloads: Iterable[Payload | RawPayload], *, delay: timedelta | None = None, tx: Any = None
    ) -> list[Enqueued]:
        """Store many jobs in one round trip, all or none. Raises as ``enqueue`` does.

        In a Redis Cluster the queues lie on several servers: there it is all or none for each queue.
        """
        orders = self.orders(payloads, delay=delay)
        return await self.add(orders, tx=tx) if orders else []

    async def get(self, job_id: str, *, queue: str | None = None) -> Job | None:
        """The job as it stands; None when it is unknown, or ended so long ago that it was forgotten.

        ``queue`` saves looking in all of them.
        """
        return await self._transport.get(job_id, queue=queue)

    async def wait(self, job_id: str, *, queue: str | None = None, timeout: timedelta) -> Job | None:
        """The job once it has reached a final state, or as it stands after ``timeout``; None when unknown."""
        return await self._transport.wait(job_id, queue=queue, timeout=timeout)

    async def cancel(self, job_id: str, *, queue: str | None = None) -> JobState | None:
        """The job's state afterwards; a running one is told at its next heartbeat. None: no such job."""
        return await self._transport.cancel(job_id, queue=queue)

    async def retry(self, job_id: str, *, queue: str | None = None) -> JobState | None:
        """A discarded job starts over, one that waits runs now; others stay as they are. None: no such job."""
        return await self._transport.retry(job_id, queue=queue)

    def queue(self, name: str) -> Queue:
        """One queue's own operations, over Redis only: counts, pause and so on. Raises Refused elsewhere."""
        from skycap.client.redis import RedisTransport

        transport = self._transport
        if not isinstance(transport, RedisTransport):
            raise Refused("a queue can be looked into over Redis only; give the client a redis:// address")
        return transport.queue(name)

    async def add(self, orders: Sequence[Order], *, tx: Any = None) -> list[Enqueued]:
        """Send what ``order`` and ``orders`` have made; raises as ``enqueue`` does."""
        if tx is None:
            return await _sent_again_if_lost(lambda: self._transport.add(orders), orders)
        from skycap.client.outbox import enqueued_in

        return await enqueued_in(tx, orders)

    @property
    def _transport(self) -> Transport:
        if self._made is None:
            self._made = self._make()
        return self._made


async def _sent_again_if_lost(send: Callable[[], Awaitable[_T]], orders: Sequence[Order]) -> _T:
    """An answer may be lost after the job was stored; the same request, sent again, is the same job."""
    for wait_seconds in (*_WAITS_SECONDS, None):
        began = time.monotonic()
        try:
            return await send()
        except Unavailable as error:
            if wait_seconds is None or time.monotonic() - began > _LONGEST_TRY.total_seconds():
                raise _perhaps_stored(error, orders) from error
        await asyncio.sleep(wait_seconds)
    raise AssertionError


def _perhaps_stored(error: Unavailable, orders: Sequence[Order]) -> Unavailable:
    if len(orders) == 1:
        fix = f"it may have been stored: enqueue it again with job_id={orders[0].request.id!r}"
    else:
        fix = f"the {len(orders)} jobs may have been stored, all or none"
    again = type(error)(error.dependency, f"{error.problem}; {fix}")
    again.schedule = error.schedule
    return again
