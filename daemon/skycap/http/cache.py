"""``/api/system/cache-stats``: how much the cache helps, for the whole fleet and for this daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from skycap.http.access import needs_elsewhere
from skycap.http.scopes import Scope
from skycap.services.cache import CacheService
from skycap.services.cache_figures import Figures, total_of

_LIMIT_SECONDS = 2.0


class CacheRoutes:
    """The dashboards read ``hits``, ``misses``, ``hitRate`` and ``totalRequests``; what is beside them is ours."""

    def __init__(self, cache: CacheService) -> None:
        self._cache = cache

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/api/system/cache-stats", self.stats)

    @needs_elsewhere(Scope.READ)
    async def stats(self, _request: web.Request) -> web.Response:
        """Of the fleet; where Redis is away, of this daemon alone, and ``scope`` says so."""
        fleet = await fleet_figures(self._cache)
        own = self._cache.own_figures()
        return web.json_response(cache_document(fleet, own), headers={"Cache-Control": "no-store"})


async def fleet_figures(cache: CacheService) -> dict[str, Figures] | None:
    """None when they are not known within two seconds."""
    try:
        async with asyncio.timeout(_LIMIT_SECONDS):
            return await cache.fleet_figures()
    except TimeoutError:
        return None


def cache_document(fleet: Mapping[str, Figures] | None, own: Mapping[str, Figures]) -> dict[str, Any]:
    return {
        **_of_all(own if fleet is None else fleet),
        "scope": "worker" if fleet is None else "fleet",
        "worker": _of_all(own),
    }


def _of_all(figures: Mapping[str, Figures]) -> dict[str, Any]:
    return {
        **_document(total_of(figures)),
        "namespaces": {namespace: _document(each) for namespace, each in figures.items()},
    }


def _document(figures: Figures) -> dict[str, Any]:
    return {
        "hits": figures.hits,
        "misses": figures.misses,
        "hitRate": round(figures.hit_rate, 4),
        "totalRequests": figures.requests,
        "loads": figures.loads,
        "errors": figures.errors,
    }
