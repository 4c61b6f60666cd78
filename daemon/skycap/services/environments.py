"""Environments: what Jinja knows of one language, over the templates of all plugins."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

from babel import Locale, UnknownLocaleError
from babel.support import Translations
from jinja2 import BaseLoader, ChoiceLoader, Environment, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from skycap.errors import ConfigurationError, TemplateFailed
from skycap.services.catalogues import read_catalogue
from skycap.services.formats import Formats

SOURCE_LANGUAGE: Final = "en"
"""What the templates themselves are written in, and what every other locale falls back to."""

_COMMAS = {"ltr": ", ", "rtl": "، "}
"""Between the things in a list."""

_CATALOGUE = re.compile(r"locale/(\w+)\.po")


class NamedByTemplate(ChoiceLoader):
    """Says ``bookings/confirmation/body.txt.j2`` in tracebacks, where other loaders would say a path, or nothing."""

    load = BaseLoader.load  # ChoiceLoader's own asks the other loaders, and never comes past get_source

    def get_source(self, environment: Environment, template: str) -> tuple[str, str, Callable[[], bool] | None]:
        source, _, is_fresh = super().get_source(environment, template)
        return source, template, is_fresh


def environments(
    loader: NamedByTemplate, *, brand: Mapping[str, str], locales: Sequence[str] | None, is_sandboxed: bool
) -> dict[str, Environment]:
    """By locale, English first: nothing that is translated, or cached, can meet another language.

    ``locales`` are all that have a catalogue; of those given, one without is left out, so that a mail never has the
    words of one language and the dates of another. A sandbox costs a quarter of the time of a mail.
    Raises TemplateFailed for a broken catalogue.
    """
    found: dict[str, Environment] = {}
    for tag in (SOURCE_LANGUAGE, *(_translated(loader) if locales is None else locales)):
        environment = _environment(loader, tag, brand, is_sandboxed=is_sandboxed)
        if environment is not None:
            found[tag] = environment
    return found


def _translated(loader: ChoiceLoader) -> list[str]:
    """The locales of all catalogues: ``locale/pt_BR.po`` is pt-BR's."""
    found = (_CATALOGUE.fullmatch(name) for name in listed(loader))
    return [match[1].replace("_", "-") for match in found if match]


def listed(loader: ChoiceLoader) -> list[str]:
    """The names of all templates and catalogues. Raises TemplateFailed for a loader that cannot tell."""
    try:
        return loader.list_templates()
    except TypeError as error:
        raise TemplateFailed(f"{error}; give a PackageLoader, FileSystemLoader or DictLoader") from error


def _environment(loader: ChoiceLoader, tag: str, brand: Mapping[str, str], *, is_sandboxed: bool) -> Environment | None:
    """An environment that speaks ``tag``; None when no loader has its catalogue, and it is not English."""
    try:
        locale = Locale.parse(tag, sep="-")
    except (UnknownLocaleError, ValueError) as error:
        raise ConfigurationError(f"locale {tag!r} is not known: write it like 'tr' or 'pt-BR'") from error
    make = ImmutableSandboxedEnvironment if is_sandboxed else Environment
    environment = make(
        loader=loader,
        autoescape=_is_html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
        auto_reload=False,  # a mail is made of the templates that were checked at start
    )
    catalogue = read_catalogue(loader.loaders, locale, environment)
    if catalogue is None and locale.language != SOURCE_LANGUAGE:
        return None
    environment.policies["ext.i18n.trimmed"] = True
    # The extension adds this method when it is loaded, which no type checker sees.
    cast("Any", environment).install_gettext_translations(catalogue or Translations(), newstyle=True)
    environment.filters.update(Formats(locale).filters())
    # Jinja's own globals are all that pyright expects in there.
    cast("dict[str, Any]", environment.globals).update(
        brand=dict(brand), lang=tag, dir=locale.text_direction, comma=_COMMAS[locale.text_direction]
    )
    return environment


def _is_html(name: str | None) -> bool:
    return name is not None and name.endswith((".html.j2", ".pdf.j2"))
