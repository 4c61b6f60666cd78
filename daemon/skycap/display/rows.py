"""Rows: queues, daemons and dead letters as the page's tables have them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from skycap.display.hour import Hour
from skycap.engine.dead_letters import DeadLetter
from skycap.engine.fleet import Presence
from skycap.overview import Overview, QueueOverview


@dataclass(frozen=True, kw_only=True)
class QueueRow:
    """A queue, and how many jobs of it all daemons together run at a time; None where that is not known."""

    name: str
    queue: QueueOverview | None
    concurrency: int | None
    hour: Hour | None


@dataclass(frozen=True, kw_only=True)
class DaemonRow:
    """A daemon; ``is_odd`` when most others have another version."""

    daemon: Presence
    is_odd: bool
    is_here: bool

    @property
    def running(self) -> int:
        return sum(slots.running for slots in self.daemon.queues.values())

    @property
    def concurrency(self) -> int:
        return sum(slots.concurrency for slots in self.daemon.queues.values())


@dataclass(frozen=True, kw_only=True)
class DeadRow:
    """Dead letters of one kind that were discarded for one reason."""

    reason: str
    kind: str
    queue: str
    count: int
    newest: datetime


def queue_rows(overview: Overview) -> list[QueueRow]:
    daemons = overview.daemons
    return [
        QueueRow(
            name=name,
            queue=queue,
            concurrency=None if daemons is None else concurrency_of(name, daemons),
            hour=None if queue is None else Hour.of(queue.minutes),
        )
        for name, queue in overview.queues.items()
    ]


def concurrency_of(queue: str, daemons: Iterable[Presence]) -> int:
    """How many jobs of the queue all daemons together run at most, those that drain among them."""
    return sum(each.queues[queue].concurrency for each in daemons if queue in each.queues)


def daemon_rows(daemons: Sequence[Presence], *, here: str) -> list[DaemonRow]:
    versions = versions_of(daemons)
    usual = versions[0][0] if versions else ""
    return [DaemonRow(daemon=each, is_odd=each.version != usual, is_here=each.id == here) for each in daemons]


def versions_of(daemons: Iterable[Presence]) -> list[tuple[str, int]]:
    """Each version and how many daemons have it, the most usual first."""
    return Counter(each.version for each in daemons).most_common()


def dead_rows(letters: Iterable[DeadLetter]) -> list[DeadRow]:
    """By reason, kind and queue; what was discarded last comes first."""

    def group(letter: DeadLetter) -> tuple[str, str, str]:
        return letter.reason, letter.kind, letter.queue

    rows = [
        DeadRow(reason=reason, kind=kind, queue=queue, count=len(found), newest=max(each.at for each in found))
        for (reason, kind, queue), found in (
            (key, list(each)) for key, each in groupby(sorted(letters, key=group), key=group)
        )
    ]
    return sorted(rows, key=lambda row: row.newest, reverse=True)
