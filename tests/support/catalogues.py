"""Catalogues of the shipped templates: ``python -m tests.support.catalogues [LOCALE …]`` brings them up to date.

New messages are added without a translation, those that no template has any more are dropped, and the comments say
where each is used. Nothing is guessed: a message that has changed is a new one.
"""

from __future__ import annotations

import re
import sys
from io import BytesIO
from pathlib import Path
from typing import Final

from babel import Locale
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

import skycap_templates

FOLDER: Final = Path(skycap_templates.__path__[0])
LOCALES: Final = ("tr", "de", "ru", "ar")

# As the environments of skycap.services.templates read them.
_OPTIONS: Final = {
    "newstyle_gettext": "true",
    "trim_blocks": "true",
    "lstrip_blocks": "true",
    "trimmed": "true",
    "silent": "false",
}


def messages() -> Catalog:
    """Every message of the shipped templates, with where it is used."""
    catalogue = Catalog()
    methods = [("**.j2", "jinja2.ext:babel_extract")]
    for file, line, message, comments, context in extract_from_dir(
        FOLDER, method_map=methods, options_map={"**.j2": _OPTIONS}
    ):
        catalogue.add(message, None, [(file, line)], auto_comments=comments, context=context)
    return catalogue


def catalogue(locale: str) -> Catalog:
    """The translations of one locale, as they are."""
    file = FOLDER / "locale" / f"{locale}.po"
    if not file.exists():
        return Catalog(locale=locale)
    with file.open("rb") as source:
        return read_po(source, locale=locale)


def placeholders(text: object) -> list[str]:
    """The names that a message, or one of its plural forms, has."""
    return sorted(re.findall(r"%\((\w+)\)", str(text)))


def update(locale: str) -> None:
    """Bring one ``.po`` file up to the templates."""
    translated = catalogue(locale)
    translated.update(messages(), no_fuzzy_matching=True)
    translated.obsolete.clear()
    body = BytesIO()
    write_po(
        body, translated, width=120, omit_header=True, ignore_obsolete=True, sort_by_file=True, include_lineno=False
    )
    (FOLDER / "locale" / f"{locale}.po").write_text(_header(locale) + body.getvalue().decode(), "utf-8")


def _header(locale: str) -> str:
    """Babel's own has the time of day in it, so that it would change each time."""
    name = Locale.parse(locale).get_display_name("en")
    return f"""\
# The mails in {name}. How to add and change messages: templates/README.md
msgid ""
msgstr ""
"Language: {locale}\\n"
"Plural-Forms: {Catalog(locale=locale).plural_forms}\\n"
"MIME-Version: 1.0\\n"
"Content-Type: text/plain; charset=utf-8\\n"
"Content-Transfer-Encoding: 8bit\\n"

"""


if __name__ == "__main__":
    for each in sys.argv[1:] or LOCALES:
        update(each)
