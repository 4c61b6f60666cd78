"""Notices: the words of rows in ``notifications``, in the languages that the mails have."""

# ruff: noqa: RUF001 - Cyrillic has letters that look like others

from __future__ import annotations

from decimal import Decimal
from typing import Final

from babel.numbers import format_currency

_CONFIRMED: Final = {
    "en": ("Booking confirmed", "Your booking {reference} is paid and confirmed."),
    "tr": ("Rezervasyonunuz onaylandı", "{reference} numaralı rezervasyonunuzun ödemesi alındı ve onaylandı."),
    "de": ("Buchung bestätigt", "Ihre Buchung {reference} ist bezahlt und bestätigt."),
    "ru": ("Бронирование подтверждено", "Ваше бронирование {reference} оплачено и подтверждено."),
    "ar": ("تم تأكيد الحجز", "تم دفع قيمة حجزك {reference} وتأكيده."),
}

_RECOMMENDED: Final = {
    "en": ("Hotels for you", "We have picked these for you: {names}"),
    "tr": ("Size özel oteller", "Sizin için seçtiklerimiz: {names}"),
    "de": ("Hotels für Sie", "Für Sie ausgesucht: {names}"),
    "ru": ("Отели для вас", "Мы подобрали для вас: {names}"),
    "ar": ("فنادق مختارة لك", "اخترنا لك: {names}"),
}

_FALLEN: Final = {
    "ar": ("انخفض السعر", "{name}: السعر الآن {new} بدلاً من {old}."),
    "de": ("Der Preis ist gefallen", "{name} kostet jetzt {new} statt {old}."),
    "en": ("The price has fallen", "{name} now costs {new} instead of {old}."),
    "ru": ("Цена снизилась", "{name}: теперь {new} вместо {old}."),
    "tr": ("Fiyat düştü", "{name}: {old} yerine şimdi {new}."),
}

_REACHED: Final = {
    "ar": ("وصل السعر إلى هدفك", "{name}: السعر الآن {new}."),
    "de": ("Ihr Zielpreis ist erreicht", "{name} kostet jetzt {new}."),
    "en": ("Your target price is reached", "{name} now costs {new}."),
    "ru": ("Цена достигла желаемой", "{name}: теперь {new}."),
    "tr": ("Hedef fiyatınıza ulaşıldı", "{name}: şimdi {new}."),
}


def booking_confirmed(reference: str, *, language: str | None) -> tuple[str, str]:
    """Title and message; English for a language that there is not."""
    title, message = _in(_CONFIRMED, language)
    return title, message.format(reference=reference)


def hotels_recommended(names: str, *, language: str | None) -> tuple[str, str]:
    """Title and message; English for a language that there is not."""
    title, message = _in(_RECOMMENDED, language)
    return title, message.format(names=names)


def price_changed(name: str, *, old: Decimal, new: Decimal, currency: str, language: str | None) -> tuple[str, str]:
    """Title and message; English for a language that there is not.

    A price that has not fallen is news because it is at or below the guest's target.
    """
    locale = _spoken(language)
    title, message = (_FALLEN if new < old else _REACHED)[locale]
    amounts = {key: format_currency(amount, currency, locale=locale) for key, amount in (("old", old), ("new", new))}
    return title, message.format(name=name, **amounts)


def _in(words: dict[str, tuple[str, str]], language: str | None) -> tuple[str, str]:
    return words[_spoken(language)]


def _spoken(language: str | None) -> str:
    """The one of ours for ``tr`` or ``tr-TR``; all of the tables have the same."""
    spoken = (language or "").replace("_", "-").partition("-")[0].lower()
    return spoken if spoken in _CONFIRMED else "en"
