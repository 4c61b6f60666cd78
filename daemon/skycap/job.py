"""Job: one request to do one thing, as it is stored; JobType: what a worker knows about its kind."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic

from typing_extensions import TypeVar

from skycap.backoff import Backoff
from skycap.payload import Payload

if TYPE_CHECKING:
    from skycap.context import Context

P_co = TypeVar("P_co", bound=Payload, default=Payload, covariant=True)

Handler = Callable[..., Awaitable[Any]]
"""``async def handler(ctx, payload) -> result``; further parameters may be taskiq dependencies."""


class JobState(StrEnum):
    """Where a job stands. Completed, cancelled and discarded are final; a discarded job can be redriven."""

    SCHEDULED = "scheduled"
    AVAILABLE = "available"
    RUNNING = "running"
    RETRYABLE = "retryable"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    DISCARDED = "discarded"

    @property
    def is_final(self) -> bool:
        return self in {JobState.COMPLETED, JobState.CANCELLED, JobState.DISCARDED}


@dataclass(frozen=True, kw_only=True)
class AttemptError:
    """Why one attempt failed."""

    attempt: int
    at: datetime
    error: str


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job as Redis holds it; ``attempt`` counts the attempts that have begun and not been given back."""

    id: str
    kind: str
    queue: str
    state: JobState
    attempt: int
    payload: Mapping[str, Any]
    enqueued_at: datetime
    due_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    reason: str | None = None
    result: Any = None
    errors: tuple[AttemptError, ...] = ()


@dataclass(frozen=True, kw_only=True)
class JobType(Generic[P_co]):
    """A registered kind: its payload class, its handler and how the worker treats it.

    ``backoff`` and ``timeout`` are None where the author left them to the queue's configuration.
    """

    payload: type[P_co]
    handler: Handler
    plugin: str
    backoff: Backoff | None = None
    timeout: timedelta | None = None
    settings: Any = field(default=None, compare=False)

    @property
    def kind(self) -> str:
        return self.payload.payload_spec.kind

    @property
    def queue(self) -> str:
        return self.payload.payload_spec.queue

    async def __call__(self, ctx: Context[Any], payload: Payload) -> Any:
        """Run the handler itself: what an author's unit test may do."""
        return await self.handler(ctx, payload)


def new_id() -> str:
    """A UUIDv7 (RFC 9562 §5.7): unique without asking anyone, and sorted by the time it was made."""
    milliseconds = time.time_ns() // 1_000_000
    chance = int.from_bytes(os.urandom(10))
    value = (milliseconds & (1 << 48) - 1) << 80 | chance
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))
