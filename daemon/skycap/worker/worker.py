"""Worker: all consumers of one daemon, started together and drained together."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator, Sequence
from datetime import timedelta

import structlog

from skycap.observe.pulse import Pulse
from skycap.worker.consumer import Consumer

_log = structlog.get_logger("skycap.worker")

_TIME_TO_SETTLE = timedelta(seconds=5)


def worker_id() -> str:
    """Names this process in Redis and in logs; the random part tells a restarted one from the one before."""
    return f"{socket.gethostname()}:{os.getpid()}:{os.urandom(3).hex()}"


class Worker:
    """Runs the queues' consumers side by side."""

    def __init__(self, consumers: Sequence[Consumer]) -> None:
        self.consumers = tuple(consumers)
        self.is_draining = False
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def running(self) -> int:
        return sum(consumer.running for consumer in self.consumers)

    @property
    def since_last_turn(self) -> timedelta:
        """Of the consumer that has been silent longest."""
        return max((consumer.since_last_turn for consumer in self._turning), default=timedelta(0))

    @property
    def pulses(self) -> tuple[Pulse, ...]:
        """Of the consumers that are not drained: they beat whether or not Redis answers."""
        return tuple(consumer.pulse for consumer in self._turning)

    @property
    def _turning(self) -> Iterator[Consumer]:
        """Those that are not drained: of the others, no turn is to be expected."""
        return (consumer for consumer, task in zip(self.consumers, self._tasks, strict=False) if not task.done())

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(consumer.run(), name=f"queue {consumer.queue.name}") for consumer in self.consumers
        ]

    async def ended(self) -> None:
        """Return, or raise what a consumer raised, as soon as one of them stops: none should before a drain."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def drain(self, grace: timedelta) -> None:
        """Take no more jobs, give the running ones ``grace`` to end, then hand the rest back."""
        self.is_draining = True
        for consumer in self.consumers:
            consumer.drain()
        _, pending = await asyncio.wait(self._tasks, timeout=grace.total_seconds())
        if pending:
            _log.warning("jobs are handed back: their time is over", jobs=self.running)
            for consumer in self.consumers:
                consumer.hand_back()
            _, pending = await asyncio.wait(pending, timeout=_TIME_TO_SETTLE.total_seconds())
        for task in pending:
            _log.error("jobs are not settled in time; their leases will run out", task=task.get_name())
            task.cancel()
