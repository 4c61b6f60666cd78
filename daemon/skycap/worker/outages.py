"""Outages: tells the queues of breakers that open and close, so that no job is started in vain, or waits in vain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skycap.breaker import BreakerState
from skycap.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skycap.breaker import BreakerChange
    from skycap.engine.queue import Queue


class Outages:
    """Knows the queues, whose policies say which kinds need which breakers."""

    def __init__(self, queues: Sequence[Queue]) -> None:
        self._queues = tuple(queues)

    async def tell(self, change: BreakerChange) -> None:
        """Never raises: the first job that meets the open breaker says the same, and each outage ends by itself."""
        for queue in self._queues:
            if change.breaker in queue.policy.breakers:
                try:
                    await _tell(queue, change)
                except Unavailable:
                    continue


async def _tell(queue: Queue, change: BreakerChange) -> None:
    match change.state:
        case BreakerState.OPEN:
            await queue.outage(change.breaker, change.tries_again_in)
        case BreakerState.CLOSED:
            await queue.outage_over(change.breaker)
        case BreakerState.HALF_OPEN:
            pass  # as many start as are let through, without a word
