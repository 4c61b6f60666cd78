"""``/api/kinds``: what can be enqueued, with the JSON Schema of each payload: enough to generate a client from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web
from pydantic_core import to_json

from skycap.http.access import needs
from skycap.http.answers import json_text_answer
from skycap.http.scopes import Scope


class KindsRoutes:
    """The kinds of one daemon do not change while it runs."""

    def __init__(self, kinds: Sequence[Mapping[str, Any]]) -> None:
        self._body = to_json({"kinds": kinds})
        self._etag = f'"{hashlib.sha256(self._body).hexdigest()[:32]}"'

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/api/kinds", self.kinds)

    @needs(Scope.ENQUEUE, Scope.READ)
    async def kinds(self, request: web.Request) -> web.Response:
        """304 for whoever has this list already."""
        headers = {"ETag": self._etag, "Cache-Control": "no-cache"}
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(",")}
        if known & {self._etag, "*"}:
            return web.Response(status=304, headers=headers)
        return json_text_answer(self._body, headers=headers)
