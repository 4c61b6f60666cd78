"""``/api/audit``: who did what, the newest first."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from pydantic import BaseModel, Field

from skycap.engine.audit import AuditLog, Wanted
from skycap.http.access import needs
from skycap.http.answers import json_answer
from skycap.http.questions import PARAMETERS, parameters_of
from skycap.http.scopes import Scope
from skycap.request_document import ShortText, Time

MOST_AT_ONCE = 1000


class AuditFilter(BaseModel):
    """Which actions."""

    model_config = PARAMETERS

    action: ShortText | None = Field(default=None, description="Only this one, as queue.pause; or all of a queue.")
    who: ShortText | None = Field(default=None, description="Only of this token or user.")
    since: Time | None = Field(default=None, description="Only since this time (RFC 3339).")
    limit: Annotated[int, Field(ge=1, le=MOST_AT_ONCE)] = Field(default=100, description="At most so many.")


class AuditRoutes:
    """Reading is no action, and is not written down."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/api/audit", self.list)

    @needs(Scope.ADMIN)
    async def list(self, request: web.Request) -> web.Response:
        asked = parameters_of(request, AuditFilter)
        wanted = Wanted(action=asked.action, who=asked.who, since=asked.since)
        found = await self._log.newest(wanted, limit=asked.limit)
        return json_answer({"actions": [each.document() for each in found]})
