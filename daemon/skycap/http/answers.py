"""Answers in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web
from pydantic_core import to_json

_COMPRESSED_FROM_BYTES = 1024


def json_answer(
    request: web.Request, document: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """The document as JSON; compressed when it is long and the asker reads gzip."""
    return json_text_answer(request, to_json(document), status=status, headers=headers)


def json_text_answer(
    request: web.Request, body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """As ``json_answer``, of what is JSON already."""
    response = web.Response(body=body, status=status, headers=headers, content_type="application/json", charset="utf-8")
    if len(body) > _COMPRESSED_FROM_BYTES:
        response.headers["Vary"] = "Accept-Encoding"
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            response.enable_compression(web.ContentCoding.gzip)
    return response
