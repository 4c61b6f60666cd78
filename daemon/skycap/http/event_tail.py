"""Tail: the events of one queue, read once for all who listen to any of its jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from skycap.engine.events import Event, EventStream
from skycap.engine.queue import Queue
from skycap.errors import Unavailable

_MOST_WAITING = 256
"""Events that a listener may be behind."""
_SECONDS_BETWEEN_TRIES = 1.0
_LOOK_BACK_AT_ONCE = 4
"""All listeners come back at once when a daemon restarts, and each looks through thousands of events."""


class Listener:
    """Who waits for the events of one job."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[Event | None] = asyncio.Queue(_MOST_WAITING)
        self.is_over = False
        """Whether it was too slow, or the server stops; what has come until then can still be taken."""

    def offer(self, event: Event) -> None:
        if self.is_over:
            return
        if self._events.qsize() >= _MOST_WAITING - 1:
            self.end()
        else:
            self._events.put_nowait(event)

    def end(self) -> None:
        if not self.is_over:
            self.is_over = True
            self._events.put_nowait(None)

    async def next(self) -> Event | None:
        """None when nothing comes any more."""
        return None if self.is_over and self._events.empty() else await self._events.get()


class Tail:
    """Follows its queue while anybody listens."""

    def __init__(self, queue: Queue) -> None:
        self._stream = EventStream(queue)
        self._listeners: dict[str, set[Listener]] = {}
        self._following: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._looking_back = asyncio.Semaphore(_LOOK_BACK_AT_ONCE)
        self._read_to = ""
        self._name = f"events of {queue.name}"

    @property
    def read_to(self) -> str:
        """The id of the newest event that was read."""
        return self._read_to

    @asynccontextmanager
    async def listening(self, job_id: str) -> AsyncGenerator[Listener]:
        """A listener that hears of all that happens to the job from now on. Raises Unavailable."""
        listener = Listener()
        async with self._starting:
            if self._following is None:
                self._read_to = await self._stream.newest()
                self._following = asyncio.create_task(self._follow(), name=self._name)
            self._listeners.setdefault(job_id, set()).add(listener)
        try:
            yield listener
        finally:
            self._forget(job_id, listener)

    async def missed(self, job_id: str, last: str) -> AsyncIterator[Event]:
        """The events of the job after the one with id ``last``, as far as they are kept, up to what was read."""
        async with self._looking_back:
            async for event in self._stream.between(last, self._read_to):
                if event.job_id == job_id:
                    yield event

    def end(self) -> None:
        """Lets go of all who listen."""
        for its in self._listeners.values():
            for listener in its:
                listener.end()

    def _forget(self, job_id: str, listener: Listener) -> None:
        its = self._listeners[job_id]
        its.discard(listener)
        if not its:
            del self._listeners[job_id]
        if not self._listeners and self._following is not None:
            self._following.cancel()
            self._following = None

    async def _follow(self) -> None:
        while True:
            try:
                async for event in self._stream.after(self._read_to):
                    self._read_to = event.id
                    for listener in self._listeners.get(event.job_id, ()):
                        listener.offer(event)
            except Unavailable:
                await asyncio.sleep(_SECONDS_BETWEEN_TRIES)
