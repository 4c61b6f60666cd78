"""``/``: the page for whoever looks after the fleet. It has no script; the browser is told when to ask again."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp import web

from skycap.http.access import needs_elsewhere
from skycap.http.scopes import Scope

if TYPE_CHECKING:
    from skycap.display.situation import Situation

REFRESH_SECONDS = 10
_SHORTEST_SECONDS, _LONGEST_SECONDS = 2, 3600


class PageRoutes:
    """``look`` never fails, and takes less than two seconds."""

    def __init__(self, look: Callable[[], Awaitable[Situation]]) -> None:
        self._look = look

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/", self.page)

    @needs_elsewhere(Scope.READ)
    async def page(self, request: web.Request) -> web.Response:
        """200 whatever is wrong: what cannot be told is told to be unknown."""
        refresh_seconds = _refresh_seconds(request.query.get("refresh", ""))
        situation = await self._look()
        # In a thread, since the first time the template engine is loaded: daemons whose page nobody sees go without.
        html, policy = await asyncio.to_thread(_rendered, situation, refresh_seconds)
        headers = {
            "Cache-Control": "no-store",
            "Content-Security-Policy": policy,
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        if refresh_seconds:
            headers["Refresh"] = str(refresh_seconds)
        return web.Response(text=html, content_type="text/html", charset="utf-8", headers=headers)


def _rendered(situation: Situation, refresh_seconds: int) -> tuple[str, str]:
    from skycap.display.page import POLICY, page

    return page(situation, refresh_seconds=refresh_seconds), POLICY


def _refresh_seconds(asked: str) -> int:
    """0 for never; what makes no sense is as good as not asked."""
    if not re.fullmatch(r"[0-9]{1,6}", asked):
        return REFRESH_SECONDS
    seconds = int(asked)
    return 0 if seconds == 0 else min(max(seconds, _SHORTEST_SECONDS), _LONGEST_SECONDS)
