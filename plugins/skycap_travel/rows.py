"""Rows of the backend's tables as frozen dataclasses, and the queries that bring them.

The backend's columns hold naive UTC times, free-form JSON and text that guests wrote; what leaves here is clean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Self, cast

LONGEST_TEXT = 2_000
"""Characters of a guest's own words that a mail repeats: Gmail cuts a mail of more than about 100 kB."""

LONGEST_LINE = 200
"""Characters of a name or an address; nobody has a longer one, and a phone shows no more of it."""

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

# Enums and JSON are cast to text: asyncpg would otherwise ask the server about each type, once per connection.
BOOKING_OF_USER = """
    SELECT b."bookingReference" AS reference, b."bookingType"::text AS booking_type, b.status::text AS status,
           b."totalAmount" AS total_amount, b.currency,
           b."paymentMethod"::text AS payment_method, b."paymentStatus"::text AS payment_status,
           b."checkInDate" AS check_in, b."checkOutDate" AS check_out, b."guestCount" AS guest_count,
           b."specialRequests" AS special_requests, b."metaData"::text AS meta_data,
           u.name AS guest_name, u."preferredLanguage" AS language
      FROM bookings b
      JOIN users u ON u.id = b."userId"
     WHERE b.id = $1 AND b."userId" = $2
"""


class BookingType(StrEnum):
    """The backend's enum of the same name."""

    HOTEL = "HOTEL"
    FLIGHT = "FLIGHT"
    ACTIVITY = "ACTIVITY"
    TOUR = "TOUR"
    CAR_RENTAL = "CAR_RENTAL"
    RESTAURANT = "RESTAURANT"
    PACKAGE = "PACKAGE"
    AIRPORT_TRANSFER = "AIRPORT_TRANSFER"


@dataclass(frozen=True, kw_only=True)
class BookingRow:
    """One booking with its guest's name and language.

    The codes stay text, since the backend may learn new ones before skycap does. ``check_in`` and ``check_out`` are
    aware (UTC). Texts are None when blank, and so is ``guest_count`` when it is no positive number.
    """

    reference: str
    booking_type: str
    status: str
    total_amount: Decimal
    currency: str
    payment_method: str
    payment_status: str
    check_in: datetime | None
    check_out: datetime | None
    guest_count: int | None
    special_requests: str | None
    meta_data: Mapping[str, object]
    guest_name: str | None
    language: str

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """From a record of ``BOOKING_OF_USER``."""
        guest_count: int | None = record["guest_count"]
        return cls(
            reference=record["reference"],
            booking_type=record["booking_type"],
            status=record["status"],
            total_amount=record["total_amount"],
            currency=record["currency"],
            payment_method=record["payment_method"],
            payment_status=record["payment_status"],
            check_in=_utc(record["check_in"]),
            check_out=_utc(record["check_out"]),
            guest_count=guest_count if guest_count and guest_count > 0 else None,
            special_requests=_lines(record["special_requests"]),
            meta_data=read_object(record["meta_data"]),
            guest_name=one_line(record["guest_name"]),
            language=record["language"],
        )


def read_object(json_text: str | None) -> Mapping[str, object]:
    """A JSONB column that should hold an object; anything else (null, a list, no JSON at all) reads as an empty one."""
    try:
        value: object = json.loads(json_text) if json_text else {}
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def one_line(text: str | None) -> str | None:
    """``text`` with every run of blanks and line breaks as one blank, cut at ``LONGEST_LINE``; None when blank."""
    return _cut(" ".join(_printable(text).split()), LONGEST_LINE) or None


def _lines(text: str | None) -> str | None:
    return _cut(_printable(text).strip(), LONGEST_TEXT) or None


def _printable(text: str | None) -> str:
    return _CONTROL.sub("", (text or "").replace("\r\n", "\n").replace("\r", "\n"))


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}…"
