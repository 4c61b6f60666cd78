"""Catalogues: the translations of one locale, read from the ``.po`` files beside the templates; nothing is built."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from io import BytesIO, StringIO

from babel import Locale
from babel.messages.catalog import Catalog, Message
from babel.messages.mofile import write_mo
from babel.messages.pofile import PoFileError, read_po
from babel.support import Translations
from jinja2 import BaseLoader, Environment, TemplateNotFound

from skycap.errors import TemplateFailed

_PLACEHOLDER = re.compile(r"%\((\w+)\)")


def read_catalogue(loaders: Sequence[BaseLoader], locale: Locale, environment: Environment) -> Translations | None:
    """``locale/pt_BR.po`` of every loader, then ``locale/pt.po``; the first that knows a message translates it.

    None when no loader has either. Raises TemplateFailed, with file and line, for a file that is no catalogue and
    for a translation whose placeholders are not those of its message.
    """
    first: Translations | None = None
    for name in dict.fromkeys((f"locale/{locale}.po", f"locale/{locale.language}.po")):
        for source in _sources(loaders, name, environment):
            translations = _compiled(_parsed(source, name, locale), name)
            if first is None:
                first = translations
            else:
                first.add_fallback(translations)
    return first


def _sources(loaders: Sequence[BaseLoader], name: str, environment: Environment) -> Iterator[str]:
    for loader in loaders:
        try:
            source, _, _ = loader.get_source(environment, name)
        except TemplateNotFound:
            continue
        yield source


def _parsed(source: str, name: str, locale: Locale) -> Catalog:
    try:
        return read_po(StringIO(source), locale=locale, abort_invalid=True)
    except PoFileError as error:
        raise TemplateFailed(f"{name}:{error.lineno}: {error}") from error
    except ValueError as error:
        raise TemplateFailed(f"{name}: {error}") from error


def _compiled(catalogue: Catalog, name: str) -> Translations:
    for message in catalogue:
        problem = _problem(message, catalogue) if message.id else None  # the one without is the header
        if problem:
            raise TemplateFailed(f"{name}:{message.lineno}: {message.id!r}: {problem}")
    binary = BytesIO()
    write_mo(binary, catalogue)
    binary.seek(0)
    return Translations(binary)


def _problem(message: Message, catalogue: Catalog) -> str | None:
    """Why a mail could not use this translation: Jinja formats every one of them, with the names in its message."""
    messages = (message.id,) if isinstance(message.id, str) else message.id
    strings = (message.string,) if isinstance(message.string, str) else message.string or ()
    given = dict.fromkeys(_PLACEHOLDER.findall(" ".join(messages)), "")
    for translation in filter(None, strings):
        try:
            _ = translation % given
        except KeyError as error:
            return f"there is no {error} in the message"
        except (TypeError, ValueError) as error:
            return f"{error}, in {translation!r}"
    return next((str(problem) for problem in message.check(catalogue)), None)
