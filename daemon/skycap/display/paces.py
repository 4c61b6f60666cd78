"""Paces: how fast queues go right now, from the differences between one look at them and the next."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from skycap.engine.standing import Standing
from skycap.overview import Overview

WINDOW = timedelta(seconds=10)


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Jobs a second. What failed was retried or discarded."""

    completed: float
    failed: float


class Paces:
    """Of the last ten seconds of looks, by Redis' clock."""

    def __init__(self) -> None:
        self._looks: deque[tuple[datetime, Mapping[str, Standing]]] = deque()

    def note(self, overview: Overview) -> None:
        """One in which Redis told nothing is passed over."""
        if overview.at is None:
            return
        standings = {name: queue.standing for name, queue in overview.queues.items() if queue is not None}
        self._looks.append((overview.at, standings))
        # One look older than that stays, so that a slow watcher has a difference, too.
        while len(self._looks) > 2 and overview.at - self._looks[1][0] >= WINDOW:  # noqa: PLR2004 - two make a difference
            self._looks.popleft()

    def of(self, queue: str) -> Pace | None:
        """None before the second look, and after Redis has lost its figures."""
        if not self._looks:
            return None
        (began, first), (ended, last) = self._looks[0], self._looks[-1]
        seconds = (ended - began).total_seconds()
        if seconds <= 0 or queue not in first or queue not in last:
            return None
        completed = last[queue].completed - first[queue].completed
        failed = _failed(last[queue]) - _failed(first[queue])
        if completed < 0 or failed < 0:
            return None
        return Pace(completed=completed / seconds, failed=failed / seconds)


def _failed(standing: Standing) -> int:
    return standing.retried + standing.discarded
