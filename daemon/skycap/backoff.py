"""When a failed job is tried again; pure, so that it can be reasoned about and tested without a clock."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

_LONGEST = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """How many attempts a job has, and how long it waits between them.

    The wait after attempt n is ``first * factor ** (n - 1)``; if ``linear``, ``first * n``; if there are ``later``
    waits, the n-th of ``first`` and those, of which the last repeats. It is at most ``longest``, plus up to
    ``jitter`` (a fraction) of itself, so that jobs that failed together do not come back together.
    """

    first: timedelta
    attempts: int
    factor: float = 1.0
    longest: timedelta = _LONGEST
    jitter: float = 0.1
    linear: bool = False
    later: tuple[timedelta, ...] = ()

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts is {self.attempts}: a job needs at least 1")
        if self.first < timedelta(0) or self.longest < self.first:
            raise ValueError(f"waits of {self.first} up to {self.longest}: give 0 <= first <= longest")
        for wait in self.later:
            if not timedelta(0) <= wait <= self.longest:
                raise ValueError(f"a wait of {wait} in a list: give each from 0 to longest, which is {self.longest}")
        if not 1 <= self.factor < math.inf or not 0 <= self.jitter <= 1:
            raise ValueError(f"factor {self.factor}, jitter {self.jitter}: give factor >= 1 and 0 <= jitter <= 1")
        if (self.factor != 1) + self.linear + bool(self.later) > 1:
            raise ValueError("more than one shape: give one of factor, linear and later")

    def delay(self, attempt: int, *, chance: float | None = None) -> timedelta | None:
        """How long to wait after ``attempt`` (1-based) failed; None when none are left.

        ``chance`` in [0, 1) picks the jitter; random when not given.
        """
        if attempt >= self.attempts:
            return None
        return self.wait(attempt, chance=chance)

    def wait(self, attempt: int, *, chance: float | None = None) -> timedelta:
        """The wait after ``attempt``, whether or not attempts are left (dependency outages use none up)."""
        seconds = min(self._seconds_after(attempt), self.longest.total_seconds())
        luck = random.random() if chance is None else chance  # noqa: S311 - spreads load, guards no secret
        return timedelta(seconds=seconds * (1 + self.jitter * luck))

    def _seconds_after(self, attempt: int) -> float:
        """The wait without ``longest`` and ``jitter``."""
        first = self.first.total_seconds()
        if self.later:
            waits = (self.first, *self.later)
            return waits[min(attempt, len(waits)) - 1].total_seconds()
        if self.linear:
            return first * attempt
        try:
            return first * self.factor ** (attempt - 1)
        except OverflowError:  # 2.0 ** 1024 is no float, and longer than any wait
            return math.inf if first else 0.0


def exponential(
    *,
    seconds: float,
    attempts: int,
    factor: float = 2.0,
    longest: timedelta = _LONGEST,
    jitter: float = 0.1,
) -> Backoff:
    """Waits of ``seconds``, then ``factor`` times longer each, up to ``longest``."""
    return Backoff(first=_span(seconds), attempts=attempts, factor=factor, longest=longest, jitter=jitter)


def fixed(*, seconds: float, attempts: int, longest: timedelta = _LONGEST, jitter: float = 0.1) -> Backoff:
    """Waits of ``seconds`` each."""
    return Backoff(first=_span(seconds), attempts=attempts, longest=longest, jitter=jitter)


def linear(*, seconds: float, attempts: int, longest: timedelta = _LONGEST, jitter: float = 0.1) -> Backoff:
    """Waits of ``seconds``, then ``seconds`` longer each, up to ``longest``."""
    return Backoff(first=_span(seconds), attempts=attempts, longest=longest, jitter=jitter, linear=True)


def waits(seconds: Sequence[float], *, attempts: int, longest: timedelta = _LONGEST, jitter: float = 0.1) -> Backoff:
    """The waits one after the other: ``waits([1, 5, 30], attempts=6)``; the last one repeats."""
    if not seconds:
        raise ValueError("waits has an empty list: give at least one wait in seconds, like [1, 5, 30]")
    first, *later = map(_span, seconds)
    return Backoff(first=first, attempts=attempts, longest=longest, jitter=jitter, later=tuple(later))


def _span(seconds: float) -> timedelta:
    try:
        return timedelta(seconds=seconds)
    except (OverflowError, ValueError):  # infinite or so, or no number
        raise ValueError(f"a wait of {seconds} seconds: give a number from 0 up to longest") from None
