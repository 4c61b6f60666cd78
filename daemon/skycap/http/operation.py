"""Operation: one thing that can be asked of the API, as its description has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from skycap.http.errors import (
    BAD_REQUEST,
    BUSY,
    INVALID_REQUEST,
    NOT_JSON,
    TIMEOUT,
    TOO_INTRICATE,
    TOO_LARGE,
    TOO_SLOW,
    UNAVAILABLE,
    UNSUPPORTED,
    ErrorType,
)
from skycap.http.scopes import Scope

WITH_REDIS = (UNAVAILABLE, TIMEOUT)
WITH_BODY = (BAD_REQUEST, NOT_JSON, TOO_INTRICATE, INVALID_REQUEST, TOO_SLOW, TOO_LARGE, UNSUPPORTED, BUSY)


@dataclass(frozen=True, kw_only=True)
class Operation:
    """``body`` is None where none is read, and may be left out unless ``needs_body``."""

    method: str
    path: str
    name: str
    summary: str
    scopes: tuple[Scope, ...]
    answers: Mapping[int, tuple[str, type[BaseModel] | None]]
    errors: tuple[ErrorType, ...] = ()
    parameters: tuple[Mapping[str, Any], ...] = ()
    body: type[BaseModel] | None = None
    needs_body: bool = True
    streams: bool = False


def path_parameter(name: str, description: str, *, pattern: str = "^[A-Za-z0-9._-]{1,100}$") -> Mapping[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": pattern},
        "description": description,
    }


def query_parameters(model: type[BaseModel]) -> tuple[Mapping[str, Any], ...]:
    """What a request may have behind the question mark; none of it is required."""
    schema = model.model_json_schema()
    return tuple(
        {
            "name": name,
            "in": "query",
            "required": False,
            "schema": _of_text(field, schema.get("$defs", {})),
            "description": field.get("description", ""),
        }
        for name, field in schema["properties"].items()
    )


def _of_text(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is not given is left out: there is no null in a URL."""
    given = next((each for each in field.get("anyOf", ()) if each.get("type") != "null"), field)
    named = definitions.get(given.get("$ref", "").rpartition("/")[2], given)
    return {name: value for name, value in named.items() if name not in {"description", "title", "default"}}
