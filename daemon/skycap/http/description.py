"""``/api/openapi.json`` and ``/api/docs``: the API's description, for programs and for people."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from aiohttp import web

from skycap.http.answers import json_answer
from skycap.http.api_page import POLICY, api_page
from skycap.http.openapi import openapi_document


class DescriptionRoutes:
    """Open to everybody: it is the same for all installations of a version, and says nothing of this one."""

    def __init__(self, *, version: str) -> None:
        self._version = version

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/api/openapi.json", self.document)
        router.add_get("/api/docs", self.page)

    async def document(self, _request: web.Request) -> web.Response:
        """As OpenAPI 3.1."""
        return json_answer(self._document)

    async def page(self, _request: web.Request) -> web.Response:
        """As a page."""
        headers = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"}
        return web.Response(text=self._page, content_type="text/html", charset="utf-8", headers=headers)

    @cached_property
    def _document(self) -> dict[str, Any]:
        """Made when it is first asked for: most daemons never are."""
        return openapi_document(version=self._version)

    @cached_property
    def _page(self) -> str:
        return api_page(self._document)
