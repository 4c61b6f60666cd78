"""Figures: what a daemon knows at one moment, and how that has changed since."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise


@dataclass(frozen=True, kw_only=True)
class QueueFigures:
    """One queue of the fleet. The first three count since Redis has its data; ``dead`` is how many there are now."""

    completed: int = 0
    retried: int = 0
    discarded: int = 0
    dead: int = 0
    oldest_waiting: timedelta | None = None
    """Of the jobs that could run and wait at no limit; None when there are none."""
    paused_because: str = ""
    """Blank when it is not paused, or somebody paused it."""

    @property
    def failed(self) -> int:
        """Attempts that failed, finally or not."""
        return self.retried + self.discarded

    @property
    def attempts(self) -> int:
        return self.completed + self.failed


@dataclass(frozen=True, kw_only=True)
class CacheFigures:
    """One namespace of the cache; both count for as long as somebody counts them."""

    hits: int
    misses: int

    @property
    def requests(self) -> int:
        return self.hits + self.misses


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One look. ``at`` is by a clock that never steps. What is None, or is not there, nobody could tell."""

    at: timedelta
    redis_is_up: bool | None = None
    postgresql_is_up: bool | None = None
    queues: Mapping[str, QueueFigures] = field(default_factory=dict[str, QueueFigures])
    breakers: Mapping[str, str] = field(default_factory=dict[str, str])
    """State by name: closed, open, half open."""
    caches: Mapping[str, CacheFigures] = field(default_factory=dict[str, CacheFigures])
    slow_queries: int | None = None
    """Of this daemon, since its start."""
    mails_in_doubt: int | None = None
    outbox_age: timedelta | None = None
    """How long the oldest job of the outbox has waited; zero when none does."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """How much a count has grown. ``is_whole``: over the whole window, and not only since the daemon's start."""

    by: int
    is_whole: bool


class History:
    """The looks of the last ``longest``, and one before, so that any window up to that has a beginning."""

    def __init__(self, longest: timedelta, looks: Sequence[Figures] = ()) -> None:
        self._longest = longest
        self._looks = deque[Figures]()
        for look in looks:
            self.add(look)

    def add(self, look: Figures) -> None:
        self._looks.append(look)
        begin = look.at - self._longest
        while len(self._looks) > 1 and self._looks[1].at <= begin:
            self._looks.popleft()

    @property
    def now(self) -> Figures:
        return self._looks[-1]

    def increase(self, window: timedelta, count: Callable[[Figures], int | None]) -> Change | None:
        """How much ``count`` has gone up. One that went down began anew, as when Redis has lost its data.

        None when it is not known now.
        """
        values = self._values(window, count)
        if values is None:
            return None
        known, is_whole = values
        grown = (later - earlier if later >= earlier else later for earlier, later in pairwise(known))
        return Change(by=sum(grown), is_whole=is_whole)

    def difference(self, window: timedelta, count: Callable[[Figures], int | None]) -> Change | None:
        """``count`` now less what it was, for one that may go down, too."""
        values = self._values(window, count)
        if values is None:
            return None
        known, is_whole = values
        return Change(by=known[-1] - known[0], is_whole=is_whole)

    def _values(self, window: timedelta, count: Callable[[Figures], int | None]) -> tuple[list[int], bool] | None:
        if count(self.now) is None:
            return None
        begin = self.now.at - window
        known = [(look.at, value) for look in self._looks if (value := count(look)) is not None]
        before = [value for at, value in known if at <= begin]
        return [*before[-1:], *(value for at, value in known if at > begin)], bool(before)
