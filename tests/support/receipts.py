"""Payments to write receipts about, and the mails and papers that they become."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from skycap.services.message import RenderedMail
from skycap_travel.content.receipts import Receipt, receipt_of
from skycap_travel.payments import variables
from skycap_travel.rows import PaymentRow
from tests.support.mails import ISTANBUL, TEMPLATES

ISSUED: Final = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)

PAYMENT: Final[dict[str, Any]] = {
    "reference": "BK-2026-7F3K9Q",
    "booking_type": "HOTEL",
    "total_amount": Decimal("18450.000000000000000000000000000000"),
    "currency": "TRY",
    "payment_method": "CREDIT_CARD",
    "payment_status": "COMPLETED",
    "meta_data": None,
    "guest_name": "Ayşe Yılmaz",
    "guest_email": "ayse@example.com",
    "language": "tr",
}


def payment(meta_data: object = None, **columns: object) -> PaymentRow:
    """The row of a paid hotel booking; ``meta_data`` is JSON's text, or what becomes it."""
    text = meta_data if meta_data is None or isinstance(meta_data, str) else json.dumps(meta_data)
    return PaymentRow.from_record(PAYMENT | {"meta_data": text} | columns)


def receipt(meta_data: object = None, **columns: object) -> Receipt:
    return receipt_of(payment(meta_data, **columns), issued=ISSUED, zone=ISTANBUL)


def receipt_mail(row: PaymentRow, *, locale: str = "en") -> RenderedMail:
    found = receipt_of(row, issued=ISSUED, zone=ISTANBUL)
    return TEMPLATES.render("payments/receipt", locale=locale, variables=variables(row, found))


def paper(mail: RenderedMail) -> str:
    """The HTML that its PDF is made of."""
    (document,) = mail.documents
    assert document.filename == "receipt.pdf"
    return document.source
