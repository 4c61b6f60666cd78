"""Sources: where the figures come from, each of which may be missing or fail without harm to the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import structlog

from skycap.alerts.figures import CacheFigures, Figures, QueueFigures
from skycap.context import Log
from skycap.engine.standing import standing
from skycap.errors import Unavailable

if TYPE_CHECKING:
    from skycap.engine.queue import Queue

T = TypeVar("T")

_log: Log = structlog.get_logger("skycap.alerts")

ANSWER_WITHIN = timedelta(seconds=3)
"""What takes longer is not known this time; of a server's ping, that it cannot be reached."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What can be asked; None: this installation has none."""

    queues: Iterable[Queue]
    redis: Callable[[], Awaitable[object]]
    postgresql: Callable[[], Awaitable[object]] | None = None
    mails_in_doubt: Callable[[], Awaitable[int]] | None = None
    outbox_age: Callable[[], Awaitable[timedelta]] | None = None
    breakers: Callable[[], Awaitable[Mapping[str, str]]] | None = None
    """The state of every breaker of the fleet, by name."""
    caches: Callable[[], Awaitable[Mapping[str, CacheFigures]]] | None = None
    """By namespace."""
    slow_queries: Callable[[], int] | None = None
    """How many this daemon has met since its start."""

    async def figures(self) -> Figures:
        """All that is known now. Never raises."""
        redis_is_up, postgresql_is_up = await asyncio.gather(_is_up(self.redis), _is_up(self.postgresql))
        queues, mails_in_doubt, outbox_age, breakers, caches = await asyncio.gather(
            _known(self._of_queues if redis_is_up else None),
            _known(self.mails_in_doubt if postgresql_is_up else None),
            _known(self.outbox_age if postgresql_is_up else None),
            _known(self.breakers if redis_is_up else None),
            _known(self.caches if redis_is_up else None),
        )
        return Figures(
            at=timedelta(seconds=time.monotonic()),
            redis_is_up=redis_is_up,
            postgresql_is_up=postgresql_is_up,
            queues=queues or {},
            breakers=breakers or {},
            caches=caches or {},
            slow_queries=None if self.slow_queries is None else self.slow_queries(),
            mails_in_doubt=mails_in_doubt,
            outbox_age=outbox_age,
        )

    async def _of_queues(self) -> dict[str, QueueFigures]:
        queues = list(self.queues)
        found = await asyncio.gather(*map(standing, queues))
        return {
            queue.name: QueueFigures(
                completed=now.completed,
                retried=now.retried,
                discarded=now.discarded,
                dead=now.dead,
                oldest_waiting=now.oldest_waiting,
                paused_because=now.paused_because,
            )
            for queue, now in zip(queues, found, strict=True)
        }


async def _is_up(ping: Callable[[], Awaitable[object]] | None) -> bool | None:
    if ping is None:
        return None
    try:
        async with asyncio.timeout(ANSWER_WITHIN.total_seconds()):
            await ping()
    except Exception as error:  # noqa: BLE001 - what answers like that is of no use to any job
        _log.debug("a server cannot be used", problem=str(error))
        return False
    return True


async def _known(ask: Callable[[], Awaitable[T]] | None) -> T | None:
    if ask is None:
        return None
    try:
        async with asyncio.timeout(ANSWER_WITHIN.total_seconds()):
            return await ask()
    except (Unavailable, TimeoutError):
        return None
    except Exception as error:  # noqa: BLE001 - a table that is not there yet must not keep the other rules from looking
        _log.debug("a figure is not known", problem=str(error))
        return None
