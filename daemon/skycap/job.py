"""Job: one request to do one thing, as it is stored."""

from __future__ import annotations

import os
import time
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
class Progress:
    """How far a running job has come: a fraction in 0…1, and what it says about it."""

    fraction: float
    note: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """One line that a handler wrote for whoever looks at its job; ``number`` counts from 1."""

    number: int
    at: datetime
    text: str


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
    deadline: datetime | None = None
    priority: int = 10
    tags: tuple[str, ...] = ()
    unique_key: str | None = None
    waits_at: str | None = None
    """The limit (``name`` or ``name:key``) at which an available job waits until others have passed."""
    worker: str | None = None
    reason: str | None = None
    result: Any = None
    progress: Progress | None = None
    log: tuple[LogLine, ...] = ()
    errors: tuple[AttemptError, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Enqueued:
    """What became of an enqueue. ``duplicate``: a job of this id, or with its unique key, was there already.

    ``job_id`` is then that job's; nothing was added, but a unique key may have replaced its payload or its time.
    """

    job_id: str
    state: JobState
    duplicate: bool


def new_id() -> str:
    """A UUIDv7 (RFC 9562 §5.7): unique without asking anyone, and sorted by the time it was made."""
    at, chance = f"{time.time_ns() // 1_000_000:012x}", os.urandom(10).hex()
    return f"{at[:8]}-{at[8:]}-7{chance[1:4]}-{_VARIANT[chance[4]]}{chance[5:8]}-{chance[8:]}"


_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}
"""The first two bits of that digit are 10 (RFC 9562 §4.1)."""
