"""Values of the cache as they lie in Redis: JSON, compressed where that saves memory, validated when they come back."""

from __future__ import annotations

import zlib
from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json

_LEVEL = 1
"""Of zlib: three times as fast as its default, for a tenth more memory. zstd is in no Python before 3.14."""

_LARGEST_BYTES = 64 * 1024 * 1024
"""What is unpacked at most: a little that was written by others must not become a lot of memory."""

MISSING = b"null"
"""What is kept of a value that does not exist."""


class Unfit(ValueError):
    """What is kept is not, or not any more, what the caller takes."""


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A value as it is stored: ``field`` says how."""

    field: str
    content: bytes


def document_of(value: object) -> bytes:
    """The value as JSON; models by their aliases. Raises TypeError for what JSON cannot say."""
    try:
        return to_json(value, inf_nan_mode="strings")
    except PydanticSerializationError as error:
        raise TypeError(f"no value for the cache, which keeps JSON: {error}") from error


def packed(document: bytes, *, compress_over_bytes: int) -> Packed:
    if len(document) > compress_over_bytes:
        content = zlib.compress(document, _LEVEL)
        if len(content) < len(document):
            return Packed(field="zlib", content=content)
    return Packed(field="json", content=document)


def unpacked(*, json: bytes | None, compressed: bytes | None) -> bytes:
    """The JSON; raises Unfit for what is no compressed value of ours."""
    if json is not None:
        return json
    reader = zlib.decompressobj()
    try:
        document = reader.decompress(compressed or b"", _LARGEST_BYTES)
    except zlib.error as error:
        raise Unfit(str(error)) from error
    if not reader.eof:
        raise Unfit("it is cut off, or too large")
    return document


class Shape:
    """What a caller wants values to be: anything that pydantic can validate; None takes them as JSON has them."""

    def __init__(self, model: Any) -> None:
        self._adapter = None if model is None else _adapter_of(model)

    def read(self, document: bytes) -> Any:
        """Raises Unfit."""
        if document == MISSING:
            return None
        try:
            return from_json(document) if self._adapter is None else self._adapter.validate_json(document)
        except ValidationError as error:
            # Not its text, which has the value.
            raise Unfit(_places_of(error)) from error
        except ValueError as error:
            raise Unfit(str(error)) from error


def _adapter_of(model: Any) -> TypeAdapter[Any]:
    return _remembered_adapter_of(model) if isinstance(model, Hashable) else TypeAdapter(model)


@lru_cache(maxsize=256)
def _remembered_adapter_of(model: Any) -> TypeAdapter[Any]:
    return TypeAdapter(model)


def _places_of(error: ValidationError) -> str:
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'value'}: {each['msg']}" for each in problems[:3])
