"""Outage: spares callers a Redis that does not answer, and the log a line for each of them."""

from __future__ import annotations

import time
from datetime import timedelta

import structlog

from skycap.context import Log

_log: Log = structlog.get_logger(__name__)


class Outage:
    """Off until it ``began``; then one caller is let through every ``pause``, until one says that it ``ended``."""

    def __init__(self, *, pause: timedelta, patience: timedelta) -> None:
        """``patience`` is how long the one who is let through may take: until then, nobody else is."""
        self._pause_seconds = pause.total_seconds()
        self._patience_seconds = patience.total_seconds()
        self._tries_at: float | None = None

    @property
    def is_on(self) -> bool:
        return self._tries_at is not None

    def lets_through(self) -> bool:
        """Whether to ask Redis now; while it is on, the one who is let through keeps the others out."""
        if self._tries_at is None:
            return True
        now = time.monotonic()
        if now < self._tries_at:
            return False
        self._tries_at = now + self._patience_seconds + self._pause_seconds
        return True

    def began(self, problem: str) -> None:
        if not self.is_on:
            _log.warning("the cache is away; handlers go on without it", problem=problem)
        self._tries_at = time.monotonic() + self._pause_seconds

    def ended(self) -> None:
        if self.is_on:
            _log.info("the cache is back")
        self._tries_at = None
