"""``/api/jobs/{id}/events``: what happens to a job, as it happens (server-sent events)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from aiohttp import web
from pydantic_core import from_json, to_json

from skycap.engine.events import Event
from skycap.engine.queue import Queue
from skycap.errors import Unavailable
from skycap.http.access import needs
from skycap.http.errors import BUSY, REQUEST_ID, ApiError
from skycap.http.event_tail import Listener, Tail
from skycap.http.job_document import iso
from skycap.http.job_search import find_job
from skycap.http.scopes import Scope
from skycap.job import Job, JobState

MOST_LISTENERS = 1000
"""Of one daemon."""

_HEARTBEAT_SECONDS = 15.0
"""Proxies close a connection on which nothing comes for a minute, or half of one."""
_WRITE_SECONDS = 30.0
_EVENT_ID = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")
_FINAL = frozenset(state.value for state in JobState if state.is_final)


class JobEventsRoutes:
    """One connection to Redis for each queue, however many listen."""

    def __init__(
        self,
        queues: Mapping[str, Queue],
        *,
        most_listeners: int = MOST_LISTENERS,
        heartbeat_seconds: float = _HEARTBEAT_SECONDS,
        write_seconds: float = _WRITE_SECONDS,
    ) -> None:
        self._queues = queues
        self._tails = {name: Tail(queue) for name, queue in queues.items()}
        self._most_listeners = most_listeners
        self._heartbeat_seconds = heartbeat_seconds
        self._write_seconds = write_seconds
        self._listening = 0

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/api/jobs/{id}/events", self.events, allow_head=False)

    async def stop(self) -> None:
        """Ends all answers, so that the server need not wait for the jobs to end."""
        for tail in self._tails.values():
            tail.end()

    @needs(Scope.READ)
    async def events(self, request: web.Request) -> web.StreamResponse:
        """The state that the job is in, then what happens to it, until it has ended. An event may come twice."""
        if self._listening >= self._most_listeners:
            raise ApiError(
                BUSY,
                f"{self._most_listeners:,} listen already, which is the limit; come again later, or ask for the job",
                headers={"Retry-After": "5"},
            )
        self._listening += 1
        try:
            return await self._listen(request, request.match_info["id"])
        finally:
            self._listening -= 1

    async def _listen(self, request: web.Request, job_id: str) -> web.StreamResponse:
        queue, _ = await find_job(self._queues, job_id)
        tail = self._tails[queue.name]
        async with tail.listening(job_id) as listener:
            # Looked at only now: whatever happens from here on is heard of.
            job = await queue.get(job_id)
            if job is None:
                queue, job = await find_job(self._queues, job_id)
            response = _opened(request)
            await response.prepare(request)
            stream = _Stream(response, write_seconds=self._write_seconds)
            # Who asked has gone, or does not read: nobody is left to answer.
            with suppress(ConnectionError, TimeoutError):
                await self._tell(stream, tail, job, listener, request.headers.get("Last-Event-ID", ""))
                await response.write_eof()
                return response
        if request.transport is not None:
            request.transport.abort()
        return response

    async def _tell(self, stream: _Stream, tail: Tail, job: Job, listener: Listener, last: str) -> None:
        if _EVENT_ID.fullmatch(last):
            with suppress(Unavailable):  # then the state has to do
                async for event in tail.missed(job.id, last):
                    await stream.event(event)
        if stream.state != job.state:
            await stream.state_of(job, tail.read_to)
        while not stream.is_over:
            try:
                async with asyncio.timeout(self._heartbeat_seconds):
                    heard = await listener.next()
            except TimeoutError:
                await stream.write(b": nothing new\n\n")
                continue
            if heard is None:
                return
            if heard.name != stream.state:
                await stream.event(heard)


class _Stream:
    """What one listener was told so far."""

    def __init__(self, response: web.StreamResponse, *, write_seconds: float) -> None:
        self._response = response
        self._write_seconds = write_seconds
        self.state = ""

    @property
    def is_over(self) -> bool:
        return self.state in _FINAL

    async def state_of(self, job: Job, event_id: str) -> None:
        self.state = job.state.value
        at = iso(job.finished_at or job.started_at or job.enqueued_at)
        await self._write(event_id, self.state, {"jobId": job.id, "state": self.state, "at": at})

    async def event(self, event: Event) -> None:
        document: dict[str, Any] = {"jobId": event.job_id, "at": iso(event.at)}
        if event.name == "progress":
            told: dict[str, Any] = from_json(event.data or b"{}")
            document |= {"fraction": told.get("fraction"), "note": told.get("note")}
        else:
            self.state = document["state"] = event.name
        await self._write(event.id, event.name, document)

    async def _write(self, event_id: str, name: str, document: Mapping[str, Any]) -> None:
        await self.write(b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id.encode(), name.encode(), to_json(document)))

    async def write(self, text: bytes) -> None:
        async with asyncio.timeout(self._write_seconds):
            await self._response.write(text)


def _opened(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream; charset=utf-8",
            "X-Accel-Buffering": "no",  # nginx would collect what comes
            "X-Request-Id": request[REQUEST_ID],
        }
    )
    response.force_close()
    return response
