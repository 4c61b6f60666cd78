"""Which settings hold secrets, told by their values; of plugins' settings, by their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from pydantic import SecretStr

from skycap.settings.addresses import Address
from skycap.settings.masking import MASK, looks_secret, masked_table
from skycap.settings.section import Section


def secret_keys(values: Mapping[str, Any]) -> Iterator[str]:
    """The dotted keys of ``values``, which are the fields of Settings by name."""
    for name, value in values.items():
        if name == "plugins":
            yield from _of_plugins(cast("Mapping[str, Mapping[str, Any]]", value))
        elif isinstance(value, Section):
            held: dict[str, Any] = {key: kept for key, kept in value}  # noqa: C416 - dict() would ask its `keys`, a setting
            if name == "smtp" and held["password"] is not None:
                del held["url"]  # by now it has that password, wherever the address itself was written
            yield from (f"{name}.{key}" for key, kept in held.items() if _is_secret(kept))


def _of_plugins(tables: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for plugin, table in tables.items():
        masked = masked_table(table)
        yield from (f"plugins.{plugin}.{key}" for key in table if looks_secret(key) or masked[key] != table[key])


def _is_secret(value: object) -> bool:
    match value:
        case SecretStr():
            return True
        case Address():
            return MASK in str(value)
        case list():
            return any(map(_is_secret, cast("list[object]", value)))
        case _:
            return False
