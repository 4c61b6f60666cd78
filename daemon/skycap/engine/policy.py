"""QueuePolicy: how a queue treats its jobs, for the whole fleet; kept in Redis, where each step reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

SHARED = "+"
"""Before the name of a limit that several queues share, whose state lies outside of each queue's own keys."""

BY_KIND = "@kind"
"""The key of the limit "kind", which counts by the kind of the job."""


def gate_of_kind(kind: str) -> str:
    """What jobs that were enqueued under this name of a kind must pass."""
    return f"kind:{kind}"


@dataclass(frozen=True, kw_only=True)
class Rate:
    """At most ``max`` starts in any window of ``per``, wherever it begins."""

    max: int
    per: timedelta


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a limit allows."""

    rate: Rate | None = None
    concurrency: int | None = None

    def document(self) -> dict[str, Any]:
        """As the scripts read it; what is not limited is left out."""
        document: dict[str, Any] = {}
        if self.rate is not None:
            document |= {"max": self.rate.max, "per": milliseconds(self.rate.per)}
        if self.concurrency is not None:
            document["concurrency"] = self.concurrency
        return document


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A limit that some of a queue's jobs must pass before they start.

    ``key`` says by which value of the payload it counts (``userEmail``, ``guest.country``), None for one count in
    all; ``shape`` is what is made of the value (``domain``, ``lower``). ``kinds`` None: it is for every kind.
    ``own`` has other figures for some values.
    """

    name: str
    figures: Figures = Figures()
    key: str | None = None
    shape: str | None = None
    kinds: frozenset[str] | None = None
    own: Mapping[str, Figures] = field(default_factory=dict[str, Figures])
    shared: bool = False

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = {"name": f"{SHARED if self.shared else ''}{self.name}", **self.figures.document()}
        if self.key is not None:
            document["key"] = self.key
        if self.shape is not None:
            document["shape"] = self.shape
        if self.kinds is not None:
            document["kinds"] = dict.fromkeys(sorted(self.kinds), True)
        if self.own:
            document["own"] = {value: figures.document() for value, figures in self.own.items()}
        return document


@dataclass(frozen=True, kw_only=True)
class NeededBreaker:
    """A breaker without which no job of ``kinds`` gets anywhere; it lets ``probes`` through at once while half open."""

    kinds: frozenset[str]
    probes: int


@dataclass(frozen=True, kw_only=True)
class QueuePolicy:
    """How one queue treats its jobs. Times are kept to the millisecond; None: no such bound."""

    keep_finished: timedelta = timedelta(hours=1)
    keep_finished_count: int = 100
    keep_discarded: timedelta = timedelta(days=2)
    keep_discarded_count: int = 10_000
    fleet_concurrency: int | None = None
    rate: Rate | None = None
    max_waiting: int | None = None
    lifo: bool = False
    limits: tuple[Limit, ...] = ()
    breakers: Mapping[str, NeededBreaker] = field(default_factory=dict[str, NeededBreaker])

    def parts(self) -> dict[str, str]:
        """Each part under its name in Redis; '' where there is no bound."""
        return {
            "keep_finished": str(milliseconds(self.keep_finished)),
            "keep_finished_count": str(self.keep_finished_count),
            "keep_discarded": str(milliseconds(self.keep_discarded)),
            "keep_discarded_count": str(self.keep_discarded_count),
            "fleet": _text(self.fleet_concurrency),
            "rate_max": _text(self.rate.max if self.rate else None),
            "rate_per": _text(milliseconds(self.rate.per) if self.rate else None),
            "max_waiting": _text(self.max_waiting),
            "lifo": "1" if self.lifo else "",
            "limits": json.dumps([limit.document() for limit in self.limits]),
            "breakers": json.dumps(
                {
                    name: {"kinds": dict.fromkeys(sorted(needed.kinds), True), "probes": needed.probes}
                    for name, needed in self.breakers.items()
                }
            ),
        }


def milliseconds(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)


def _text(bound: int | None) -> str:
    return "" if bound is None else str(bound)
