"""Formats: amounts, dates and counts as one language writes them; its methods are the filters of the templates."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import cache
from typing import Literal, cast
from zoneinfo import ZoneInfo

from babel import Locale, dates, numbers, units
from jinja2 import Undefined

_LETTER_THEN_DIGIT = re.compile(r"(?<=[^\W\d_])(?=\d)")

Length = Literal["short", "medium", "long", "full"]


class Formats:
    """Filters for one locale. Each refuses a value of the wrong type with a TypeError, rather than guess."""

    def __init__(self, locale: Locale) -> None:
        self._locale = locale

    def filters(self) -> dict[str, Callable[..., str]]:
        """The filters by the names that templates use."""
        return {
            "money": self.money,
            "date": self.date,
            "time": self.time,
            "datetime": self.datetime_,
            "number": self.number,
            "nights": self.nights,
            "country": self.country,
            "isolated": self.isolated,
        }

    def money(self, amount: object, currency: object) -> str:
        """A Decimal with as many digits as its currency has: 2 for TRY, 0 for JPY, 3 for KWD."""
        if not isinstance(amount, Decimal):
            raise _wrong("money", amount, "a Decimal")
        if not isinstance(currency, str):
            raise _wrong("money", currency, "a currency code")
        if not amount.is_finite():
            raise ValueError(f"money takes an amount, not {amount}")
        if amount < 0 and self._is_rtl:
            return self._negative(numbers.format_currency(-amount, currency, locale=self._locale))
        # CLDR's currency spacing, which Babel leaves out: KWD12.346 has a no-break space between code and amount.
        return _LETTER_THEN_DIGIT.sub("\u00a0", numbers.format_currency(amount, currency, locale=self._locale), count=1)

    @staticmethod
    def _negative(positive: str) -> str:
        """The minus stays at the number: CLDR's own shows ``TRY 350.50-``, or the currency on the other side."""
        number, _, currency = positive.lstrip("\u200f").partition("\u00a0")
        return f"\u200f\u200e-{number}\u200f\u00a0{currency}"

    def date(self, value: object, length: Length = "full", *, zone: str | dt.tzinfo | None = None) -> str:
        """``Thursday, December 24, 2026``; a datetime is first taken to ``zone``, a date belongs to none."""
        if isinstance(value, dt.datetime):
            value = _in_zone(value, zone).date()
        if not isinstance(value, dt.date):
            raise _wrong("date", value, "a date or a datetime")
        return dates.format_date(value, length, locale=self._locale)

    def time(self, value: object, length: Length = "short", *, zone: str | dt.tzinfo | None = None) -> str:
        """``19:30`` in ``zone``, which it does not name."""
        if not isinstance(value, dt.datetime):
            raise _wrong("time", value, "a datetime")
        # CLDR leaves a common blank in some languages; a line must not end within a time.
        return dates.format_time(_in_zone(value, zone), length, locale=self._locale).replace(" ", "\u00a0")

    def datetime_(self, value: object, length: Length = "full", *, zone: str | dt.tzinfo | None = None) -> str:
        """``December 24, 2026, 7:30 PM (Istanbul, GMT+03:00)``: a moment always says which clock it is read from."""
        if not isinstance(value, dt.datetime):
            raise _wrong("datetime", value, "a datetime")
        local = _in_zone(value, zone)
        pattern = str(dates.get_datetime_format(length, locale=self._locale)).replace("'", "")
        moment = pattern.replace("{1}", self.date(local, length)).replace("{0}", self.time(local))
        return f"{moment} ({self._zone_name(local)})"

    def number(self, value: object) -> str:
        """A whole number or a Decimal with the language's own separators."""
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            raise _wrong("number", value, "an int or a Decimal")
        return numbers.format_decimal(value, locale=self._locale)

    def nights(self, count: object) -> str:
        """``3 nights``, in the language's own plural."""
        if isinstance(count, bool) or not isinstance(count, int):
            raise _wrong("nights", count, "a whole number")
        return units.format_unit(count, "duration-night", locale=self._locale)

    def country(self, name: object) -> str:
        """``Türkiye`` for TR and for Turkey, in the language's own words; what is no country stays as it is."""
        if not isinstance(name, str):
            raise _wrong("country", name, "a text")
        code = _codes_of_countries().get(name.strip().casefold(), name.strip())
        return _territories(self._locale).get(code) or name

    def isolated(self, value: object) -> str:
        """Keeps a value in a line of text from the words around it, where these run from right to left.

        ``Phone: +90 232 …`` would show the digits in another order there (Unicode UAX #9, 2.4).
        """
        if isinstance(value, Undefined):
            raise _wrong("isolated", value, "a text")
        return f"\u2068{value}\u2069" if self._is_rtl else str(value)

    @property
    def _is_rtl(self) -> bool:
        return self._locale.text_direction == "rtl"

    def _zone_name(self, moment: dt.datetime) -> str:
        """``Istanbul, GMT+03:00``; the city is left out where the zone is but an offset.

        CLDR's own names of zones are right in some languages only: Russian has "summer time" in winter.
        """
        offset = dates.get_timezone_gmt(moment, locale=self._locale)
        if not isinstance(moment.tzinfo, ZoneInfo) or "/" not in moment.tzinfo.key:
            return offset
        city = dates.get_timezone_location(moment.tzinfo, locale=self._locale, return_city=True)
        return f"{city}, {offset}" if not self._is_rtl else f"{city}، {offset}"


def _territories(locale: Locale) -> Mapping[str, str]:
    """Names by code. Babel does not say their types."""
    return cast("Mapping[str, str]", locale.territories)


@cache
def _codes_of_countries() -> dict[str, str]:
    """By their English names, in lower case; TR has had two."""
    names = _territories(Locale("en"))
    return {name.casefold(): code for code, name in names.items() if code.isalpha()} | {"turkey": "TR"}


def _in_zone(moment: dt.datetime, zone: str | dt.tzinfo | None) -> dt.datetime:
    """``moment`` as ``zone``'s clocks show it; a naive one is UTC, as the backend's columns are."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return aware if zone is None else aware.astimezone(dates.get_timezone(zone))


def _wrong(name: str, value: object, wanted: str) -> TypeError:
    """The error for a value of the wrong type. It names the type only: the value may be a guest's."""
    if isinstance(value, Undefined):
        str(value)  # a strict undefined raises here, and knows the name of the variable
    return TypeError(f"{name} takes {wanted}, not {type(value).__name__}")
