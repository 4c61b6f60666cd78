"""Traces: a request that enqueues goes on the trace of whoever sent it, and its jobs go on that one."""

from __future__ import annotations

from aiohttp import web

from skycap import tracing
from skycap.http.errors import Handler
from skycap.tracing import carried_by, carried_from_here

CARRIED = web.RequestKey("carried", dict[str, str])
"""The labels that a job of this request gets, unless its own say otherwise."""


@web.middleware
async def traced(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Of what only reads there is nothing to trace, and probes do so every few seconds."""
    if request.method in {"GET", "HEAD"}:
        return await handler(request)
    came_with = carried_by(request.headers)
    resource = request.match_info.route.resource
    route = "" if resource is None else resource.canonical
    with tracing.span(
        f"{request.method} {route}".rstrip(),
        kind="server",
        carried=came_with,
        attributes={"http.request.method": request.method, "http.route": route},
    ) as span:
        request[CARRIED] = carried_from_here() or came_with
        response = await handler(request)
        span.set("http.response.status_code", response.status)
        return response
