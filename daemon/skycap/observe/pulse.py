"""Pulse: when a loop last turned, told by the loop itself; one that turns no more is why a daemon is restarted."""

from __future__ import annotations

import time
from datetime import timedelta

PATIENCE = timedelta(seconds=15)
"""What a loop may be late. Three times what one that waits for a silent Redis is."""


class Pulse:
    """Of a loop that says ``beat`` at least ``every`` so long, however its dependencies are."""

    def __init__(self, name: str, *, every: timedelta = timedelta(0)) -> None:
        self.name = name
        self._every = every
        self._last = time.monotonic()

    def beat(self) -> None:
        self._last = time.monotonic()

    @property
    def since(self) -> timedelta:
        return timedelta(seconds=time.monotonic() - self._last)

    @property
    def is_stuck(self) -> bool:
        return self.since > self._every + PATIENCE
