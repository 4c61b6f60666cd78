"""Compression of answers that are long enough for it, in the coding that the asker likes best (RFC 9110, 12.5.3)."""

from __future__ import annotations

import asyncio
import gzip
import re
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache

from aiohttp import web

from skycap.http.errors import Handler

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SHORTEST_BYTES = 1024
"""What is shorter fits into one packet anyway."""

_IN_A_THREAD_FROM_BYTES = 65_536
"""A millisecond of compression, which would hold up the event loop."""
_GZIP_LEVEL = 4
"""Twice as fast as the usual 6, for a few per cent more bytes."""

_TYPE = re.compile(r"text/(?!event-stream)|application/([\w.-]+\+)?json$|application/openmetrics-text$")
_ITEM = re.compile(r"\s*([\w*-]+)\s*(?:;\s*q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*)?", re.ASCII | re.IGNORECASE)


def _zstd(body: bytes) -> bytes:
    return zstd.compress(body)


def _gzip(body: bytes) -> bytes:
    # Without the time, so that the same answer is the same bytes.
    return gzip.compress(body, _GZIP_LEVEL, mtime=0)


_CODINGS: Mapping[str, Callable[[bytes], bytes]] = {"zstd": _zstd, "gzip": _gzip}
"""Where the asker likes them equally, the first one is taken."""


@lru_cache(maxsize=256)  # the same few for nearly all requests
def coding_for(accept_encoding: str) -> str | None:
    """``zstd``, ``gzip``, or None to send the answer as it is. Items that are not understood say nothing."""
    wishes: dict[str, float] = {}
    for item in accept_encoding.lower().split(","):
        found = _ITEM.fullmatch(item)
        if found is not None:
            wishes[found[1].removeprefix("x-")] = float(found[2] or 1)
    others = wishes.get("*", 0.0)
    weights = {coding: wishes.get(coding, others) for coding in _CODINGS}
    best = max(weights, key=weights.__getitem__)
    # Who prefers the answer as it is gets it; who says nothing of it reads it, and likes it least.
    return best if weights[best] > 0 and weights[best] >= wishes.get("identity", 0.0) else None


@web.middleware
async def compressed(request: web.Request, handler: Handler) -> web.StreamResponse:
    """For answers that are whole: streams of events are left alone, and so is what has a coding already."""
    response = await handler(request)
    if isinstance(response, web.Response) and isinstance(response.body, bytes) and _is_worth_it(response):
        response.headers.add("Vary", "Accept-Encoding")
        coding = coding_for(request.headers.get("Accept-Encoding", ""))
        if coding is not None:
            await _compress(response, response.body, coding)
    return response


def _is_worth_it(response: web.Response) -> bool:
    return (
        not response.prepared
        and (response.content_length or 0) >= SHORTEST_BYTES
        and "Content-Encoding" not in response.headers
        and _TYPE.match(response.content_type) is not None
    )


async def _compress(response: web.Response, body: bytes, coding: str) -> None:
    compress = _CODINGS[coding]
    response.body = await asyncio.to_thread(compress, body) if len(body) >= _IN_A_THREAD_FROM_BYTES else compress(body)
    response.headers["Content-Encoding"] = coding
    tag = response.headers.get("ETag")
    if tag is not None and not tag.startswith("W/"):
        # A strong tag would name the very bytes.
        response.headers["ETag"] = f"W/{tag}"
