"""Receipt samples: payments and refunds with their rows, for ``skycap mail preview``; the daemon never loads them."""

# ruff: noqa: RUF001 - guests and places have letters that look like others

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

from skycap import Sample
from skycap_travel.payloads import SendPaymentReceipt
from skycap_travel.rows import PAYMENT_OF_USER

_PAYMENT: Final[Mapping[str, Any]] = {
    "reference": "BK-2026-7F3K9Q",
    "booking_type": "HOTEL",
    "total_amount": Decimal("18450.000000000000000000000000000000"),
    "currency": "TRY",
    "payment_method": "CREDIT_CARD",
    "payment_status": "COMPLETED",
    "guest_name": "Ayşe Yılmaz",
    "guest_email": "ayse.yilmaz@example.com",
    "language": "tr",
}


def payments() -> Iterator[Sample]:
    """A receipt with all that it can show, one with nothing but an amount, and both kinds of refund."""
    yield _payment(
        "paid-with-lines",
        {
            "hotelName": "Ilıca Koyu Butik Otel",
            "items": [
                {"name": "Deniz manzaralı üç kişilik oda", "quantity": 4, "price": "4100.00"},
                {"name": "Havaalanı transferi", "total": "1200.50"},
            ],
            "serviceFee": 1200,
            "discount": "350.50",
            "taxAmount": "1677.27",
            "taxRate": 10,
            "cardLast4": "4242",
            "cardBrand": "visa",
            "paidAt": "2026-11-20T21:05:00.000Z",
            "invoiceNumber": "GIB2026000000123",
        },
    )
    yield _payment(
        "paid",
        None,
        reference="BK-2026-9HPX0E",
        booking_type="CAR_RENTAL",
        total_amount=Decimal("149.5"),
        currency="EUR",
        payment_method="BANK_TRANSFER",
        guest_name=None,
        language="de",
    )
    yield _payment(
        "refunded",
        {
            "airline": "Turkish Airlines",
            "origin": "Kuwait International Airport",
            "destination": "İstanbul Havalimanı",
            "refundAmount": "187.125",
            "refundedAt": "2026-11-22T08:00:00.000Z",
            "maskedCard": "**** **** **** 0005",
        },
        reference="BK-2026-2MZ8TA",
        booking_type="FLIGHT",
        total_amount=Decimal("187.125"),
        currency="KWD",
        payment_method="DEBIT_CARD",
        payment_status="REFUNDED",
        guest_name="يوسف بن عبد الرحمن العلي",
        language="ar",
    )
    yield _payment(
        "partly-refunded",
        {
            "tourName": "Efes ve Şirince",
            "items": [{"name": "Yetişkin", "qty": 2, "unitPrice": 4700}],
            "refundAmount": 4700,
        },
        reference="BK-2026-C4R61W",
        booking_type="TOUR",
        total_amount=Decimal(9400),
        payment_method="PAYPAL",
        payment_status="PARTIALLY_REFUNDED",
        guest_name="Екатерина Александровна Преображенская",
        language="ru",
    )


def _payment(name: str, meta_data: object, **columns: Any) -> Sample:
    row = {**_PAYMENT, "meta_data": None if meta_data is None else json.dumps(meta_data), **columns}
    return Sample(
        name=name,
        payload=SendPaymentReceipt(booking_id=f"cmq1bk-{name}", user_id="cmq1us0a7000108l4a1ay5ey1"),
        rows={PAYMENT_OF_USER: [row]},
    )
