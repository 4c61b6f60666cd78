"""Bookings: writes to a guest when a booking is made, confirmed, cancelled, completed or refunded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict

from skycap import Context, Discard, Plugin, Sample
from skycap_travel.content.calendar_entries import calendar_entries
from skycap_travel.content.itinerary import STAYS, itinerary
from skycap_travel.content.reservations import structured_data
from skycap_travel.metadata.facts import count, first_when, is_true, map_link, names
from skycap_travel.metadata.moments import ZoneName, nights_between
from skycap_travel.payloads.bookings import BookingType, SendBookingConfirmation
from skycap_travel.rows import BOOKING_OF_USER, BookingRow
from skycap_travel.templates import TEMPLATES

__all__ = [
    "BookingType",
    "BookingsSettings",
    "SendBookingConfirmation",
    "confirmation",
    "plugin",
    "send_booking_confirmation",
]

_REFERENCE = "{reference}"
_MOST_PASSENGERS = 9  # airlines take no more in one booking


def _link(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme != "https" or not parts.netloc or _REFERENCE not in parts.path + parts.query + parts.fragment:
        raise ValueError(
            f"{address!r} leads to no booking; write it like https://www.example.com/bookings/{_REFERENCE}"
        )
    return address


class BookingsSettings(BaseModel):
    """``[plugins.bookings]``. ``time_zone`` is the one that dates and times of bookings are shown in.

    The backend stores moments, and does not store where a booking takes place, unless metaData has a ``timeZone``. Its
    guests, and nearly all of its places, are in Türkiye; a time in a mail therefore always names its zone.

    ``manage_url`` is where a guest sees and changes a booking: an https:// address with ``{reference}`` in it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    time_zone: ZoneName = "Europe/Istanbul"
    manage_url: Annotated[str, AfterValidator(_link)] | None = None


plugin = Plugin("bookings", settings=BookingsSettings, templates=TEMPLATES)


@plugin.job(breakers=("email",))
async def send_booking_confirmation(ctx: Context[BookingsSettings], payload: SendBookingConfirmation) -> dict[str, str]:
    record = await ctx.db.fresh.fetchrow(BOOKING_OF_USER, payload.booking_id, payload.user_id)
    if record is None:
        raise Discard(f"booking {payload.booking_id} does not exist or is not user {payload.user_id}'s")
    booking = BookingRow.from_record(record)
    if payload.user_email.casefold() != booking.guest_email.strip().casefold():
        # It is what the guest typed for this booking; neither address is for a log.
        ctx.log.info("the payload's mail address is not the user's")
        await ctx.note("sent to the address of the payload, which is not the user's")
    message_id = await ctx.mailer.send(
        payload.user_email,
        "bookings/confirmation",
        key=f"booking-confirmation:{booking.reference}:{booking.status}",
        locale=booking.language,
        on_unknown="resend",
        **confirmation(booking, ZoneInfo(ctx.settings.time_zone), manage_url=ctx.settings.manage_url),
    )
    return {"messageId": message_id}


def confirmation(booking: BookingRow, zone: ZoneInfo, *, manage_url: str | None = None) -> dict[str, Any]:
    """The variables of the template ``bookings/confirmation``; ``zone`` is that of places which name none."""
    meta_data = booking.meta_data
    trip = itinerary(booking, zone)
    guests = booking.guest_count or count(meta_data, _PARTY)
    link = manage_url.replace(_REFERENCE, quote(booking.reference, safe="")) if manage_url else None
    return {
        "booking": booking,
        "facts": trip.main.facts,
        "starts": trip.main.starts,
        "ends": trip.main.ends,
        "arrives": trip.arrives,
        "nights": nights_between(trip.main.starts, trip.main.ends) if booking.booking_type in STAYS else None,
        "guests": guests,
        "flights": trip.flights,
        "pieces": trip.pieces,
        "included": trip.included,
        "passengers": names(meta_data, _PASSENGERS, at_most=_MOST_PASSENGERS),
        "deadline": first_when(meta_data, _DEADLINE, trip.zone, elsewhere=trip.zone),
        "needs_passport": is_true(meta_data, "passportRequired", "requiresPassport"),
        "needs_visa": is_true(meta_data, "visaRequired", "requiresVisa"),
        "map_url": map_link(trip.main.facts),
        "manage_url": link,
        "structured_data": structured_data(booking, trip, guests=guests, manage_url=link),
        "calendar_entries": calendar_entries(booking, trip),
    }


_PARTY = ("partySize", "party", "guests", "guestCount", "numberOfGuests", "pax", "passengerCount", "passengers")
_PASSENGERS = ("passengers", "travellers", "travelers", "guestNames")
_DEADLINE = (
    *("cancellationDeadline", "freeCancellationUntil", "cancelBy", "cancellation.deadline", "cancellation.until"),
    *("cancellationPolicy.deadline", "cancellationPolicy.freeUntil"),
)


@plugin.samples
def samples() -> Iterable[Sample]:
    from skycap_travel import samples

    return samples.bookings()
