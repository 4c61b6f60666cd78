"""Whether the mails say in every language all that they say in English."""

from __future__ import annotations

import re
from typing import Final

import pytest
from babel.messages.catalog import Message

from tests.support.catalogues import LOCALES, catalogue, messages, placeholders
from tests.support.mails import BRAND, TEMPLATES, booking, confirmation_mail

ALL: Final = pytest.mark.parametrize("locale", LOCALES)


def forms(message: Message) -> tuple[str, ...]:
    """The translation, or each of its plural forms."""
    return (message.string,) if isinstance(message.string, str) else tuple(message.string or ("",))


def key(message: Message) -> str:
    """A message with a plural is two; the first tells it."""
    return message.id if isinstance(message.id, str) else message.id[0]


def test_the_catalogues_are_those_that_mails_are_offered_in() -> None:
    assert sorted(TEMPLATES.locales) == sorted(("en", *LOCALES))


@ALL
def test_every_message_is_translated_and_no_translation_is_left_over(locale: str) -> None:
    translated = {key(message) for message in catalogue(locale) if message.id and all(forms(message))}
    assert translated == {key(message) for message in messages() if message.id}


@ALL
def test_no_translation_is_a_guess(locale: str) -> None:
    assert [message.id for message in catalogue(locale) if message.id and message.fuzzy] == []


@ALL
def test_no_translation_leaves_out_what_its_message_names(locale: str) -> None:
    wrong = [
        (message.id, form)
        for message in catalogue(locale)
        if message.id
        for form in forms(message)
        if placeholders(form) != placeholders(key(message)) and not _leaves_the_number_out(message, form)
    ]
    assert wrong == []


def _leaves_the_number_out(message: Message, form: str) -> bool:
    """Arabic says "two nights" in one word."""
    return isinstance(message.id, tuple) and set(placeholders(form)) <= set(placeholders(message.id))


@ALL
def test_a_translation_has_the_plural_forms_of_its_language(locale: str) -> None:
    translated = catalogue(locale)
    wrong = [
        message.id for message in translated if message.pluralizable and len(forms(message)) != translated.num_plurals
    ]
    assert wrong == []


@ALL
def test_no_sentence_of_an_english_mail_is_in_another(locale: str) -> None:
    for row in (booking(), *(booking(status=status) for status in ("PENDING", "CANCELLED", "REFUNDED", "COMPLETED"))):
        english, other = (sentences(confirmation_mail(row, locale=tag).text) for tag in ("en", locale))
        assert english & other - set(BRAND.values()) == set()


def sentences(text: str) -> set[str]:
    """Lines of two words and more."""
    return {line for line in text.splitlines() if len(re.findall(r"[^\W\d]{2,}", line)) > 1}
