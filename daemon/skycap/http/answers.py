"""Answers in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web
from pydantic_core import to_json


def json_answer(document: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return json_text_answer(to_json(document), status=status, headers=headers)


def json_text_answer(body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """As ``json_answer``, of what is JSON already."""
    return web.Response(body=body, status=status, headers=headers, content_type="application/json", charset="utf-8")
