"""``/api/queues``: how the queues stand; pause and resume them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from skycap.engine.policy import SHARED
from skycap.engine.queue import Queue
from skycap.engine.standing import standing
from skycap.http.access import needs
from skycap.http.answers import json_answer
from skycap.http.audit import acts
from skycap.http.bodies import Bodies, wait_for_body
from skycap.http.errors import NOT_FOUND, ApiError
from skycap.http.questions import Nothing, body_of
from skycap.http.scopes import Scope


class QueueRoutes:
    """The queues that are configured here, as the fleet has them."""

    def __init__(self, queues: Mapping[str, Queue], bodies: Bodies) -> None:
        self._queues = queues
        self._bodies = bodies

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/api/queues", self.list)
        router.add_get("/api/queues/{queue}", self.show)
        router.add_post("/api/queues/{queue}/pause", self.pause, expect_handler=wait_for_body)
        router.add_post("/api/queues/{queue}/resume", self.resume, expect_handler=wait_for_body)

    @needs(Scope.READ)
    async def list(self, _request: web.Request) -> web.Response:
        found = await asyncio.gather(*map(queue_document, self._queues.values()))
        return json_answer({"queues": found})

    @needs(Scope.READ)
    async def show(self, request: web.Request) -> web.Response:
        return await _answer(self._queue(request))

    @needs(Scope.ADMIN)
    @acts("queue.pause", target="queue")
    async def pause(self, request: web.Request) -> web.Response:
        """No worker takes a job of it; running ones end."""
        queue = self._queue(request)
        await body_of(request, self._bodies, Nothing)
        await queue.pause()
        return await _answer(queue)

    @needs(Scope.ADMIN)
    @acts("queue.resume", target="queue")
    async def resume(self, request: web.Request) -> web.Response:
        queue = self._queue(request)
        await body_of(request, self._bodies, Nothing)
        await queue.resume()
        return await _answer(queue)

    def _queue(self, request: web.Request) -> Queue:
        queue = self._queues.get(request.match_info["queue"])
        if queue is None:
            raise ApiError(NOT_FOUND, f"there is no queue of this name; known: {', '.join(self._queues)}")
        return queue


async def _answer(queue: Queue) -> web.Response:
    return json_answer(await queue_document(queue))


async def queue_document(queue: Queue) -> dict[str, Any]:
    """Raises Unavailable."""
    counts, stands, held = await asyncio.gather(queue.counts(), standing(queue), queue.gates_shut())
    oldest = stands.oldest_waiting
    return {
        "queue": queue.name,
        "available": counts.available,
        "waitingAtLimits": counts.waiting_at_limits,
        "later": counts.later,
        "running": counts.running,
        "discarded": counts.discarded,
        "paused": counts.is_paused,
        "pausedBecause": counts.paused_because or None,
        "oldestWaitingSeconds": None if oldest is None else round(oldest.total_seconds(), 3),
        "held": [{"gate": gate.removeprefix(SHARED), "until": until} for gate, until in held.items()],
    }
