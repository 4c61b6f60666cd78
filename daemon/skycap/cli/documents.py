"""Documents for programs: JSON with members in camelCase and moments in UTC, as the HTTP side writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from typing import Any


def camel(name: str) -> str:
    """``oldest_age`` as ``oldestAge``."""
    first, *others = name.split("_")
    return first + "".join(word.title() for word in others)


def document_of(found: Any) -> dict[str, Any]:
    """The fields of a dataclass, and of those in it; a duration's name says that it is in seconds."""
    return dict(_member(field.name, getattr(found, field.name)) for field in fields(found))


def row_document(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a table with its columns as members."""
    return dict(_member(name, value) for name, value in row.items())


def json_text(document: object, *, indent: int | None = 2) -> str:
    return json.dumps(document, ensure_ascii=False, indent=indent, default=_plain)


def _member(name: str, value: Any) -> tuple[str, Any]:
    if isinstance(value, timedelta):
        return f"{camel(name)}Seconds", value.total_seconds()
    return camel(name), _value(value)


def _value(value: Any) -> Any:
    if is_dataclass(value):
        return document_of(value)
    if isinstance(value, list | tuple):
        return [_value(each) for each in value]  # pyright: ignore[reportUnknownVariableType] - of whatever
    return value


def _plain(value: object) -> Any:
    if isinstance(value, datetime):
        in_utc = value if value.tzinfo is None else value.astimezone(UTC)
        return in_utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return value.total_seconds() if isinstance(value, timedelta) else str(value)
