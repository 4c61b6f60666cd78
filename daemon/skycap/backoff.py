"""When a failed job is tried again; pure, so that it can be reasoned about and tested without a clock."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta

_LONGEST = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """How many attempts a job has, and how long it waits between them.

    The wait after attempt n is ``first * factor ** (n - 1)``, at most ``longest``, plus up to ``jitter``
    (a fraction) of itself, so that jobs that failed together do not come back together.
    """

    first: timedelta
    attempts: int
    factor: float = 1.0
    longest: timedelta = _LONGEST
    jitter: float = 0.1

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts is {self.attempts}: a job needs at least 1")
        if self.first < timedelta(0) or self.longest < self.first:
            raise ValueError(f"waits of {self.first} up to {self.longest}: give 0 <= first <= longest")
        if self.factor < 1 or not 0 <= self.jitter <= 1:
            raise ValueError(f"factor {self.factor}, jitter {self.jitter}: give factor >= 1 and 0 <= jitter <= 1")

    def delay(self, attempt: int, *, chance: float | None = None) -> timedelta | None:
        """How long to wait after ``attempt`` (1-based) failed; None when none are left.

        ``chance`` in [0, 1) picks the jitter; random when not given.
        """
        if attempt >= self.attempts:
            return None
        return self.wait(attempt, chance=chance)

    def wait(self, attempt: int, *, chance: float | None = None) -> timedelta:
        """The wait after ``attempt``, whether or not attempts are left (dependency outages use none up)."""
        # The exponent is capped because 2.0 ** 1024 overflows long before a wait of `longest` is exceeded.
        seconds = self.first.total_seconds() * self.factor ** min(attempt - 1, 64)
        seconds = min(seconds, self.longest.total_seconds())
        luck = random.random() if chance is None else chance  # noqa: S311 - spreads load, guards no secret
        return timedelta(seconds=seconds * (1 + self.jitter * luck))


def exponential(
    *,
    seconds: float,
    attempts: int,
    factor: float = 2.0,
    longest: timedelta = _LONGEST,
    jitter: float = 0.1,
) -> Backoff:
    """Waits of ``seconds``, then ``factor`` times longer each, up to ``longest``."""
    return Backoff(first=timedelta(seconds=seconds), attempts=attempts, factor=factor, longest=longest, jitter=jitter)


def fixed(*, seconds: float, attempts: int, jitter: float = 0.1) -> Backoff:
    """Waits of ``seconds`` each."""
    return Backoff(first=timedelta(seconds=seconds), attempts=attempts, jitter=jitter)
