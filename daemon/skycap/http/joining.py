"""Joiner: single jobs that are asked for at the same time go to Redis in one call (a group commit)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from skycap.engine.queue import NewJob, Queue
from skycap.errors import Refused
from skycap.job import Enqueued

_MOST_AT_ONCE = 200

_Waiting = tuple[NewJob, "asyncio.Future[Enqueued]"]


class Joiner:
    """Adds jobs to one queue. While a call is on its way, further jobs gather for the next one."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._waiting: list[_Waiting] = []
        self._is_adding = False
        self._adding: asyncio.Task[None] | None = None

    async def add(self, job: NewJob) -> Enqueued:
        """Raises what the queue's ``add`` raises, for this job alone."""
        if self._is_adding:
            answer: asyncio.Future[Enqueued] = asyncio.get_running_loop().create_future()
            self._waiting.append((job, answer))
            return await answer
        self._is_adding = True
        try:
            (added,) = await self._queue.add((job,))
            return added
        finally:
            if self._waiting:
                self._adding = asyncio.create_task(self._add_waiting(), name=f"add to {self._queue.name}")
            else:
                self._is_adding = False

    async def _add_waiting(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting[:_MOST_AT_ONCE], self._waiting[_MOST_AT_ONCE:]
                await self._add_group(group)
        finally:
            self._is_adding = False
            for _, answer in self._waiting:
                answer.cancel()
            self._waiting = []

    async def _add_group(self, group: Sequence[_Waiting]) -> None:
        try:
            added = await self._queue.add([job for job, _ in group])
        except Refused as error:
            # Nothing was stored because of one of them.
            if len(group) == 1:
                _fail(group, error)
            else:
                await asyncio.gather(*(self._add_group([each]) for each in group))
        except Exception as error:  # noqa: BLE001 - each of those who wait raises it
            _fail(group, error)
        else:
            for (_, answer), enqueued in zip(group, added, strict=True):
                if not answer.done():
                    answer.set_result(enqueued)


def _fail(group: Sequence[_Waiting], error: Exception) -> None:
    for _, answer in group:
        if not answer.done():
            answer.set_exception(error)
