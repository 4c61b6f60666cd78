"""What a process counts: how often something happened, and how its sizes were spread.

Written in the hot path of every job, so these are plain numbers: a metrics library's own take four times as long. They
are written by the event loop alone.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Labels = tuple[str, ...]
"""Values, in the order of their names."""


class Tally:
    """How often, by labels. Those that are known ``beforehand`` are there from the start, as 0."""

    def __init__(self, *names: str, beforehand: Sequence[Labels] = ()) -> None:
        self.names = names
        self._counts: Counter[Labels] = Counter(dict.fromkeys(beforehand, 0))

    @property
    def counts(self) -> Mapping[Labels, int]:
        return self._counts

    def note(self, *labels: str) -> None:
        self._counts[labels] += 1


@dataclass(slots=True)
class Heap:
    """How many were up to each bound and above the one before it, those above the last one, and their sum."""

    counts: list[int]
    sum: float = 0.0


class Spread:
    """How many had which size, by labels."""

    def __init__(self, *names: str, bounds: Sequence[float]) -> None:
        """``bounds``: the upper ends of the ranges that are told apart, in order."""
        self.names = names
        self.bounds = tuple(bounds)
        self._heaps: dict[Labels, Heap] = {}

    @property
    def heaps(self) -> Mapping[Labels, Heap]:
        return self._heaps

    def note(self, size: float, *labels: str) -> None:
        heap = self._heaps.get(labels)
        if heap is None:
            heap = self._heaps[labels] = Heap([0] * (len(self.bounds) + 1))
        heap.counts[bisect_left(self.bounds, size)] += 1
        heap.sum += size
