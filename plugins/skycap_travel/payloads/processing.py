"""Payloads of the processing plugin."""

from __future__ import annotations

from typing import Literal

from skycap import Payload
from skycap_travel.payloads.ids import Id


class ProcessBooking(Payload, kind="process-booking", queue="processing"):
    """What the backend enqueues when a booking was made, or its payment has gone through.

    ``user_id``, when it is given, must be the booking's. Cancelling and refunding stay the backend's, which talks to
    the partner.
    """

    booking_id: Id
    user_id: Id | None = None
    action: Literal["confirm"] = "confirm"
