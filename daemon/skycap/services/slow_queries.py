"""SlowQueries: logs and counts the queries that took longer than they should, by what they ask and not by what for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple

import structlog

from skycap.context import Log
from skycap.services.statements import statement_of

_log: Log = structlog.get_logger(__name__)

_STATEMENT_SHOWN = 200

MOST_COUNTED = 100
"""Pairs of a query and a kind that have a count of their own; a plugin that builds its queries may have any number."""

OTHER = "other"


class Asker(NamedTuple):
    """On whose behalf a query is asked: a job's, or the daemon's own."""

    plugin: str
    kind: str


OURSELVES = Asker(plugin="skycap", kind="skycap")


class SlowQuery(NamedTuple):
    """What is counted: the fingerprint of a statement, and the kind of the job that asked."""

    fingerprint: str
    kind: str


class SlowQueries:
    """Longer than ``threshold``; a threshold of 0 has every query logged."""

    def __init__(self, threshold: timedelta) -> None:
        self._threshold = threshold
        self._counts: Counter[SlowQuery] = Counter()

    @property
    def counts(self) -> Mapping[SlowQuery, int]:
        """Since the start; what came after the first hundred different ones is counted as ``other``."""
        return self._counts

    @property
    def total(self) -> int:
        return self._counts.total()

    def note(self, query: str, duration: timedelta, asker: Asker) -> None:
        """Log and count a query that took ``duration``, if that is long."""
        if duration <= self._threshold:
            return
        statement = statement_of(query)
        _log.warning(
            "slow query",
            fingerprint=statement.fingerprint,
            statement=statement.text[:_STATEMENT_SHOWN],
            duration_ms=round(duration / timedelta(milliseconds=1)),
            kind=asker.kind,
            plugin=asker.plugin,
        )
        self._count(SlowQuery(statement.fingerprint, asker.kind))

    def _count(self, query: SlowQuery) -> None:
        is_known = query in self._counts or len(self._counts) < MOST_COUNTED
        self._counts[query if is_known else SlowQuery(OTHER, OTHER)] += 1
