"""Payloads of the price alerts plugin."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

from skycap import Payload
from skycap_travel.payloads.ids import Id

_AMOUNT = re.compile(r"[0-9]{1,35}(\.[0-9]{1,30})?")
_DIGITS_OF_A_FLOAT = 15


def _amount(value: object) -> object:
    """A Decimal without what binary fractions add: 1110.6899999999998 is 1110.69, as whoever sent it meant."""
    if isinstance(value, float) and math.isfinite(value):
        value = Decimal(f"{value:.{_DIGITS_OF_A_FLOAT}g}")
    text = f"{value:f}" if isinstance(value, Decimal) else str(value)
    if isinstance(value, bool) or not _AMOUNT.fullmatch(text):
        raise PydanticCustomError("amount", "is no amount; write it like 1234.5, without sign, currency or separators")
    return Decimal(text)


_AMOUNT_SCHEMA = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": f"^{_AMOUNT.pattern}$"}]}

Amount = Annotated[
    Decimal,
    BeforeValidator(_amount),
    PlainSerializer(lambda amount: f"{amount:f}", when_used="json"),
    WithJsonSchema(_AMOUNT_SCHEMA, mode="validation"),
]
"""As much as a DECIMAL(65,30) holds, from 0 upwards; a number or a text in JSON."""


class EntityType(StrEnum):
    """What a price can be watched of; text in the backend's table."""

    HOTEL = "HOTEL"
    FLIGHT = "FLIGHT"
    TOUR = "TOUR"


class SendPriceAlert(Payload, kind="send-price-alert", queue="email", priority=2):
    """What the sweep enqueues when an alert is due. The mail goes to the user's address as it is then."""

    alert_id: Id
    user_id: Id
    entity_type: EntityType
    entity_id: Id
    old_price: Amount
    new_price: Amount
