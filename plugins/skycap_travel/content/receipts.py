"""Receipts: what a booking's row and its metaData say about a payment, as far as a guest may rely on it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

from skycap_travel.metadata.amounts import amount_of, rounded
from skycap_travel.metadata.breakdowns import Code, Line, breakdown_of
from skycap_travel.metadata.cards import Card, card_of, without_card_numbers
from skycap_travel.metadata.facts import facts
from skycap_travel.metadata.free_form import first, values
from skycap_travel.metadata.moments import written
from skycap_travel.rows import PaymentRow, one_line

PAID: Final = "COMPLETED"
REFUNDS: Final = frozenset({"REFUNDED", "PARTIALLY_REFUNDED"})

_RECEIPT_NUMBER: Final = ("receiptNumber", "receiptNo", "receiptId", "receipt.number", "payment.receiptNumber")
_REFUND_NUMBER: Final = ("refundNumber", "refundNo", "refund.number", "creditNoteNumber", "creditNote.number")
_INVOICE_NUMBER: Final = (
    *("invoiceNumber", "invoiceNo", "invoice.number", "invoice.no", "payment.invoiceNumber"),
    *("faturaNo", "faturaNumarasi", "fatura.no"),
)
_PAID_AT: Final = (
    *("paidAt", "paymentDate", "paidOn", "paymentCompletedAt", "paymentTime", "datePaid", "chargedAt", "capturedAt"),
    *("transactionDate", "payment.paidAt", "payment.date", "payment.completedAt", "payment.paymentDate"),
    *("paymentDetails.paidAt", "paymentDetails.date", "paymentInfo.paidAt"),
)
_REFUNDED_AT: Final = (
    "refundedAt",
    "refundDate",
    "refundedOn",
    "refund.refundedAt",
    "refund.date",
    "payment.refundedAt",
)
_REFUNDED: Final = (
    *("refundAmount", "refundedAmount", "amountRefunded", "refundTotal", "totalRefunded", "refund.amount"),
    *("payment.refundAmount", "payment.refundedAmount", "payment.amountRefunded"),
)
# A bare tax may as well be a rate, so that it counts only as a line that the sum needs.
_TAX_AMOUNT: Final = (
    *("taxAmount", "totalTax", "taxTotal", "vatAmount", "kdvAmount", "kdvTutari", "tax.amount", "vat.amount"),
    *("kdv.amount", "pricing.taxAmount", "payment.taxAmount", "invoice.taxAmount", "priceBreakdown.taxAmount"),
)
_TAX_RATE: Final = (
    *("taxRate", "taxPercent", "taxPercentage", "vatRate", "kdvRate", "kdvOrani", "tax.rate", "vat.rate", "kdv.rate"),
    *("pricing.taxRate", "payment.taxRate", "invoice.taxRate", "priceBreakdown.taxRate"),
)
_RATE = re.compile(r"(?P<before>%?)\s?(?P<number>\d{1,2}(?:[.,]\d{1,4})?)\s?(?P<after>%?)", re.ASCII)
_HIGHEST_RATE: Final = 60
_CARD_METHODS: Final = frozenset({"CREDIT_CARD", "DEBIT_CARD"})
_LONGEST_NUMBER: Final = 40


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What the mail and its PDF show; amounts are rounded to the currency, and agree with each other.

    ``number`` follows from the booking's reference unless the backend has one. ``invoice_number`` is None unless the
    backend has issued an invoice. ``lines`` add up to ``total``. ``tax`` is a part of ``total`` that is no line of its
    own, ``tax_rate`` a percentage; ``refunded`` is the amount that went back, if the backend says how much.
    """

    number: str
    invoice_number: str | None
    issued: date
    paid: date | None
    refunded_on: date | None
    card: Card | None
    what: str | None
    guest_name: str | None
    lines: tuple[Line, ...]
    tax: Decimal | None
    tax_rate: Decimal | None
    total: Decimal
    refunded: Decimal | None


