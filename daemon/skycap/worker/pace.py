"""Pace: how long a queue's jobs take here, and so how many are worth having at hand."""

from __future__ import annotations

_AT_HAND_SECONDS = 0.01
"""Work that may wait in a worker: long enough to hide a round trip, too short for an idle neighbour to miss it."""

_MOST_AT_HAND = 500
_WEIGHT = 0.1


class Pace:
    """Measures jobs. A slow queue has none at hand, so that each of its jobs waits where any worker can take it."""

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._seconds_each = 0.0
        self.worth_having_at_hand = 0

    def note(self, seconds: float) -> None:
        """One job took this long."""
        known = self._seconds_each
        self._seconds_each = known + (seconds - known) * _WEIGHT if known else seconds
        self.worth_having_at_hand = min(
            _MOST_AT_HAND, int(self._concurrency * _AT_HAND_SECONDS / max(self._seconds_each, 1e-6))
        )
