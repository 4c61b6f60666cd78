"""CacheFigures: how often the cache was asked and helped, by namespace; and which keys are asked for most.

They are counted in this process, and brought to Redis every few seconds, where the fleet's are summed up.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

_INTERVAL = timedelta(seconds=5)
_MOST_NAMESPACES = 100
"""Namespaces are words of the code; should one be made of data, metrics must not grow with it."""
_OTHERS = "other"
_MOST_KEYS = 1000
"""Keys of a namespace that are counted between two reports; above it, those that were asked for least are dropped."""

Unsent = Mapping[str, int]


class Event(StrEnum):
    """What is counted. A request is a hit, a miss, or an error, which is one that Redis did not answer."""

    HIT = "hits"
    MISS = "misses"
    ERROR = "errors"
    LOAD = "loads"


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Of a namespace, or of all."""

    hits: int = 0
    misses: int = 0
    errors: int = 0
    loads: int = 0

    @property
    def requests(self) -> int:
        """Those that the cache has answered."""
        return self.hits + self.misses

    @property
    def hit_rate(self) -> float:
        """A fraction; 0 until there are requests."""
        return self.hits / self.requests if self.requests else 0.0

    def __add__(self, other: Figures) -> Figures:
        return Figures(
            hits=self.hits + other.hits,
            misses=self.misses + other.misses,
            errors=self.errors + other.errors,
            loads=self.loads + other.loads,
        )


class CacheFigures:
    """Those of this process. ``report`` brings what is new to Redis; until it can, that is kept."""

    def __init__(self, report: Callable[[], Awaitable[None]], *, keys: bool) -> None:
        self._report = report
        self._counts_keys = keys
        self._counted: Counter[str] = Counter()
        self._sent: Counter[str] = Counter()
        self._asked: dict[str, Counter[str]] = {}
        self._namespaces: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._reporting: asyncio.Task[None] | None = None

    def count(self, namespace: str, event: Event) -> None:
        self._counted[f"{self._bounded(namespace)}:{event.value}"] += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_INTERVAL.total_seconds(), self._is_time)

    def asked(self, namespace: str, key: str) -> None:
        """Note that a key was asked for."""
        if not self._counts_keys:
            return
        namespace = self._bounded(namespace)
        counts = self._asked.get(namespace)
        if counts is None:
            counts = self._asked[namespace] = Counter()
        counts[key] += 1
        if len(counts) > _MOST_KEYS:
            self._asked[namespace] = Counter(dict(counts.most_common(_MOST_KEYS // 2)))

    def by_namespace(self) -> dict[str, Figures]:
        """Since this process began."""
        return figures_of(self._counted)

    def unsent(self) -> dict[str, int]:
        return dict(self._counted - self._sent)

    def sent(self, figures: Unsent) -> None:
        self._sent.update(figures)

    def take_asked(self, most: int) -> dict[str, list[tuple[str, int]]]:
        """The keys that were asked for most since the last time, by namespace; what is lost then is lost."""
        taken, self._asked = self._asked, {}
        return {namespace: counts.most_common(most) for namespace, counts in taken.items()}

    async def close(self) -> None:
        """Report what is left."""
        if self._timer is not None:
            self._timer.cancel()
        if self._reporting is not None:
            await asyncio.wait([self._reporting])
        await self._report()

    def _is_time(self) -> None:
        self._timer = None
        self._reporting = asyncio.create_task(self._reported(), name="skycap cache figures")

    async def _reported(self) -> None:
        await self._report()

    def _bounded(self, namespace: str) -> str:
        if namespace in self._namespaces:
            return namespace
        if len(self._namespaces) < _MOST_NAMESPACES:
            self._namespaces.add(namespace)
            return namespace
        return _OTHERS


def figures_of(counts: Mapping[str, int]) -> dict[str, Figures]:
    """By namespace, in alphabetical order, from ``namespace:event``; unknown events are ignored."""
    names = {event.value for event in Event}
    found: dict[str, dict[str, int]] = {}
    for name, number in sorted(counts.items()):
        namespace, _, event = name.rpartition(":")
        if event in names:
            found.setdefault(namespace, {})[event] = number
    return {namespace: Figures(**numbers) for namespace, numbers in found.items()}


def total_of(figures: Mapping[str, Figures]) -> Figures:
    return sum(figures.values(), Figures())
