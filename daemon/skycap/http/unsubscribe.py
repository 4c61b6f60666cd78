"""Unsubscribe: the page behind the link in a mail, and the one click of a mail program (RFC 8058)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, Protocol

import structlog
from aiohttp import web

from skycap.errors import Unavailable
from skycap.http.allowance import Allowance
from skycap.services.unsubscribe_links import Link

_log = structlog.get_logger("skycap.http")

PAGE = "unsubscribe/page.html.j2"

STOPS_PER_SECOND = 20
"""What one daemon takes of them; a mail program that is told 429 comes again."""

_LARGEST_BODY_BYTES = 16 * 1024
_LIMIT_SECONDS = 15.0
_RETRY_SECONDS = 30

_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)

State = Literal["ask", "stopped", "unknown", "later", "failed"]
Act = Callable[[web.Request, Link], Awaitable[web.Response]]


class Subscriptions(Protocol):
    """See skycap.services.subscriptions."""

    async def find(self, token: str) -> Link | None:
        """None for a token that is not ours, without asking the database, and for one that is unknown."""
        ...

    async def stop(self, link: Link) -> None: ...


class Pages(Protocol):
    """What makes a page of a template; raises TemplateFailed."""

    def page(self, template: str, *, locale: str | None, variables: Mapping[str, object]) -> str: ...


class UnsubscribeRoutes:
    """``/unsubscribe/TOKEN``. GET only shows a page, since programs that look for malware follow links; POST stops.

    Nothing of what is asked for is logged: the path is the token, and who has that can unsubscribe its guest.
    """

    def __init__(
        self, subscriptions: Subscriptions, pages: Pages, *, stops_per_second: float = STOPS_PER_SECOND
    ) -> None:
        self._subscriptions = subscriptions
        self._pages = pages
        self._allowance = Allowance(stops_per_second)

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/unsubscribe/{token}", self.ask)
        router.add_post("/unsubscribe/{token}", self.stop)

    async def ask(self, request: web.Request) -> web.Response:
        """What would be stopped, and a button that does it."""
        return await self._answer(request, self._asked)

    async def stop(self, request: web.Request) -> web.Response:
        """200 the first time and every other time: whoever asks twice wants the same."""
        return await self._answer(request, self._stopped)

    async def _asked(self, _request: web.Request, link: Link) -> web.Response:
        return self._page("ask", link)

    async def _stopped(self, request: web.Request, link: Link) -> web.Response:
        await _read_to_the_end(request)
        if self._allowance.take():
            return self._page("later", link, status=429, retry_after_seconds=1)
        await self._subscriptions.stop(link)
        return self._page("stopped", link)

    async def _answer(self, request: web.Request, act: Act) -> web.Response:
        # All errors end here: what answers those of other routes would log the path.
        try:
            async with asyncio.timeout(_LIMIT_SECONDS):
                link = await self._subscriptions.find(request.match_info["token"])
                return self._page("unknown", status=404) if link is None else await act(request, link)
        except (Unavailable, TimeoutError):
            return self._page("later", status=503, retry_after_seconds=_RETRY_SECONDS)
        except (ConnectionError, web.RequestPayloadError):
            return self._page("failed", status=400)  # the asker broke off and reads no answer
        except web.HTTPException:
            raise
        except Exception:  # noqa: BLE001 - a plugin may raise anything, and the guest is owed an answer
            _log.exception("a guest could not be unsubscribed")
            return self._page("failed", status=500)

    def _page(
        self, state: State, link: Link | None = None, *, status: int = 200, retry_after_seconds: int | None = None
    ) -> web.Response:
        variables = {"state": state, "plugin": link.plugin if link else None}
        html = self._pages.page(PAGE, locale=link.locale if link else None, variables=variables)
        headers = {
            "Content-Security-Policy": _policy(html),
            "Referrer-Policy": "no-referrer",
            "X-Robots-Tag": "noindex, nofollow",
        }
        if retry_after_seconds is not None:
            headers["Retry-After"] = str(retry_after_seconds)
        return web.Response(text=html, status=status, content_type="text/html", charset="utf-8", headers=headers)


async def _read_to_the_end(request: web.Request) -> None:
    """Whatever it says, since the token says all; a mail program sends ``List-Unsubscribe=One-Click``."""
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
        if size > _LARGEST_BODY_BYTES:
            raise web.HTTPRequestEntityTooLarge(max_size=_LARGEST_BODY_BYTES, actual_size=size)


def _policy(html: str) -> str:
    """A browser fetches and runs nothing, and takes the one style that the page itself has."""
    hashes = (base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() for style in _STYLE.findall(html))
    styles = " ".join(f"'sha256-{digest}'" for digest in hashes) or "'none'"
    return f"default-src 'none'; style-src {styles}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
