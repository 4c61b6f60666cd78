"""StatusLine: what ``systemctl status`` says of the daemon."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from skycap.assembly import Daemon
from skycap.breaker import BreakerState
from skycap.engine.breakers import FleetBreakers
from skycap.engine.queue import Queue
from skycap.engine.standing import standing
from skycap.errors import Unavailable
from skycap.supervisor.generation import Generation
from skycap.supervisor.succession import Succession

T = TypeVar("T")

_LIMIT_SECONDS = 2.0
_OF_MAILS = "email"
"""The breaker of the mail server."""


@dataclass(frozen=True, kw_only=True)
class _Waiting:
    jobs: int
    oldest: timedelta | None

    @property
    def text(self) -> str:
        if not self.jobs:
            return "none waiting"
        return f"{self.jobs:,} waiting" + (f", oldest {_short(self.oldest.total_seconds())}" if self.oldest else "")


class _Dependency:
    """Whether it answers, and since when it does not."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._down_since: float | None = None
        self._has_answered = False
        self._is_known = False

    def note(self, *, is_up: bool) -> None:
        self._is_known = True
        self._has_answered |= is_up
        self._down_since = None if is_up else self._down_since or time.monotonic()

    @property
    def text(self) -> str:
        if self._down_since is None:
            return f"{self._name} ok" if self._is_known else ""
        seconds = _short(time.monotonic() - self._down_since)
        return f"{self._name} down for {seconds}" if self._has_answered else f"waiting for {self._name}, {seconds}"


class StatusLine:
    """Looks at Redis, PostgreSQL and the mails' breaker when it is told to, and knows the rest."""

    def __init__(self, succession: Succession) -> None:
        self._succession = succession
        self._redis, self._postgresql, self._smtp = map(_Dependency, ("redis", "postgresql", "smtp"))
        self._waiting: _Waiting | None = None
        self.refusal: str | None = None
        """Of the last reload, if it was refused."""
        self.why_it_ends = ""

    async def look(self) -> None:
        """Never raises, and takes two seconds at most."""
        if self._succession.newest.drains_until is not None:
            return  # of what others do, nothing is said any more
        daemon = self._succession.daemon
        self._waiting, _, _ = await asyncio.gather(
            self._look_at_queues(daemon), self._look_at_postgresql(daemon), self._look_at_smtp(daemon)
        )

    def text(self) -> str:
        *before, newest = self._succession.generations
        if newest.drains_until is not None:
            why = f"{self.why_it_ends}; " if self.why_it_ends else ""
            return f"{why}draining: {_left(self._succession.generations)}"
        facts = [
            f"reload refused: {self.refusal}" if self.refusal else "",
            _slots(newest.daemon),
            f"{_left(before)}, on what was before the reload" if before else "",
            self._waiting.text if self._waiting else "",
            ", ".join(filter(None, (self._redis.text, self._postgresql.text, self._smtp.text))),
        ]
        return "; ".join(filter(None, facts))

    async def _look_at_queues(self, daemon: Daemon) -> _Waiting | None:
        queues = [consumer.queue for consumer in daemon.worker.consumers]
        found = await _in_time(asyncio.gather(*map(_waiting, queues)))
        self._redis.note(is_up=found is not None)
        if found is None:
            return None
        ages = [each.oldest for each in found if each.oldest is not None]
        return _Waiting(jobs=sum(each.jobs for each in found), oldest=max(ages, default=None))

    async def _look_at_postgresql(self, daemon: Daemon) -> None:
        if daemon.databases is not None:
            self._postgresql.note(is_up=await _in_time(daemon.databases.primary.ping()) is not None)

    async def _look_at_smtp(self, daemon: Daemon) -> None:
        spec = daemon.breakers.specs.get(_OF_MAILS)
        if daemon.smtp is None or spec is None:
            return
        status = await _in_time(FleetBreakers(daemon.broker.link).status(spec))
        if status is not None:
            self._smtp.note(is_up=status.state is not BreakerState.OPEN)


async def _waiting(queue: Queue) -> _Waiting:
    counts, stands = await asyncio.gather(queue.counts(), standing(queue))
    return _Waiting(jobs=counts.available, oldest=stands.oldest_waiting)


async def _in_time(answer: Awaitable[T]) -> T | None:
    try:
        async with asyncio.timeout(_LIMIT_SECONDS):
            return await answer
    except (Unavailable, TimeoutError):
        return None


def _slots(daemon: Daemon) -> str:
    return ", ".join(
        f"{consumer.queue.name} {consumer.running}/{consumer.concurrency}" for consumer in daemon.worker.consumers
    )


def _left(generations: Sequence[Generation]) -> str:
    """What of those that drain is still to be done, and how long it may take."""
    jobs = sum(generation.running for generation in generations)
    until = max(generation.drains_until or 0.0 for generation in generations)
    left = max(until - time.monotonic(), 0.0)
    return f"{jobs} job{'' if jobs == 1 else 's'}, {left:.0f} s left"


_TENTHS_UP_TO, _SECONDS_UP_TO, _MINUTES_UP_TO = 10, 120, 7200
"""What still says something of so many seconds."""


def _short(seconds: float) -> str:
    if seconds < _TENTHS_UP_TO:
        return f"{seconds:.1f} s"
    if seconds < _SECONDS_UP_TO:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < _MINUTES_UP_TO else f"{seconds / 3600:.0f} h"
