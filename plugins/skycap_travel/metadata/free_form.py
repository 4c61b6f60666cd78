"""Free form: finds what several generations of the backend have called a thing in a booking's metaData."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeVar, cast

T = TypeVar("T")

_MOST_KEYS: Final = 200
"""Keys of an object that is searched for other spellings; a larger one is a table, and describes nothing."""


def first(source: Mapping[str, object], paths: tuple[str, ...], read: Callable[[object], T | None]) -> T | None:
    """What ``read`` makes of the first of ``paths`` of which it makes anything; a dot leads into an object.

    ``paidAt`` also finds ``paid_at`` and ``PaidAt``.
    """
    return next((found for value in values(source, paths) if (found := read(value)) is not None), None)


def values(source: Mapping[str, object], paths: tuple[str, ...]) -> Iterator[object]:
    """Everything that stands at ``paths``, in their order."""
    for path in paths:
        key, _, rest = path.partition(".")
        value = _get(source, key)
        if not rest:
            if value is not None:
                yield value
        elif isinstance(value, dict):
            yield from values(cast("dict[str, object]", value), (rest,))


def folded(key: str) -> str:
    """``paid_at``, ``paidAt`` and ``Paid-At`` as one."""
    return key.replace("_", "").replace("-", "").lower()


def _get(source: Mapping[str, object], key: str) -> object:
    if key in source or len(source) > _MOST_KEYS:
        return source.get(key)
    wanted = folded(key)
    return next((value for name, value in source.items() if folded(name) == wanted), None)
