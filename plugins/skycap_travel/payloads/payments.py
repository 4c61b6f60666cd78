"""Payloads of the payments plugin."""

from __future__ import annotations

from skycap import Payload
from skycap_travel.payloads.ids import Id


class SendPaymentReceipt(Payload, kind="send-payment-receipt", queue="email", priority=1):
    """What the backend enqueues after a payment has succeeded, or was refunded. The mail goes to the user's address."""

    user_id: Id
    booking_id: Id
