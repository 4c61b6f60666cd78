"""Outcome: what became of one attempt; what the worker tells the queue when it settles a job."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any


class DeadReason(StrEnum):
    """Why a job lies in the dead-letter queue."""

    PERMANENT = "permanent"
    ATTEMPTS_USED_UP = "attempts used up"
    POISON = "poison"
    UNDECODABLE = "undecodable"
    UNTRUSTED = "untrusted"
    UNKNOWN_KIND = "unknown kind"
    EXPIRED = "expired"
    CANCELLED_BY_DEADLINE = "cancelled by deadline"


@dataclass(frozen=True, kw_only=True)
class Completed:
    """The handler returned ``result`` (a JSON value)."""

    result: Any = None


@dataclass(frozen=True, kw_only=True)
class Retry:
    """The handler failed and attempts are left: again after ``delay``."""

    delay: timedelta
    error: str


@dataclass(frozen=True, kw_only=True)
class Snoozed:
    """Not the handler's fault, or its wish: again after ``delay``, attempt given back."""

    delay: timedelta
    reason: str


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """The next job would meet the same: the queue is paused with ``reason``, and the job waits as if snoozed."""

    delay: timedelta
    reason: str


@dataclass(frozen=True, kw_only=True)
class Held:
    """Whoever a limit protects asked for a pause of ``delay``: so long no job of its key starts, attempt given back.

    ``limit`` names the limit; None means those of the job's limits that count by a key. With ``breaker``, no job of
    any kind that needs that breaker starts, and afterwards as many at a time as it lets through, until it is closed.
    """

    delay: timedelta
    reason: str
    limit: str | None = None
    breaker: str | None = None


@dataclass(frozen=True, kw_only=True)
class HandedBack:
    """The worker stops: the job is available again at once, attempt given back."""


@dataclass(frozen=True, kw_only=True)
class Cancelled:
    """The handler, or somebody else, called it off."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Discarded:
    """To the dead-letter queue."""

    reason: DeadReason
    error: str


Outcome = Completed | Retry | Snoozed | Stopped | Held | HandedBack | Cancelled | Discarded
