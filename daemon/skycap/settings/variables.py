"""Which environment variable means which setting: ``SKYCAP_<SECTION>_<KEY>``.

    SKYCAP_REDIS_URL                                 redis.url
    SKYCAP_QUEUES_EMAIL_CONCURRENCY                  queues.email.concurrency
    SKYCAP_JOBS_SEND_BOOKING_CONFIRMATION_ATTEMPTS   jobs.send-booking-confirmation.attempts
    SKYCAP_LIMITS_RECIPIENT_DOMAIN_RATE_MAX          limits.recipient-domain.rate_max
    SKYCAP_PLUGINS_WELCOME_ENABLED                   plugins.welcome.enabled
    SKYCAP_PLUGINS__PRICE_ALERTS__MAX_AGE            plugins.price-alerts.max_age

Two underscores between the parts are understood everywhere, and needed where a plugin's name has a hyphen.
``_FILE`` after any of them names a file whose content is the value.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic.fields import FieldInfo

from skycap.settings.breakers import BACKEND_BREAKERS
from skycap.settings.layers import Key
from skycap.settings.model import Settings
from skycap.settings.queues import BACKEND_QUEUES
from skycap.settings.tree import entry_of, field_at, fields_under, has_entries, is_list, is_table, kinds_of, section_of

PREFIX = "SKYCAP_"
_FROM_FILE = "_FILE"

PROCESS_VARIABLES = frozenset({"SKYCAP_CHECKOUT", "SKYCAP_CONFIG", "SKYCAP_NO_SKIP"})
"""Variables that are no settings: where the configuration is, and what ``./skycap`` and the tests go by."""
PROCESS_PREFIXES = ("SKYCAP_BENCH_",)


@dataclass(frozen=True, kw_only=True)
class Variable:
    """The setting that a variable means, and whether its value is the name of a file."""

    key: Key
    from_file: bool = False


def is_setting(name: str) -> bool:
    """Whether a variable is ours to understand."""
    return name.startswith(PREFIX) and name not in PROCESS_VARIABLES and not name.startswith(PROCESS_PREFIXES)


def understood(name: str) -> Variable | None:
    """What a variable means, with its prefix; None when nothing is called so."""
    rest = name.removeprefix(PREFIX)
    key = _key(rest)
    if key is not None and field_at(key) is not None:
        return Variable(key=key)
    # Before a plugin's own key, which could have any name: `…_FILE` means the same everywhere.
    if rest.endswith(_FROM_FILE) and (key_of_file := _key(rest.removesuffix(_FROM_FILE))) is not None:
        return Variable(key=key_of_file, from_file=True)
    return None if key is None else Variable(key=key)


def variable_name(key: Key) -> str:
    """The variable that means ``key``."""
    return PREFIX + "_".join(key).upper().replace("-", "_")


def suggestion(name: str) -> str:
    """What to do about a variable that means nothing, after a semicolon."""
    near = difflib.get_close_matches(name.upper(), [variable_name(key) for key in _usual_keys()], n=1, cutoff=0.75)
    return f"did you mean {near[0]}?" if near else "unset it, or see `skycap config reference` for the names"


def value_of(key: Key, text: str) -> object:
    """The value that ``text`` means: a list is JSON or words between commas, a table is JSON; else raises ValueError.

    What a plugin's key is, only the plugin knows: JSON lists and tables are read, all else stays text.
    """
    if key[0] == "plugins":
        return _json_or_text(text)
    field = field_at(key)
    if field is not None and (has_entries(field) or is_table(field)):
        return _json(text, 'is no JSON table; write {"NAME": {"KEY": VALUE}}')
    return _listed(text, field) if field is not None and is_list(field) else text


def _key(rest: str) -> Key | None:
    if rest != rest.upper():
        return None
    return _key_of_parts(rest.lower().split("__")) if "__" in rest else _key_of_words(rest.lower())


def _key_of_parts(parts: list[str]) -> Key | None:
    """Of ``queues__email__concurrency``."""
    section, *tail = parts
    field = Settings.model_fields.get(section)
    if field is None or not all(tail):
        return None
    if not has_entries(field):
        key = (section, *tail)
        return key if field_at(key) is not None else None
    if len(tail) < 2:  # noqa: PLR2004 - a name and a key
        return None
    key = (section, tail[0].replace("_", "-"), *tail[1:])
    return key if entry_of(field) is None or field_at(key) is not None else None


def _key_of_words(words: str) -> Key | None:
    """Of ``queues_email_concurrency``, where only the settings' own names tell the parts apart."""
    field = Settings.model_fields.get(words)
    if field is not None:
        return (words,) if section_of(field) is None and not has_entries(field) else None
    for section, candidate in Settings.model_fields.items():
        if words.startswith(f"{section}_"):
            key = _key_under(section, candidate, words.removeprefix(f"{section}_"))
            if key is not None:
                return key
    return None


def _key_under(section: str, field: FieldInfo, words: str) -> Key | None:
    if not has_entries(field):
        return (section, words) if words in fields_under((section,)) else None
    entry = entry_of(field)
    if entry is None:
        name, _, key = words.partition("_")
        return (section, name, key) if name and key else None
    # The longest first: fleet_concurrency ends as concurrency does.
    for key in sorted(entry.model_fields, key=len, reverse=True):
        name = words.removesuffix(f"_{key}")
        if name and name != words:
            return (section, name.replace("_", "-"), key)
    return None


def _usual_keys() -> Iterator[Key]:
    """Every key that has a name of its own, and those of the queues that there are without configuration."""
    for name, field in Settings.model_fields.items():
        section = section_of(field)
        if section is not None:
            yield from ((name, key) for key in section.model_fields)
        elif not has_entries(field):
            yield (name,)
    for table, entries in (("queues", BACKEND_QUEUES), ("breakers", BACKEND_BREAKERS)):
        for entry in entries:
            yield from ((table, entry, key) for key in fields_under((table, entry)))


def _listed(text: str, field: FieldInfo) -> object:
    if text.startswith("["):
        return _json(text, "is no JSON list; write words between commas")
    if float in kinds_of(field) and "," not in text:  # one number, where that will do
        return text
    return [word.strip() for word in text.split(",") if word.strip()]


def _json(text: str, problem: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise ValueError(problem) from None


def _json_or_text(text: str) -> object:
    if text[:1] not in {"[", "{"}:
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
