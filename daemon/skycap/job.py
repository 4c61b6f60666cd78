"""Job: one request to do one thing, as it is stored."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


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
class Enqueued:
    """What became of an enqueue. ``duplicate``: a job of this id was there already, and nothing was added."""

    job_id: str
    state: JobState
    duplicate: bool


def new_id() -> str:
    """A UUIDv7 (RFC 9562 §5.7): unique without asking anyone, and sorted by the time it was made."""
    milliseconds = time.time_ns() // 1_000_000
    chance = int.from_bytes(os.urandom(10))
    value = (milliseconds & (1 << 48) - 1) << 80 | chance
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))
