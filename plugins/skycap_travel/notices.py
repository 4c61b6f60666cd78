"""Notices: the words of rows in ``notifications``, in the languages that the mails have."""

# ruff: noqa: RUF001 - Cyrillic has letters that look like others

from __future__ import annotations

from typing import Final

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


def booking_confirmed(reference: str, *, language: str | None) -> tuple[str, str]:
    """Title and message; English for a language that there is not."""
    title, message = _in(_CONFIRMED, language)
    return title, message.format(reference=reference)


def hotels_recommended(names: str, *, language: str | None) -> tuple[str, str]:
    """Title and message; English for a language that there is not."""
    title, message = _in(_RECOMMENDED, language)
    return title, message.format(names=names)


def _in(words: dict[str, tuple[str, str]], language: str | None) -> tuple[str, str]:
    return words.get((language or "").replace("_", "-").partition("-")[0].lower(), words["en"])
