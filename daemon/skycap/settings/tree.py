"""The shape of Settings, for those who go by names: environment variables, suggestions and the reference."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Literal, Union

from pydantic.fields import FieldInfo

from skycap.settings.layers import Key
from skycap.settings.masking import number_text
from skycap.settings.model import Settings
from skycap.settings.section import Section


def section_of(field: FieldInfo) -> type[Section] | None:
    """The model of a field that is a table, like ``[redis]``."""
    return _section(field.annotation)


def entry_of(field: FieldInfo) -> type[Section] | None:
    """The model of each entry of a field that is a table of tables, like ``[queues.NAME]``."""
    return _section(typing.get_args(field.annotation)[1]) if has_entries(field) else None


def has_entries(field: FieldInfo) -> bool:
    """Whether a field is a table of tables by name: queues, jobs, limits, plugins."""
    return typing.get_origin(field.annotation) is dict


def is_list(field: FieldInfo) -> bool:
    """Whether a field is a list, or can be one."""
    return any(typing.get_origin(kind) is list for kind in kinds_of(field))


def is_table(field: FieldInfo) -> bool:
    """Whether a field can be a table whose keys are not ours."""
    return any(typing.get_origin(kind) is dict for kind in kinds_of(field))


def kinds_of(field: FieldInfo) -> tuple[object, ...]:
    """The types that a field can have, without None."""
    return tuple(kind for kind, _ in _members(field.annotation))


def choices_of(field: FieldInfo) -> tuple[str, ...]:
    """The words that a field can have, when there are only some."""
    return tuple(
        word for kind in kinds_of(field) if typing.get_origin(kind) is Literal for word in typing.get_args(kind)
    )


def range_of(field: FieldInfo) -> str:
    """``from 1 to 1000``, or nothing where there are no limits."""
    metadata = [*field.metadata, *(extra for _, extras in _members(field.annotation) for extra in extras)]
    limits = {
        side: number_text(getattr(limit, side))
        for limit in metadata
        for side in ("ge", "le")
        if getattr(limit, side, None) is not None
    }
    return " ".join(f"{word} {limits[side]}" for word, side in (("from", "ge"), ("to", "le")) if side in limits)


def fields_under(key: Key) -> Mapping[str, FieldInfo]:
    """The settings that a table can have, by name; none where any name is possible, or ``key`` is no table."""
    fields: Mapping[str, FieldInfo] = Settings.model_fields
    parts = iter(key)
    for part in parts:
        field = fields.get(part)
        if field is None:
            return {}
        if has_entries(field) and next(parts, None) is None:
            return {}
        section = entry_of(field) or section_of(field)
        fields = section.model_fields if section is not None else {}
    return fields


def field_at(key: Key) -> FieldInfo | None:
    """The field of one setting."""
    return fields_under(key[:-1]).get(key[-1]) if key else None


def _section(annotation: object) -> type[Section] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None


def _members(annotation: object, extras: tuple[object, ...] = ()) -> Iterator[tuple[object, tuple[object, ...]]]:
    """The types of a union other than None, each with what ``Annotated`` says of it."""
    if typing.get_origin(annotation) is Annotated:
        inner, *added = typing.get_args(annotation)
        more = [item for extra in added for item in (extra.metadata if isinstance(extra, FieldInfo) else [extra])]
        yield from _members(inner, (*extras, *more))
    elif typing.get_origin(annotation) in {Union, UnionType}:
        for member in typing.get_args(annotation):
            yield from _members(member, extras)
    elif annotation is not NoneType:
        yield annotation, extras
