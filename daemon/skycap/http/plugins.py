"""``/api/plugins``: what is loaded, from where, and what could not be."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from skycap.http.access import needs
from skycap.http.answers import json_answer
from skycap.http.scopes import Scope
from skycap.registry import LoadedPlugin


class PluginRoutes:
    """The plugins of this daemon, as they were found when it started."""

    def __init__(self, plugins: Sequence[LoadedPlugin]) -> None:
        self._plugins = plugins

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/api/plugins", self.list)

    @needs(Scope.READ)
    async def list(self, _request: web.Request) -> web.Response:
        found = [
            {
                "plugin": each.name,
                "version": each.version or None,
                "origin": each.origin,
                "kinds": list(each.kinds),
                "error": each.error,
            }
            for each in self._plugins
        ]
        return json_answer({"plugins": found})
