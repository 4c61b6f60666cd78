"""The headers of every answer that keep browsers from doing more with it than to show it."""

from __future__ import annotations

from aiohttp import web

_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_UNLESS_GIVEN = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


async def protect(_request: web.Request, response: web.StreamResponse) -> None:
    """As ``on_response_prepare`` of an application, which also comes before a stream begins.

    There is no CORS header: pages of other origins may not read anything.
    """
    response.headers.update(_ALWAYS)
    for name, value in _UNLESS_GIVEN.items():
        response.headers.setdefault(name, value)
