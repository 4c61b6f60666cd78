"""Breaker: shields a partner that fails, and the jobs that would wait for it; one state for the whole fleet.

Closed, it lets every call pass and counts failures in a row. After ``opens_after`` of them it is open: calls fail at
once, for ``tries_again_after``. Then it is half open: a few calls are let through, and ``closes_after`` successes in a
row close it; one failure opens it again.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Protocol, TypeVar

T = TypeVar("T")

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


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

    def __post_init__(self) -> None:
        """Raises TypeError for what no breaker can be."""
        if not _NAME.fullmatch(self.name):
            raise TypeError(f"breaker {self.name!r}: write lower-case words joined by hyphens, like 'booking-com'")
        if self.opens_after < 1 or self.closes_after < 1:
            raise TypeError(f"breaker {self.name}: opens_after and closes_after are at least 1")
        if self.tries_again_after <= timedelta(0) or self.timeout <= timedelta(0):
            raise TypeError(f"breaker {self.name}: tries_again_after and timeout are longer than nothing")


@dataclass(frozen=True, kw_only=True)
class BreakerChange:
    """A breaker has come to another state. ``tries_again_in`` says when an open one does."""

    breaker: str
    state: BreakerState
    tries_again_in: timedelta


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
