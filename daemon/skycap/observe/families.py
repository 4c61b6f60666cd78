"""Family: a metric with all of its samples, as it stood when somebody asked: counting goes on while it is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from skycap.observe.tallies import Heap, Labels, Spread, Tally

Kind = Literal["counter", "gauge", "info", "histogram"]


@dataclass(frozen=True, kw_only=True)
class Family:
    """Names are those of Prometheus' text format: a counter's ends with ``_total``, an info's with ``_info``."""

    name: str
    kind: Kind
    text: str
    labels: Sequence[str]
    samples: Mapping[Labels, float] = field(default_factory=dict[Labels, float])
    bounds: Sequence[float] = ()
    heaps: Mapping[Labels, Heap] = field(default_factory=dict[Labels, Heap])


def gauge(name: str, text: str, labels: Sequence[str], samples: Iterable[tuple[Labels, float]]) -> Family:
    return Family(name=name, kind="gauge", text=text, labels=labels, samples=dict(samples))


def counter(name: str, text: str, labels: Sequence[str], samples: Iterable[tuple[Labels, float]]) -> Family:
    return Family(name=name, kind="counter", text=text, labels=labels, samples=dict(samples))


def info(name: str, text: str, labels: Sequence[str], values: Iterable[Labels]) -> Family:
    """What is said by the labels alone."""
    return Family(name=name, kind="info", text=text, labels=labels, samples=dict.fromkeys(values, 1))


def number(name: str, text: str, value: float | None) -> Family:
    """A gauge of one sample; of none, when the value is not known."""
    return gauge(name, text, (), [] if value is None else [((), value)])


def tallied(name: str, text: str, tally: Tally) -> Family:
    return Family(name=name, kind="counter", text=text, labels=tally.names, samples=dict(tally.counts))


def spread(name: str, text: str, sizes: Spread) -> Family:
    heaps = {labels: Heap([*heap.counts], heap.sum) for labels, heap in sizes.heaps.items()}
    return Family(name=name, kind="histogram", text=text, labels=sizes.names, bounds=sizes.bounds, heaps=heaps)