def receipt_of(payment: PaymentRow, *, issued: datetime, zone: ZoneInfo) -> Receipt:
    """``issued`` is when the receipt was asked for; no day of payment lies after it."""
    meta_data, currency = payment.meta_data, payment.currency
    total = rounded(payment.total_amount, currency)
    lines = breakdown_of(meta_data, total, currency)
    rate = first(meta_data, _TAX_RATE, _rate)
    taxed = next((line.total for line in lines if line.code == Code.TAX), None)
    tax = first(meta_data, _TAX_AMOUNT, lambda value: amount_of(value, currency)) if taxed is None else None
    tax = tax if tax and 0 < tax < total else None
    return Receipt(
        number=_number(payment),
        invoice_number=first(meta_data, _INVOICE_NUMBER, _identifier),
        issued=issued.astimezone(zone).date(),
        paid=_day(meta_data, _PAID_AT, issued, zone),
        refunded_on=_day(meta_data, _REFUNDED_AT, issued, zone) if payment.payment_status in REFUNDS else None,
        card=card_of(meta_data) if payment.payment_method in _CARD_METHODS else None,
        what=_what(payment),
        guest_name=payment.guest_name and without_card_numbers(payment.guest_name),
        lines=lines,
        tax=tax,
        tax_rate=rate if rate and _fits(rate, tax or taxed, total) else None,
        total=total,
        refunded=_refunded(payment, total),
    )


def _number(payment: PaymentRow) -> str:
    """A refund is a paper of its own, and is numbered so."""
    if payment.payment_status in REFUNDS:
        return first(payment.meta_data, _REFUND_NUMBER, _identifier) or f"RF-{payment.reference}"
    return first(payment.meta_data, _RECEIPT_NUMBER, _identifier) or f"R-{payment.reference}"


def _identifier(value: object) -> str | None:
    text = _line(value if isinstance(value, str) else str(value) if type(value) is int else None)
    return text if text and len(text) <= _LONGEST_NUMBER and "••••" not in text else None


def _day(meta_data: Mapping[str, object], paths: tuple[str, ...], issued: datetime, zone: ZoneInfo) -> date | None:
    """The day at the place. One after the receipt's own is a plan, and no payment."""
    last = issued.astimezone(zone).date()
    days = (_moment_day(value, zone) for value in values(meta_data, paths))
    return next((day for day in days if day is not None and day <= last), None)


def _moment_day(value: object, zone: ZoneInfo) -> date | None:
    """Of ISO 8601, or of the milliseconds since 1970 that JavaScript counts, or the seconds of a payment service."""
    if type(value) is int and _FIRST_SECOND <= value < _LAST_SECOND * 1_000:
        seconds = timedelta(seconds=value) if value < _LAST_SECOND else timedelta(milliseconds=value)
        return (datetime(1970, 1, 1, tzinfo=UTC) + seconds).astimezone(zone).date()
    when = written(value, zone, elsewhere=zone)
    return when.day if when else None


_FIRST_SECOND: Final = 946_684_800  # 2000
_LAST_SECOND: Final = 4_102_444_800  # 2100


def _rate(value: object) -> Decimal | None:
    """A percentage; 0.2 and "20 %" are 20."""
    found = _RATE.fullmatch(str(value).strip()) if type(value) in {int, str, Decimal} else None
    if found is None:
        return None
    rate = Decimal(found["number"].replace(",", "."))
    if rate < 1 and not found["before"] and not found["after"]:
        rate *= 100
    # Written out: normalize alone makes 2E+1 of 20.
    return Decimal(f"{rate.normalize():f}") if 0 < rate <= _HIGHEST_RATE else None


def _fits(rate: Decimal, tax: Decimal | None, total: Decimal) -> bool:
    """Whether ``tax`` is what ``rate`` makes of ``total``, within what rounding its lines may add up to."""
    if tax is None:
        return True
    return abs(tax * (100 + rate) - total * rate) <= total * rate / 100


def _refunded(payment: PaymentRow, total: Decimal) -> Decimal | None:
    if payment.payment_status not in REFUNDS:
        return None
    amount = first(payment.meta_data, _REFUNDED, lambda value: amount_of(value, payment.currency))
    is_whole = payment.payment_status == "REFUNDED" and amount == total
    return amount if amount and (is_whole or 0 < amount < total) else None


def _what(payment: PaymentRow) -> str | None:
    """What was booked: its name, or where it leads; None if the backend does not say."""
    found = facts(payment.booking_type, payment.meta_data)
    origin, destination = found.get("origin"), found.get("destination")
    route = f"{origin} \N{EN DASH} {destination}" if origin and destination else None
    return _line(found.get("name")) or _line(route)


def _line(text: str | None) -> str | None:
    return one_line(without_card_numbers(text)) if text else None
