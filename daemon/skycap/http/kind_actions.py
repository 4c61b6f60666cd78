"""``/api/kinds/KIND/…``: let no job of a kind start, while the others of its queue go on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aiohttp import web

from skycap.engine.policy import gate_of_kind
from skycap.engine.queue import Queue
from skycap.http.access import needs
from skycap.http.answers import json_answer
from skycap.http.audit import acts, note_asked
from skycap.http.bodies import Bodies, wait_for_body
from skycap.http.errors import NOT_FOUND, ApiError
from skycap.http.questions import ForSomeTime, Nothing, body_of
from skycap.http.scopes import Scope
from skycap.job_type import JobType


class KindActions:
    """A kind is meant under each of its names."""

    def __init__(self, job_types: Iterable[JobType], queues: Mapping[str, Queue], bodies: Bodies) -> None:
        self._by_name = {name: job_type for job_type in job_types for name in job_type.names}
        self._queues = queues
        self._bodies = bodies

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_post("/api/kinds/{kind}/pause", self.pause, expect_handler=wait_for_body)
        router.add_post("/api/kinds/{kind}/resume", self.resume, expect_handler=wait_for_body)

    @needs(Scope.ADMIN)
    @acts("kind.pause", target="kind")
    async def pause(self, request: web.Request) -> web.Response:
        """For some time, or until it is resumed."""
        job_type = self._job_type(request)
        asked = await body_of(request, self._bodies, ForSomeTime)
        note_asked(request, forSeconds=asked.for_seconds)
        for name in job_type.names:
            await self._queues[job_type.queue].shut(gate_of_kind(name), asked.duration)
        return await self._answer(job_type)

    @needs(Scope.ADMIN)
    @acts("kind.resume", target="kind")
    async def resume(self, request: web.Request) -> web.Response:
        job_type = self._job_type(request)
        await body_of(request, self._bodies, Nothing)
        for name in job_type.names:
            await self._queues[job_type.queue].open(gate_of_kind(name))
        return await self._answer(job_type)

    def _job_type(self, request: web.Request) -> JobType:
        job_type = self._by_name.get(request.match_info["kind"])
        if job_type is None:
            raise ApiError(NOT_FOUND, "no plugin handles a kind of this name; GET /api/kinds lists them")
        return job_type

    async def _answer(self, job_type: JobType) -> web.Response:
        shut = await self._queues[job_type.queue].gates_shut()
        gate = gate_of_kind(job_type.kind)
        return json_answer(
            {"kind": job_type.kind, "queue": job_type.queue, "paused": gate in shut, "pausedUntil": shut.get(gate)},
        )
