"""Revenue: what bookings add up to, by type, status and currency; amounts of two currencies never meet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any, Self

_EXACT = Context(prec=100)  # the usual 28 digits are fewer than a DECIMAL(65,30) has


@dataclass(frozen=True, kw_only=True)
class Revenue:
    """Bookings of one type and status in one currency; ``paid`` is of those whose payment is COMPLETED."""

    booking_type: str
    status: str
    currency: str
    bookings: int
    total: Decimal
    paid: Decimal

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        return cls(**record)


@dataclass(frozen=True, kw_only=True)
class CurrencyTotal:
    """All of one currency, and its lines by type and status."""

    currency: str
    bookings: int
    total: Decimal
    paid: Decimal
    lines: tuple[Revenue, ...]


class Tally:
    """Adds up bookings one by one; holds a line for each type, status and currency."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str, str], Revenue] = {}

    def add(self, record: Mapping[str, Any]) -> None:
        key = (record["booking_type"], record["status"], record["currency"])
        amount: Decimal = record["total_amount"]
        if not amount.is_finite():  # the column can hold NaN, which no sum survives
            amount = Decimal(0)
        paid = amount if record["payment_status"] == "COMPLETED" else Decimal(0)
        booking_type, status, currency = key
        one = Revenue(booking_type=booking_type, status=status, currency=currency, bookings=1, total=amount, paid=paid)
        self._lines[key] = _sum(self._lines[key], one) if key in self._lines else one

    @property
    def lines(self) -> list[Revenue]:
        return list(self._lines.values())


def by_currency(lines: Iterable[Revenue]) -> list[CurrencyTotal]:
    """In the order of the alphabet, as their lines are by type and status."""
    found: dict[str, list[Revenue]] = {}
    for line in sorted(lines, key=lambda line: (line.currency, line.booking_type, line.status)):
        found.setdefault(line.currency, []).append(line)
    return [_total(currency, tuple(own)) for currency, own in found.items()]


def _total(currency: str, lines: tuple[Revenue, ...]) -> CurrencyTotal:
    whole = lines[0]
    for line in lines[1:]:
        whole = _sum(whole, line)
    return CurrencyTotal(currency=currency, bookings=whole.bookings, total=whole.total, paid=whole.paid, lines=lines)


def _sum(one: Revenue, other: Revenue) -> Revenue:
    return Revenue(
        booking_type=one.booking_type,
        status=one.status,
        currency=one.currency,
        bookings=one.bookings + other.bookings,
        total=_EXACT.add(one.total, other.total),
        paid=_EXACT.add(one.paid, other.paid),
    )
