"""The words of a notification about a price, in the languages of the mails. The mail itself has a template."""

# ruff: noqa: RUF001 - guests have letters that look like others

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from babel.numbers import format_currency

_FALLBACK = "en"


class Words(NamedTuple):
    title: str
    message: str


_FALLEN = {
    "ar": Words("انخفض السعر", "{name}: السعر الآن {new} بدلاً من {old}."),
    "de": Words("Der Preis ist gefallen", "{name} kostet jetzt {new} statt {old}."),
    "en": Words("The price has fallen", "{name} now costs {new} instead of {old}."),
    "ru": Words("Цена снизилась", "{name}: теперь {new} вместо {old}."),
    "tr": Words("Fiyat düştü", "{name}: {old} yerine şimdi {new}."),
}
_REACHED = {
    "ar": Words("وصل السعر إلى هدفك", "{name}: السعر الآن {new}."),
    "de": Words("Ihr Zielpreis ist erreicht", "{name} kostet jetzt {new}."),
    "en": Words("Your target price is reached", "{name} now costs {new}."),
    "ru": Words("Цена достигла желаемой", "{name}: теперь {new}."),
    "tr": Words("Hedef fiyatınıza ulaşıldı", "{name}: şimdi {new}."),
}


def words_about(name: str, *, old: Decimal, new: Decimal, currency: str, language: str) -> Words:
    """What the guest is told in ``language`` (``tr``, ``tr-TR``), or in English.

    A price that has not fallen is news because it is at or below the guest's target.
    """
    spoken = language.replace("_", "-").partition("-")[0].lower()
    locale = spoken if spoken in _FALLEN else _FALLBACK
    words = (_FALLEN if new < old else _REACHED)[locale]
    amounts = {key: format_currency(amount, currency, locale=locale) for key, amount in (("old", old), ("new", new))}
    return Words(words.title, words.message.format(name=name, **amounts))
