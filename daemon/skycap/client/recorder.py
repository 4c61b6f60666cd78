"""Recorder: what an application's own tests give a client in the place of an address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from skycap.client.base import Order
from skycap.errors import SkycapError
from skycap.job import Enqueued, Job, JobState
from skycap.payload import Payload

_P = TypeVar("_P", bound=Payload)


class Recorder:
    """Takes every job and runs none: ``Client(recorder)``, then ``recorder.enqueued(SendReceipt)``.

    The same ``job_id`` is one job, as everywhere; so is a unique key, which holds for ever here. ``fail_with`` makes
    every further call raise an error, until it is set to None.
    """

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.fail_with: SkycapError | None = None
        self._jobs: dict[str, Job] = {}
        self._unique: dict[str, str] = {}

    def enqueued(self, payload: type[_P]) -> list[_P]:
        """The payloads of this class, in the order in which they came."""
        return [order.payload for order in self.orders if isinstance(order.payload, payload)]

    def clear(self) -> None:
        self.orders.clear()
        self._jobs.clear()
        self._unique.clear()

    async def add(self, orders: Sequence[Order]) -> list[Enqueued]:
        self._fail()
        return [self._add(order) for order in orders]

    async def get(self, job_id: str, *, queue: str | None) -> Job | None:
        self._fail()
        del queue
        return self._jobs.get(job_id)

    async def wait(self, job_id: str, *, queue: str | None, timeout: timedelta) -> Job | None:
        """The job as it stands: nothing runs it."""
        del timeout
        return await self.get(job_id, queue=queue)

    async def cancel(self, job_id: str, *, queue: str | None) -> JobState | None:
        return self._moved(await self.get(job_id, queue=queue), JobState.CANCELLED)

    async def retry(self, job_id: str, *, queue: str | None) -> JobState | None:
        return self._moved(await self.get(job_id, queue=queue), JobState.AVAILABLE)

    async def close(self) -> None:
        """Nothing is open; what was recorded stays."""

    def _fail(self) -> None:
        if self.fail_with is not None:
            raise self.fail_with

    def _add(self, order: Order) -> Enqueued:
        request = order.request
        key = _unique_key(order)
        known = self._jobs.get(self._unique.get(key, "") if key else "") or self._jobs.get(request.id)
        if known is not None:
            return Enqueued(job_id=known.id, state=known.state, duplicate=True)
        now = datetime.now(UTC)
        due = now + request.delay if request.delay else request.at
        job = Job(
            id=request.id,
            kind=request.kind,
            queue=_queue_of(order),
            state=JobState.SCHEDULED if due is not None and due > now else JobState.AVAILABLE,
            attempt=0,
            payload=request.payload,
            enqueued_at=now,
            due_at=due,
            tags=request.tags,
            unique_key=key,
        )
        self.orders.append(order)
        self._jobs[job.id] = job
        if key:
            self._unique[key] = job.id
        return Enqueued(job_id=job.id, state=job.state, duplicate=False)

    def _moved(self, job: Job | None, state: JobState) -> JobState | None:
        if job is None:
            return None
        if not job.state.is_final:
            self._jobs[job.id] = replace(job, state=state)
        return self._jobs[job.id].state


def _unique_key(order: Order) -> str | None:
    payload, unique = order.payload, order.request.unique
    names: Mapping[str, str] = {}
    if isinstance(payload, Payload):
        unique = unique or type(payload).payload_spec.unique
        names = type(payload).wire_names()
    return unique.key_of(order.request.kind, order.request.payload, names) if unique else None


def _queue_of(order: Order) -> str:
    payload = order.payload
    return type(payload).payload_spec.queue if isinstance(payload, Payload) else payload.queue or ""
