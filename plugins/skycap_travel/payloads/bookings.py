"""Payloads of the bookings plugin."""

from __future__ import annotations

from enum import StrEnum

from skycap import Payload
from skycap_travel.addresses import MailAddress
from skycap_travel.payloads.ids import Id


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


class SendBookingConfirmation(Payload, kind="send-booking-confirmation", queue="email", priority=1):
    """What the backend enqueues after a booking has changed its status. The mail goes to ``user_email``."""

    booking_id: Id
    user_id: Id
    user_email: MailAddress
    booking_type: BookingType
