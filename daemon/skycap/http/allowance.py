"""Allowance: how many requests are taken in a time (a token bucket)."""

from __future__ import annotations

import time


class Allowance:
    """So many a second; ``burst`` of them at once when there were none before, which is a second's if not given."""

    def __init__(self, per_second: float, *, burst: float | None = None) -> None:
        self._per_second = per_second
        self._burst = self._left = per_second if burst is None else burst
        self._asked_at = time.monotonic()

    def take(self) -> float:
        """0 for one that may go on; else after how many seconds to ask again."""
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._asked_at) * self._per_second)
        self._asked_at = now
        if self._left < 1:
            return (1 - self._left) / self._per_second
        self._left -= 1
        return 0.0
