"""Samples of reports, for ``skycap mail preview``; the daemon never loads them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from skycap import Sample
from skycap_travel.payloads.reports import GenerateReport, NamedPeriod, ReportKind
from skycap_travel.reports import BOOKINGS_OF_PERIOD, REVENUE_OF_PERIOD

_SETTINGS: Final = {"report_recipients": ["example.com"]}
_FINANCE: Final = "finance@example.com"


def reports() -> Iterator[Sample]:
    """Revenue in three currencies as a table of numbers, and bookings as a page."""
    yield Sample(
        name="revenue-csv",
        payload=GenerateReport(mail_to=_FINANCE, period=NamedPeriod.LAST_MONTH),
        rows={
            REVENUE_OF_PERIOD: [
                _revenue("CAR_RENTAL CONFIRMED EUR", 7, "2889.6", "2476.8"),
                _revenue("HOTEL CANCELLED EUR", 2, "1290", "0"),
                _revenue("HOTEL CONFIRMED EUR", 31, "40281.25", "38991.25"),
                _revenue("FLIGHT CONFIRMED KWD", 4, "748.5", "748.5"),
                _revenue("HOTEL CONFIRMED TRY", 1284, "23689800", "22104500"),
                _revenue("TOUR PENDING TRY", 16, "77760", "0"),
            ]
        },
        settings=_SETTINGS,
    )
    yield Sample(
        name="bookings-html",
        payload=GenerateReport(
            kind=ReportKind.BOOKINGS,
            format="html",
            mail_to=_FINANCE,
            first_day=datetime.fromisoformat("2026-11-16").date(),
            last_day=datetime.fromisoformat("2026-11-22").date(),
        ),
        rows={
            BOOKINGS_OF_PERIOD: [
                _booking("BK-2026-7F3K9Q", "HOTEL CONFIRMED COMPLETED TRY", "18450"),
                _booking("BK-2026-C4R61W", "ACTIVITY CONFIRMED COMPLETED EUR", "149.5"),
                _booking("BK-2026-4WJ6RM", "AIRPORT_TRANSFER PENDING PROCESSING JPY", "9400"),
            ]
        },
        settings=_SETTINGS,
    )


def _revenue(what: str, bookings: int, total: str, paid: str) -> dict[str, Any]:
    booking_type, status, currency = what.split()
    return {
        "booking_type": booking_type,
        "status": status,
        "currency": currency,
        "bookings": bookings,
        "total": Decimal(total),
        "paid": Decimal(paid),
    }


def _booking(reference: str, what: str, amount: str) -> dict[str, Any]:
    booking_type, status, payment_status, currency = what.split()
    return {
        "reference": reference,
        "booking_type": booking_type,
        "status": status,
        "payment_method": "CREDIT_CARD",
        "payment_status": payment_status,
        "currency": currency,
        "total_amount": Decimal(amount),
        "check_in": None,
        "check_out": None,
        "guest_count": None,
        "created_at": datetime.fromisoformat("2026-11-20T08:14:32"),
    }
