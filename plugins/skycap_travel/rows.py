"""Rows of the backend's tables as frozen dataclasses, and the queries that bring them.

The backend's columns hold naive UTC times, free-form JSON and text that guests wrote; what leaves here is clean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Self, cast

LONGEST_TEXT = 2_000
"""Characters of a guest's own words that a mail repeats: Gmail cuts a mail of more than about 100 kB."""

MOST_LINES = 40
"""Of a guest's own words; what is in further lines follows in one."""

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
           b."createdAt" AS created_at, b."updatedAt" AS updated_at,
           u.name AS guest_name, u.email AS guest_email, u."preferredLanguage" AS language
      FROM bookings b
      JOIN users u ON u.id = b."userId"
     WHERE b.id = $1 AND b."userId" = $2
"""


@dataclass(frozen=True, kw_only=True)
class BookingRow:
    """One booking with its guest's name and language.

    The codes stay text, since the backend may learn new ones before skycap does. Moments are aware (UTC). Texts are
    None when blank, and so is ``guest_count`` when it is no positive number.
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
    created_at: datetime
    updated_at: datetime
    guest_name: str | None
    guest_email: str = field(repr=False)
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
            created_at=record["created_at"].replace(tzinfo=UTC),
            updated_at=record["updated_at"].replace(tzinfo=UTC),
            guest_name=one_line(record["guest_name"]),
            guest_email=record["guest_email"],
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
    lines = _cut(_printable(text).strip(), LONGEST_TEXT).splitlines()
    return "\n".join([*lines[:MOST_LINES], " ".join(lines[MOST_LINES:])]).strip() or None


def _printable(text: str | None) -> str:
    return _CONTROL.sub("", (text or "").replace("\r\n", "\n").replace("\r", "\n"))


def stored(moment: datetime) -> datetime:
    """An aware moment as the backend's columns have it: UTC without a zone, in milliseconds.

    They would round; a moment must not become later than it is.
    """
    moment = moment.astimezone(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=None)


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}…"


PRICE_ALERT_OF_USER = """
    SELECT a."entityType" AS entity_type, a."entityId" AS entity_id, a."entityName" AS entity_name,
           a."targetPrice" AS target_price, a.currency, a.status::text AS status,
           a."notificationMethod" AS notification_methods, a."expiresAt" AS expires_at,
           u.email, u.name AS guest_name, u."preferredLanguage" AS language, u."isActive" AS is_user_active
      FROM price_alerts a
      JOIN users u ON u.id = a."userId"
     WHERE a.id = $1 AND a."userId" = $2
"""

# What is being looked at, or has ended by itself, stays as it is.
STOP_PRICE_ALERT = """
    UPDATE price_alerts
       SET status = 'DISABLED', "updatedAt" = $3
     WHERE id = $1 AND "userId" = $2 AND status IN ('ACTIVE', 'TRIGGERED')
"""

# Two queries, since only the first has an index; the second reads the whole table, for an address in other letters.
LANGUAGE_OF_ADDRESS = 'SELECT "preferredLanguage" FROM users WHERE email = $1'
LANGUAGE_OF_ADDRESS_IN_ANY_CASE = """
    SELECT "preferredLanguage" FROM users WHERE lower(email) = lower($1) ORDER BY "createdAt" LIMIT 1
"""

# They turn around what stands beside them, and a subject has no element that could contain them.
_DIRECTIONS = re.compile("[\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, kw_only=True)
class PriceAlertRow:
    """One price alert with its guest's address, name and language.

    ``entity_name`` and ``guest_name`` are None when blank; ``expires_at`` is aware (UTC).
    """

    entity_type: str
    entity_id: str
    entity_name: str | None
    target_price: Decimal
    currency: str
    status: str
    notification_methods: frozenset[str]
    expires_at: datetime | None
    email: str = field(repr=False)
    guest_name: str | None
    language: str
    is_user_active: bool

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """From a record of ``PRICE_ALERT_OF_USER``."""
        return cls(
            entity_type=record["entity_type"],
            entity_id=record["entity_id"],
            entity_name=one_line(_DIRECTIONS.sub("", record["entity_name"])),
            target_price=record["target_price"],
            currency=record["currency"],
            status=record["status"],
            notification_methods=frozenset(record["notification_methods"] or ()),
            expires_at=_utc(record["expires_at"]),
            email=record["email"],
            guest_name=one_line(record["guest_name"]),
            language=record["language"],
            is_user_active=record["is_user_active"],
        )


PAYMENT_OF_USER = """
    SELECT b."bookingReference" AS reference, b."bookingType"::text AS booking_type,
           b."totalAmount" AS total_amount, b.currency,
           b."paymentMethod"::text AS payment_method, b."paymentStatus"::text AS payment_status,
           b."metaData"::text AS meta_data,
           u.name AS guest_name, u.email AS guest_email, u."preferredLanguage" AS language
      FROM bookings b
      JOIN users u ON u.id = b."userId"
     WHERE b.id = $1 AND b."userId" = $2
"""


@dataclass(frozen=True, kw_only=True)
class PaymentRow:
    """What was paid for one booking, and the guest who is told so.

    Codes stay text, as in a BookingRow. Numbers in ``meta_data`` are whole, or Decimals: an amount is never a float.
    """

    reference: str
    booking_type: str
    total_amount: Decimal
    currency: str
    payment_method: str
    payment_status: str
    meta_data: Mapping[str, object] = field(repr=False)
    guest_name: str | None
    guest_email: str = field(repr=False)
    language: str

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """From a record of ``PAYMENT_OF_USER``."""
        return cls(
            reference=record["reference"],
            booking_type=record["booking_type"],
            total_amount=record["total_amount"],
            currency=record["currency"],
            payment_method=record["payment_method"],
            payment_status=record["payment_status"],
            meta_data=read_exactly(record["meta_data"]),
            guest_name=one_line(record["guest_name"]),
            guest_email=record["guest_email"] or "",
            language=record["language"],
        )


def read_exactly(json_text: str | None) -> Mapping[str, object]:
    """As ``read_object``, with each number that is not whole as the Decimal that was written."""
    try:
        value: object = json.loads(json_text, parse_float=Decimal) if json_text else {}
    except (ArithmeticError, ValueError, RecursionError):  # ArithmeticError: an exponent of twenty digits
        return {}
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}
