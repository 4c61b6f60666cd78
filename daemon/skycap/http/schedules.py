"""``/api/schedules``: what is enqueued by the clock; pause, resume and run it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Protocol

from aiohttp import web

from skycap.http.access import needs
from skycap.http.answers import json_answer
from skycap.http.audit import acts, note_asked
from skycap.http.bodies import Bodies, wait_for_body
from skycap.http.errors import NOT_FOUND, ApiError
from skycap.http.questions import ForSomeTime, Nothing, body_of
from skycap.http.scopes import Scope


class Status(Protocol):
    """One schedule as it stands."""

    def document(self) -> dict[str, Any]: ...


class Schedules(Protocol):
    """The schedules of the fleet: ``skycap.maintenance.schedules`` has them."""

    @property
    def names(self) -> list[str]: ...
    async def list(self) -> Sequence[Status]: ...
    async def pause(self, name: str, duration: timedelta | None = None) -> None: ...
    async def resume(self, name: str) -> None: ...
    async def run(self, name: str) -> str: ...


class ScheduleRoutes:
    """Whatever is asked for answers how the schedule then stands."""

    def __init__(self, schedules: Schedules, bodies: Bodies) -> None:
        self._schedules = schedules
        self._bodies = bodies

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/api/schedules", self.list)
        router.add_get("/api/schedules/{schedule}", self.show)
        router.add_post("/api/schedules/{schedule}/pause", self.pause, expect_handler=wait_for_body)
        router.add_post("/api/schedules/{schedule}/resume", self.resume, expect_handler=wait_for_body)
        router.add_post("/api/schedules/{schedule}/run", self.run, expect_handler=wait_for_body)

    @needs(Scope.READ)
    async def list(self, _request: web.Request) -> web.Response:
        return json_answer({"schedules": [each.document() for each in await self._schedules.list()]})

    @needs(Scope.READ)
    async def show(self, request: web.Request) -> web.Response:
        return json_answer(await self._document(self._name(request)))

    @needs(Scope.ADMIN)
    @acts("schedule.pause", target="schedule")
    async def pause(self, request: web.Request) -> web.Response:
        """No tick becomes a job; what passes is not caught up."""
        name = self._name(request)
        asked = await body_of(request, self._bodies, ForSomeTime)
        note_asked(request, forSeconds=asked.for_seconds)
        await self._schedules.pause(name, asked.duration)
        return json_answer(await self._document(name))

    @needs(Scope.ADMIN)
    @acts("schedule.resume", target="schedule")
    async def resume(self, request: web.Request) -> web.Response:
        name = self._name(request)
        await body_of(request, self._bodies, Nothing)
        await self._schedules.resume(name)
        return json_answer(await self._document(name))

    @needs(Scope.ADMIN)
    @acts("schedule.run", target="schedule")
    async def run(self, request: web.Request) -> web.Response:
        """Its job is enqueued now, beside its ticks, also while it is paused; each call enqueues one."""
        name = self._name(request)
        await body_of(request, self._bodies, Nothing)
        job_id = await self._schedules.run(name)
        return json_answer(await self._document(name), status=202, headers={"Location": f"/api/jobs/{job_id}"})

    def _name(self, request: web.Request) -> str:
        name, known = request.match_info["schedule"], self._schedules.names
        if name not in known:
            raise ApiError(NOT_FOUND, f"there is no schedule of this name; known: {', '.join(known) or 'none'}")
        return name

    async def _document(self, name: str) -> dict[str, Any]:
        found = [each.document() for each in await self._schedules.list()]
        return next(each for each in found if each["schedule"] == name)
