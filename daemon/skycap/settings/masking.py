"""How values are shown to people: shortened, in one line, and masked where they look secret."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

MASK = "***"

_LONGEST_SHOWN = 60

_SECRET_NAME = re.compile(
    r"(^|[_-])(auth|credential|dsn|key|passphrase|passwd|password|secret|token)s?($|[_-])", re.IGNORECASE
)
_PASSWORD_IN_URL = re.compile(r"(://[^/?#\s]*?:)[^/?#\s]*@")


def quoted(text: str) -> str:
    """``text`` in quotes and in one line, cut where it is long."""
    shown = json.dumps(text, ensure_ascii=False)
    return shown if len(shown) <= _LONGEST_SHOWN else f'{shown[:_LONGEST_SHOWN]}…"'


def number_text(number: object) -> str:
    """``1`` for 1.0, as a person writes it."""
    return str(int(number)) if isinstance(number, float) and number.is_integer() else str(number)


def looks_secret(name: str) -> bool:
    """Whether a key of this name is likely to hold a secret: ``api_key``, ``password``, ``token``."""
    return _SECRET_NAME.search(name) is not None


def masked_table(table: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with ``***`` for each value whose name looks secret, and for each password in an address."""
    return {name: MASK if looks_secret(name) else _masked(value) for name, value in table.items()}


def _masked(value: object) -> object:
    if isinstance(value, Mapping):
        return masked_table(cast("Mapping[str, Any]", value))
    if isinstance(value, str):
        return _PASSWORD_IN_URL.sub(rf"\g<1>{MASK}@", value)
    if isinstance(value, Sequence):
        return [_masked(item) for item in cast("Sequence[object]", value)]
    return value
