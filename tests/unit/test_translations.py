"""Whether the mails say in Turkish all that they say in English."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Final

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

import skycap_templates
from tests.support.mails import BRAND, booking, confirmation_mail

FOLDER: Final = Path(skycap_templates.__path__[0])
# As the environments of skycap.services.templates read them.
OPTIONS: Final = {
    "newstyle_gettext": "true",
    "trim_blocks": "true",
    "lstrip_blocks": "true",
    "trimmed": "true",
    "silent": "false",
}


def messages_in_templates() -> set[str]:
    methods = [("**.j2", "jinja2.ext:babel_extract")]
    found = extract_from_dir(FOLDER, method_map=methods, options_map={"**.j2": OPTIONS})
    return {str(message) for _, _, message, _, _ in found}


def turkish_catalogue() -> Catalog:
    with (FOLDER / "locale" / "tr.po").open("rb") as file:
        return read_po(file, locale="tr")


def test_every_message_has_its_turkish_and_no_turkish_is_left_over() -> None:
    translated = {str(message.id) for message in turkish_catalogue() if message.id and message.string}
    assert translated == messages_in_templates()


def test_no_translation_is_a_guess() -> None:
    assert [message.id for message in turkish_catalogue() if message.id and message.fuzzy] == []


def test_no_translation_leaves_out_what_its_message_names() -> None:
    def names(text: object) -> list[str]:
        return sorted(re.findall(r"%\(\w+\)s", str(text)))

    messages = [message for message in turkish_catalogue() if message.id]
    assert [message.id for message in messages if names(message.id) != names(message.string)] == []


def test_no_english_word_is_left_in_a_turkish_mail() -> None:
    row = booking(check_in=None, check_out=datetime(2027, 6, 15), guest_name="Q")  # noqa: DTZ001 - as the database has it
    english, turkish = (set(re.findall(r"[^\W\d]+", confirmation_mail(row, locale=tag).text)) for tag in ("en", "tr"))
    assert english & turkish == set(re.findall(r"[^\W\d]+", f"{' '.join(BRAND.values())} {row.reference} Q"))
