"""Breaker: shields a partner that fails, and the jobs that would wait for it; one state for the whole fleet.

Closed, it lets every call pass and counts failures in a row. After ``opens_after`` of them it is open: calls fail at
once, for ``tries_again_after``. Then it is half open: a few calls are let through, and ``closes_after`` successes in a
row close it; one failure opens it again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Protocol, TypeVar

T = TypeVar("T")


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half open"


@dataclass(frozen=True, kw_only=True)
class BreakerSpec:
    """A breaker as a plugin declares it or a configuration has it (``[breakers.NAME]``)."""

    name: str
    opens_after: int = 5
    """Failures in a row."""
    closes_after: int = 2
    """Successes in a row, while it is half open; as many calls are let through at once then."""
    tries_again_after: timedelta = timedelta(seconds=30)
    timeout: timedelta = timedelta(seconds=30)
    """How long one call may take; one that takes longer is cancelled, and has failed."""


class Breaker(Protocol):
    """One breaker, as handlers use it."""

    @property
    def name(self) -> str: ...

    def guard(self, *, timeout: timedelta | None = None) -> AbstractAsyncContextManager[None]:
        """``async with ctx.breakers["stripe"].guard():`` one call to the partner.

        Raises BreakerOpen at once while it is open; the job is then snoozed until it may be tried, attempt kept.
        Whatever the block raises counts as a failure, except a PermanentError (the partner answered) and signals
        such as Cancel; so does taking longer than ``timeout``, which raises Unavailable.
        """
        ...

    async def call(
        self,
        function: Callable[[], Awaitable[T]],
        *,
        timeout: timedelta | None = None,
        fallback: Callable[[], Awaitable[T]] | None = None,
    ) -> T:
        """What ``function`` returns, guarded; ``fallback`` answers instead while it is open and when the call fails."""
        ...


class Breakers(Protocol):
    """All breakers by name: those of the configuration and of plugins."""

    def __getitem__(self, name: str) -> Breaker:
        """Raises ConfigurationError for a name that nothing declares."""
        ...
