"""Amounts: money as the backend writes it in JSON, as Decimals that are as fine as their currency and no finer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Context, Decimal
from typing import Final, cast

from babel.numbers import get_currency_precision

from skycap_travel.metadata.free_form import first

_MOST: Final = 10**15
"""No booking costs as much; what is larger is a mistake, or somebody's attempt."""

# A sign, then digits with separators of thousands or without, then a decimal point or comma. One separator before
# three digits may be either: 1.250 is read as JSON would, 1,250 is not read at all.
_PLAIN = re.compile(r"-?\d{1,16}(?:\.\d{1,30})?", re.ASCII)
_ENGLISH = re.compile(r"-?\d{1,3}(?:,\d{3})+\.\d{1,3}", re.ASCII)
_TURKISH = re.compile(r"-?\d{1,3}(?:\.\d{3})+,\d{1,3}", re.ASCII)
_DECIMAL_COMMA = re.compile(r"-?\d{1,16},\d{1,2}", re.ASCII)


def rounded(amount: Decimal, currency: str) -> Decimal:
    """``amount`` as the mail shows it: 2 decimals for TRY, 0 for JPY, 3 for KWD; half to even, as ``|money`` does."""
    finest = Decimal(1).scaleb(-get_currency_precision(currency))
    return amount.quantize(finest, context=Context(prec=100))


def amount_of(value: object, currency: str) -> Decimal | None:
    """An amount in ``currency``, rounded: a number, its text, or an object that has one; None for anything else."""
    if isinstance(value, dict):
        return _within(cast("dict[str, object]", value), currency)
    number = _number(value, currency)
    if number is None or not number.is_finite() or abs(number) >= _MOST:
        return None
    return rounded(number, currency)


def is_other_currency(source: Mapping[str, object], currency: str) -> bool:
    """Whether ``source`` says that its amounts are in another currency."""
    named = first(source, ("currency", "currencyCode"), lambda value: value)
    return named is not None and not (isinstance(named, str) and named.strip().upper() == currency.upper())


def _within(source: Mapping[str, object], currency: str) -> Decimal | None:
    if is_other_currency(source, currency):
        return None
    return first(source, ("amount", "value"), lambda value: _flat(value, currency))


def _flat(value: object, currency: str) -> Decimal | None:
    return None if isinstance(value, dict) else amount_of(value, currency)


def _number(value: object, currency: str) -> Decimal | None:
    if isinstance(value, Decimal):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _MOST:
        return Decimal(value)
    return _written(value, currency) if isinstance(value, str) else None


def _written(text: str, currency: str) -> Decimal | None:
    text = text.strip().removeprefix(currency).removesuffix(currency).strip()
    if _PLAIN.fullmatch(text):
        return Decimal(text)
    if _ENGLISH.fullmatch(text):
        return Decimal(text.replace(",", ""))
    if _TURKISH.fullmatch(text) or _DECIMAL_COMMA.fullmatch(text):
        return Decimal(text.replace(".", "").replace(",", "."))
    return None
