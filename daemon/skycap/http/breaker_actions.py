"""``/api/breakers``: how the partners' breakers stand; open, close and reset them by hand."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from skycap.breaker import BreakerSpec
from skycap.engine.breakers import FleetBreakers
from skycap.http.access import needs
from skycap.http.answers import json_answer
from skycap.http.audit import acts, note_asked
from skycap.http.bodies import Bodies, wait_for_body
from skycap.http.errors import NOT_FOUND, ApiError
from skycap.http.questions import ForSomeTime, Nothing, body_of
from skycap.http.scopes import Scope


class BreakerActions:
    """In skycap's own words; ``/api/system/circuit-breakers`` has those of the dashboards."""

    def __init__(self, state: FleetBreakers, specs: Mapping[str, BreakerSpec], bodies: Bodies) -> None:
        self._state = state
        self._specs = specs
        self._bodies = bodies

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/api/breakers", self.list)
        router.add_post("/api/breakers/{breaker}/open", self.open, expect_handler=wait_for_body)
        router.add_post("/api/breakers/{breaker}/close", self.close, expect_handler=wait_for_body)
        router.add_post("/api/breakers/{breaker}/reset", self.reset, expect_handler=wait_for_body)

    @needs(Scope.READ)
    async def list(self, _request: web.Request) -> web.Response:
        found = await self._state.statuses(dict(sorted(self._specs.items())))
        return json_answer({"breakers": [status.document(self._specs[name]) for name, status in found.items()]})

    @needs(Scope.ADMIN)
    @acts("breaker.open", target="breaker")
    async def open(self, request: web.Request) -> web.Response:
        """No call passes, for some time or until it is reset."""
        spec = self._spec(request)
        asked = await body_of(request, self._bodies, ForSomeTime)
        note_asked(request, forSeconds=asked.for_seconds)
        await self._state.open(spec, asked.duration)
        return await self._answer(spec)

    @needs(Scope.ADMIN)
    @acts("breaker.close", target="breaker")
    async def close(self, request: web.Request) -> web.Response:
        """All calls pass, however they end, until it is reset."""
        spec = self._spec(request)
        await body_of(request, self._bodies, Nothing)
        await self._state.close(spec)
        return await self._answer(spec)

    @needs(Scope.ADMIN)
    @acts("breaker.reset", target="breaker")
    async def reset(self, request: web.Request) -> web.Response:
        """It begins anew: closed, and opens by itself."""
        spec = self._spec(request)
        await body_of(request, self._bodies, Nothing)
        await self._state.reset(spec)
        return await self._answer(spec)

    def _spec(self, request: web.Request) -> BreakerSpec:
        spec = self._specs.get(request.match_info["breaker"])
        if spec is None:
            known = ", ".join(sorted(self._specs))
            raise ApiError(NOT_FOUND, f"there is no breaker of this name; known: {known or 'none'}")
        return spec

    async def _answer(self, spec: BreakerSpec) -> web.Response:
        return json_answer((await self._state.status(spec)).document(spec))
