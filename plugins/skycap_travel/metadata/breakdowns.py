"""Breakdowns: what a price is made of, shown only when it adds up to the total: a receipt agrees with itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from itertools import chain, combinations, islice
from typing import Final, cast

from skycap_travel.metadata.amounts import amount_of, is_other_currency, rounded
from skycap_travel.metadata.cards import without_card_numbers
from skycap_travel.metadata.free_form import first, folded, values
from skycap_travel.rows import one_line


class Code(StrEnum):
    """A line that the backend has no words for, only a key; the template has them."""

    BASE = "base"
    FEE = "fee"
    TAX = "tax"
    DISCOUNT = "discount"


MOST_LINES: Final = 40
"""What a page takes. More is no breakdown that a guest reads."""

_MOST_ENTRIES: Final = 2 * MOST_LINES
"""As many as are looked at, to see that they are too many."""

_LISTS: Final = (
    *("lineItems", "items", "lines", "priceBreakdown", "priceDetails", "breakdown", "pricing", "charges", "rooms"),
    *("priceBreakdown.items", "priceBreakdown.lines", "pricing.items", "pricing.lines", "payment.items"),
    *("payment.lines", "order.items", "invoice.items", "invoice.lines"),
)
_TOO_MANY: Final = 1_000
_NAME: Final = ("name", "description", "title", "label", "itemName", "roomName", "roomType", "productName", "text")
_QUANTITY: Final = ("quantity", "qty", "count", "units")
_NIGHTS: Final = ("nights", "nightCount")
_WHOLE: Final = ("total", "totalPrice", "lineTotal", "totalAmount", "subtotal")
_PRICE: Final = ("amount", "price", "cost", "value", "fee")
_PER_NIGHT: Final = ("pricePerNight", "nightlyRate", "nightlyPrice")
_EACH: Final = ("unitPrice", "unitAmount", "pricePerUnit", "pricePerPerson", "priceEach")

_ADJUSTMENTS: Final[Mapping[Code, tuple[str, ...]]] = {
    Code.FEE: (
        *("serviceFee", "fee", "fees", "bookingFee", "priceBreakdown.serviceFee", "priceBreakdown.fees"),
        *("pricing.serviceFee", "pricing.fee", "pricing.fees"),
    ),
    Code.TAX: (
        *("taxAmount", "tax", "taxes", "totalTax", "taxTotal", "vatAmount", "vat", "kdvAmount", "kdvTutari", "kdv"),
        *("priceBreakdown.tax", "priceBreakdown.taxes", "priceBreakdown.taxAmount", "pricing.tax", "pricing.taxes"),
        *("pricing.taxAmount", "payment.taxAmount", "payment.tax", "invoice.taxAmount", "invoice.tax"),
    ),
    Code.DISCOUNT: (
        *("discountAmount", "discount", "totalDiscount", "couponDiscount", "priceBreakdown.discount"),
        *("pricing.discount", "pricing.discountAmount", "payment.discount"),
    ),
}
# An object of amounts says what they are with its keys alone.
_KEYS: Final[Mapping[Code, frozenset[str]]] = {
    Code.BASE: frozenset({"base", "baseprice", "baseamount", "basefare", "subtotal", "net", "netamount"}),
    Code.TAX: frozenset({"tax", "taxes", "taxamount", "vat", "vatamount", "kdv", "kdvtutari"}),
    Code.FEE: frozenset({"fee", "fees", "servicefee", "bookingfee"}),
    Code.DISCOUNT: frozenset({"discount", "discountamount", "discounts"}),
}
_TOTALS: Final = frozenset({"total", "totalamount", "totalprice", "grandtotal", "currency", "currencycode"})
_COUNT = re.compile(r"\d{1,3}", re.ASCII)
_WORDS = re.compile(r"[^\W\d_][^_]*")


@dataclass(frozen=True, kw_only=True)
class Line:
    """One thing that was paid for, or a ``code`` with a word in the template; a discount's ``total`` is negative."""

    name: str | None = None
    code: Code | None = None
    quantity: int | None = None
    total: Decimal


