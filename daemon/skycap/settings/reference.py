"""Writes the reference configuration: every setting with its default, explained by its own description."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import cast

from pydantic.fields import FieldInfo

from skycap.settings.jobs import JobSettings
from skycap.settings.limits import KeyLimitSettings, LimitSettings
from skycap.settings.masking import number_text
from skycap.settings.model import Settings
from skycap.settings.schedules import ScheduleSettings
from skycap.settings.section import Section
from skycap.settings.tree import choices_of, has_entries, range_of, section_of

_WIDTH = 110

_PREAMBLE = """\
# skycap.toml: every setting of skycap with its default, as `skycap config reference` writes it.
#
# skycap reads /etc/skycap/skycap.toml, or the file that --config or SKYCAP_CONFIG names. No line is required: keep
# those that you change. `skycap config show` tells what is wrong with them, or prints the settings that
# hold and where each comes from.
#
# Lines that begin with # and no space are settings too, with an example: by default they are not set.
#
# Every setting is also an environment variable, which wins over this file: SKYCAP_REDIS_URL is redis.url,
# SKYCAP_QUEUES_EMAIL_CONCURRENCY is queues.email.concurrency. Secrets are better kept out of both, as systemd
# credentials or in files of their own (SKYCAP_SMTP_PASSWORD_FILE). The README beside this file says more.
"""

_PLUGINS = """\
# Settings of a plugin, which the plugin itself defines and checks.
#[plugins.welcome]
#enabled = false
"""


def reference() -> str:
    """The text of config/skycap.toml; loaded, it gives the defaults."""
    return "\n".join([_PREAMBLE, *_blocks(Settings())])


def _blocks(settings: Settings) -> Iterator[str]:
    """The paragraphs of the file, each ending with a line break."""
    tables = {name for name, field in Settings.model_fields.items() if section_of(field) or has_entries(field)}
    for name, field in Settings.model_fields.items():
        if name not in tables:
            yield _entry(name, field, getattr(settings, name))
    for name in Settings.model_fields:
        match name:
            case "queues" | "breakers":
                yield from _each(name, getattr(settings, name))
            case "jobs":
                yield from _example("jobs.send-booking-confirmation", JobSettings)
            case "limits":
                yield from _example("limits.recipient-domain", LimitSettings)
                yield from _example('limits.recipient-domain.keys."gmail.com"', KeyLimitSettings)
            case "schedules":
                yield from _example("schedules.check-price-alerts", ScheduleSettings)
            case "plugins":
                yield _PLUGINS
            case _ if name in tables:
                yield from _table(name, cast("Section", getattr(settings, name)))
            case _:
                pass


def _table(name: str, section: Section) -> Iterator[str]:
    yield f"{_comment(type(section).__doc__ or '')}[{name}]\n"
    fields = type(section).model_fields
    for key, field in fields.items():
        if section_of(field) is None:
            yield _entry(key, field, getattr(section, key))
    for key, field in fields.items():
        if section_of(field) is not None:
            yield from _table(f"{name}.{key}", cast("Section", getattr(section, key)))


def _each(name: str, tables: Mapping[str, Section]) -> Iterator[str]:
    """The first table explains its keys; the others have the same ones."""
    first, *others = tables
    yield from _table(f"{name}.{first}", tables[first])
    for other in others:
        table = tables[other]
        lines = (_line(key, field, getattr(table, key)) for key, field in type(table).model_fields.items())
        yield f"[{name}.{other}]\n" + "".join(lines)


def _example(name: str, model: type[Section]) -> Iterator[str]:
    """A table that is not there by default."""
    yield f"{_comment(model.__doc__ or '')}#[{name}]\n"
    for key, field in model.model_fields.items():
        if not has_entries(field):
            yield _entry(key, field, None)


def _entry(name: str, field: FieldInfo, value: object) -> str:
    return _comment(_explained(field)) + _line(name, field, value)


def _line(name: str, field: FieldInfo, value: object) -> str:
    if value is None:
        return f"#{name} = {_toml(field.examples[0] if field.examples else '')}\n"
    return f"{name} = {_toml(value)}\n"


def _explained(field: FieldInfo) -> str:
    """The description, with the range or the choices where it names none."""
    text, limits, choices = field.description or "", range_of(field), choices_of(field)
    if limits:
        return f"{text} {limits.capitalize()}."
    missing = [word for word in choices if word not in text]
    return f"{text} One of {', '.join(choices)}." if missing else text


def _comment(text: str) -> str:
    lines = textwrap.wrap(text, _WIDTH, break_on_hyphens=False, break_long_words=False)
    return "".join(f"# {line}\n" for line in lines)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return number_text(value)
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in cast('list[object]', value))}]"
    if isinstance(value, dict):
        entries = ", ".join(f"{key} = {_toml(item)}" for key, item in cast("dict[str, object]", value).items())
        return f"{{ {entries} }}"
    return json.dumps(str(value), ensure_ascii=False)
