"""Turns what pydantic found wrong into one line each: where it was written, the key, what is wrong, and the fix.

As in ``/etc/skycap/skycap.toml: queues.email.concurrency: -3 is not at least 1; give a whole number from 1 to 1000``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from skycap.settings.addresses import Address
from skycap.settings.layers import Key, Provenance
from skycap.settings.masking import looks_secret, number_text, quoted
from skycap.settings.retries import FORMS
from skycap.settings.tree import (
    choices_of,
    field_at,
    fields_under,
    has_entries,
    is_list,
    kinds_of,
    range_of,
)

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_NUMBER = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?")
_NO_PART_OF_A_KEY = frozenset({"[key]", *FORMS})
_NO_TABLE = frozenset({"dict_type", "model_attributes_type", "model_type"})
_COMPLAINTS = {
    "bool_parsing": "is neither true nor false",
    "bool_type": "is neither true nor false",
    "finite_number": "is no number",
    "float_parsing": "is no number",
    "float_type": "is no number",
    "int_from_float": "is no whole number",
    "int_parsing": "is no whole number",
    "int_type": "is no whole number",
    "list_type": "is no list",
    "literal_error": "is none of the choices",
    "string_too_short": "is too short",
    "string_type": "is no text",
}


def problems_of(error: ValidationError, provenance: Provenance) -> Iterator[str]:
    """One line for each problem, never with a secret in it."""
    for details in error.errors(include_url=False):
        key = tuple(str(part) for part in details["loc"] if part not in _NO_PART_OF_A_KEY)
        yield f"{provenance.nearest_origin(key)}: {_spelt(key)}: {_sentence(details, key)}"


def _sentence(details: ErrorDetails, key: Key) -> str:
    """What is wrong, and after a semicolon the fix."""
    kind = details["type"]
    if kind == "extra_forbidden":
        return f"is no setting; {_nearest(key)}"
    if kind == "string_pattern_mismatch":
        return "is no name; write lower-case words joined by hyphens, like price-alerts"
    if kind == "value_error":
        return details["msg"].removeprefix("Value error, ")
    field = field_at(key) or field_at(key[:-1])
    value = _shown(details["input"], secret=field is None or _is_secret(key, field))
    if field is None or kind in _NO_TABLE:
        return f"{value} is no table; write its keys below [{_header(key)}]"
    return f"{value} {_complaint(kind, details.get('ctx', {}))}; {_wanted(field)}"


def _complaint(kind: str, limits: Mapping[str, object]) -> str:
    """What is wrong with a value, without what would be right."""
    match kind:
        case "greater_than_equal":
            return f"is not at least {number_text(limits['ge'])}"
        case "less_than_equal":
            return f"is more than {number_text(limits['le'])}"
        case "string_too_long":
            return f"is longer than {limits['max_length']} characters"
        case _:
            return _COMPLAINTS.get(kind, "does not fit")


def _wanted(field: FieldInfo) -> str:
    """What to give instead, from the field's own type and range."""
    kinds, choices = kinds_of(field), choices_of(field)
    if choices:
        return f"give {', '.join(choices[:-1])} or {choices[-1]}"
    if bool in kinds:
        return "give true or false"
    if int in kinds or float in kinds:
        number = f"give a {'whole ' if int in kinds else ''}number {range_of(field)}".rstrip()
        return f"{number}, or a list of such" if is_list(field) else number
    if is_list(field):
        return 'give a list of names, like ["one", "two"]'
    return "give text, in quotes"


def _nearest(key: Key) -> str:
    """The setting that was probably meant, or all that there are."""
    known = sorted(fields_under(key[:-1]))
    near = difflib.get_close_matches(key[-1], known, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"known {f'in [{_spelt(key[:-1])}]' if key[:-1] else 'here'}: {', '.join(known)}"


def _header(key: Key) -> str:
    field = field_at(key)
    return f"{_spelt(key)}.NAME" if field is not None and has_entries(field) else _spelt(key)


def _is_secret(key: Key, field: FieldInfo) -> bool:
    holds_secrets = any(isinstance(kind, type) and issubclass(kind, Address | SecretStr) for kind in kinds_of(field))
    # The keys of a limit are no secrets: they say what it counts by.
    return holds_secrets or key[0] == "plugins" or (key[0] != "limits" and looks_secret(key[-1]))


def _shown(value: object, *, secret: bool) -> str:
    if secret:
        return "the value"
    if isinstance(value, str):
        # All that comes from the environment is text; a number there needs no quotes to be recognised.
        return value if _NUMBER.fullmatch(value) else quoted(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a table"
    return str(value)


def _spelt(key: Key) -> str:
    """The key as TOML writes it."""
    return ".".join(part if _BARE_KEY.fullmatch(part) else quoted(part) for part in key)