def breakdown_of(meta_data: Mapping[str, object], total: Decimal, currency: str) -> tuple[Line, ...]:
    """Lines whose totals, as they are shown, add up to ``total``, as it is shown; none when no reading does.

    Tax, fee and discount that stand beside the list are lines after it where the sum needs them.
    """
    wanted = rounded(total, currency)
    if is_other_currency(meta_data, currency):
        return ()
    extras = _extras(meta_data, currency)
    found = (
        (*lines, *more)
        for lines in _readings(meta_data, currency)
        for more in _selections(extras)
        if sum((line.total for line in (*lines, *more)), Decimal()) == wanted and _is_said_once((*lines, *more))
    )
    return next(found, ())


def _readings(meta_data: Mapping[str, object], currency: str) -> Iterator[tuple[Line, ...]]:
    """Every way to read what may be a list of lines."""
    for value in values(meta_data, _LISTS):
        if isinstance(value, list):
            items = cast("list[object]", value)
            for is_each in (False, True):
                yield from _complete([_line(item, currency, is_each=is_each) for item in items[:_MOST_ENTRIES]])
        elif isinstance(value, dict):
            source = cast("dict[str, object]", value)
            entries = [entry for entry in islice(source.items(), _MOST_ENTRIES) if folded(entry[0]) not in _TOTALS]
            if not is_other_currency(source, currency):
                yield from _complete([_keyed(key, amount, currency) for key, amount in entries])


def _complete(lines: Sequence[Line | None]) -> Iterator[tuple[Line, ...]]:
    """``lines``, unless one of them could not be read."""
    known = tuple(line for line in lines if line is not None)
    if known and len(known) == len(lines) <= MOST_LINES:
        yield known


def _line(item: object, currency: str, *, is_each: bool) -> Line | None:
    """``is_each`` reads a bare price as that of one, not of the line."""
    if not isinstance(item, dict):
        return None
    source = cast("dict[str, object]", item)
    name = first(source, _NAME, _text)
    if name is None or is_other_currency(source, currency):
        return None
    quantity = first(source, _QUANTITY, _count)
    total = _total(source, currency, times=quantity or 1, is_each=is_each)
    return None if total is None else Line(name=name, quantity=_plural(quantity), total=total)


def _total(source: Mapping[str, object], currency: str, *, times: int, is_each: bool) -> Decimal | None:
    nights = first(source, _NIGHTS, _count) or 1
    readings = ((_WHOLE, 1), (_EACH, times), (_PER_NIGHT, times * nights), (_PRICE, times if is_each else 1))
    for paths, factor in readings:
        amount = first(source, paths, lambda value: amount_of(value, currency))
        if amount is not None:
            return amount * factor
    return None


def _keyed(key: str, value: object, currency: str) -> Line | None:
    amount = amount_of(value, currency)
    code = next((code for code, keys in _KEYS.items() if folded(key) in keys), None)
    if amount is None:
        return None
    if code is not None:
        return _coded(code, amount)
    # roomPrice is a programmer's word, Room price a guest's.
    is_words = _WORDS.fullmatch(key) and (" " in key or key[0].isupper()) and not re.search(r"[a-z][A-Z]", key)
    name = _text(key) if is_words else None
    return None if name is None else Line(name=name, total=amount)


def _coded(code: Code, amount: Decimal) -> Line:
    return Line(code=code, total=-abs(amount) if code == Code.DISCOUNT else amount)


def _extras(meta_data: Mapping[str, object], currency: str) -> list[Line]:
    found = (
        (code, first(meta_data, paths, lambda value: amount_of(value, currency)))
        for code, paths in _ADJUSTMENTS.items()
    )
    return [_coded(code, amount) for code, amount in found if amount]


def _selections(extras: Sequence[Line]) -> Iterator[tuple[Line, ...]]:
    """All of them, then fewer; what the sum does without is in the lines already."""
    sizes = range(len(extras), -1, -1)
    return chain.from_iterable(combinations(extras, size) for size in sizes)


def _is_said_once(lines: Sequence[Line]) -> bool:
    codes = [line.code for line in lines if line.code]
    return len(codes) == len(set(codes))


def _text(value: object) -> str | None:
    return one_line(without_card_numbers(value)) if isinstance(value, str) else None


def _count(value: object) -> int | None:
    if isinstance(value, str) and _COUNT.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 < value < _TOO_MANY else None


def _plural(quantity: int | None) -> int | None:
    return quantity if quantity and quantity > 1 else None
