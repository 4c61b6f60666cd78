"""The shape of Settings, for those who go by names: environment variables, suggestions and the reference."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Literal, Union

from pydantic.fields import FieldInfo

from skycap.settings.layers import Key
from skycap.settings.model import Settings
from skycap.settings.section import Section


def section_of(field: FieldInfo) -> type[Section] | None:
    """The model of a field that is a table, like ``[redis]``."""
    return _section(field.annotation)


def entry_of(field: FieldInfo) -> type[Section] | None:
    """The model of each entry of a field that is a table of tables, like ``[queues.NAME]``."""
    return _section(typing.get_args(field.annotation)[1]) if has_entries(field) else None


def has_entries(field: FieldInfo) -> bool:
    """Whether a field is a table of tables by name: queues, jobs and plugins."""
    return typing.get_origin(field.annotation) is dict


def is_list(field: FieldInfo) -> bool:
    """Whether a field is a list."""
    return any(typing.get_origin(kind) is list for kind in kinds_of(field))


def kinds_of(field: FieldInfo) -> tuple[object, ...]:
    """The types that a field can have, without None."""
    is_union = typing.get_origin(field.annotation) in {Union, UnionType}
    members = typing.get_args(field.annotation) if is_union else (field.annotation,)
    return tuple(member for member in members if member is not NoneType)


def choices_of(field: FieldInfo) -> tuple[str, ...]:
    """The words that a field can have, when there are only some."""
    return tuple(
        word for kind in kinds_of(field) if typing.get_origin(kind) is Literal for word in typing.get_args(kind)
    )


def range_of(field: FieldInfo) -> str:
    """``from 1 to 1000``, or nothing where there are no limits."""
    limits = {
        side: number_text(getattr(limit, side))
        for limit in field.metadata
        for side in ("ge", "le")
        if getattr(limit, side, None) is not None
    }
    return " ".join(f"{word} {limits[side]}" for word, side in (("from", "ge"), ("to", "le")) if side in limits)


def number_text(number: object) -> str:
    """``1`` for 1.0, as a person writes it."""
    return str(int(number)) if isinstance(number, float) and number.is_integer() else str(number)


def fields_under(key: Key) -> Mapping[str, FieldInfo]:
    """The settings that a table can have, by name; none where any name is possible, or ``key`` is no table."""
    if not key:
        return Settings.model_fields
    field = Settings.model_fields.get(key[0])
    if field is None:
        return {}
    section = {1: section_of(field), 2: entry_of(field)}.get(len(key))
    return section.model_fields if section is not None else {}


def field_at(key: Key) -> FieldInfo | None:
    """The field of one setting."""
    return fields_under(key[:-1]).get(key[-1]) if key else None


def _section(annotation: object) -> type[Section] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None
