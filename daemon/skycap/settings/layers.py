"""Layers: the values of each place that settings come from, and which place each value was read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from skycap.settings.invalid import InvalidSettings

Key = tuple[str, ...]
"""The way to one setting: ``("queues", "email", "concurrency")``."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What one place says: nested ``values``, and in ``origins`` the name of the file or variable of each key.

    The origin of a key without one is that of the nearest key above it.
    """

    values: dict[str, Any] = field(default_factory=dict[str, Any], repr=False)
    origins: dict[Key, str] = field(default_factory=dict[Key, str])

    def put(self, key: Key, value: object, origin: str) -> None:
        """Set one key; raises InvalidSettings when it, or a key above or below it, is set already."""
        table = self.values
        for part in key[:-1]:
            below = table.setdefault(part, {})
            if not isinstance(below, dict):
                raise self._clash(key, origin)
            table = cast("dict[str, Any]", below)
        if key[-1] in table:
            raise self._clash(key, origin)
        table[key[-1]] = value
        self.origins[key] = origin

    def has(self, key: Key) -> bool:
        value: object = self.values
        for part in key:
            if not isinstance(value, Mapping) or part not in value:
                return False
            value = cast("Mapping[str, object]", value)[part]
        return True

    def origin(self, key: Key) -> str:
        """Where this layer has ``key`` from; a key that is a table answers with the first of what is in it."""
        for length in range(len(key), -1, -1):
            if key[:length] in self.origins:
                return self.origins[key[:length]]
        return next(origin for at, origin in self.origins.items() if at[: len(key)] == key)

    def _clash(self, key: Key, origin: str) -> InvalidSettings:
        other = next(name for at, name in self.origins.items() if at == key[: len(at)] or at[: len(key)] == key)
        return InvalidSettings(f"{origin}: {'.'.join(key)}: {other} sets it too; leave one of the two out")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where settings were read from: ``layers``, highest first, and the configuration file if there is one.

    Any two are equal, so that settings are compared by their values alone.
    """

    layers: tuple[Layer, ...] = field(default=(), compare=False)
    config_file: Path | None = field(default=None, compare=False)
    has_upstash_rest: bool = field(default=False, compare=False)

    def origin(self, key: Key) -> str | None:
        """The file or variable that decides ``key``; None when nothing sets it."""
        return next((layer.origin(key) for layer in self.layers if layer.has(key)), None)

    def nearest_origin(self, key: Key) -> str:
        """As ``origin``, of the key or the nearest one above it that is set: who can repair a problem there."""
        for length in range(len(key), 0, -1):
            origin = self.origin(key[:length])
            if origin is not None:
                return origin
        return "settings"
