"""Bookings: writes to a guest when a booking is made, confirmed, cancelled, completed or refunded."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Annotated
from zoneinfo import ZoneInfo

from jinja2 import PackageLoader
from pydantic import AfterValidator, BaseModel, ConfigDict, EmailStr, Field

from skycap import Context, Discard, Payload, Plugin
from skycap_travel.facts import facts
from skycap_travel.rows import BOOKING_OF_USER, BookingRow, BookingType


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # OSError: a folder of zones, such as Europe
        raise ValueError(f"there is no time zone {name!r}; give an IANA name such as Europe/Istanbul") from error
    return name


class BookingsSettings(BaseModel):
    """``[plugins.bookings]``. ``time_zone`` is the one that dates and times of bookings are shown in.

    The backend stores moments, and does not store where a booking takes place. Its guests, and nearly all of its
    places, are in Türkiye; a time in a mail therefore always names its zone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    time_zone: Annotated[str, AfterValidator(_known_zone)] = "Europe/Istanbul"


plugin = Plugin("bookings", settings=BookingsSettings, templates=PackageLoader("skycap_templates", ""))

Id = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[!-~]+$")]
"""A cuid today; whatever the backend uses tomorrow, it is printable ASCII without blanks."""


class SendBookingConfirmation(Payload, kind="send-booking-confirmation", queue="email", priority=1):
    """What the backend enqueues after a booking has changed its status. The mail goes to ``user_email``."""

    booking_id: Id
    user_id: Id
    user_email: Annotated[EmailStr, Field(max_length=254)]
    booking_type: BookingType


@plugin.job()
async def send_booking_confirmation(ctx: Context[BookingsSettings], payload: SendBookingConfirmation) -> dict[str, str]:
    record = await ctx.db.fetchrow(BOOKING_OF_USER, payload.booking_id, payload.user_id)
    if record is None:
        raise Discard(f"booking {payload.booking_id} does not exist or is not user {payload.user_id}'s")
    booking = BookingRow.from_record(record)
    message_id = await ctx.mailer.send(
        payload.user_email,
        "bookings/confirmation",
        key=f"booking-confirmation:{booking.reference}:{booking.status}",
        locale=booking.language,
        on_unknown="resend",
        **confirmation(booking, ZoneInfo(ctx.settings.time_zone)),
    )
    return {"messageId": message_id}


@dataclass(frozen=True, kw_only=True)
class When:
    """A day at the place; ``moment`` is None when only the day was stored, or only the day is meant."""

    day: date
    moment: datetime | None


def confirmation(booking: BookingRow, zone: ZoneInfo) -> dict[str, object]:
    """The variables of the template ``bookings/confirmation``."""
    starts, ends = (_when(moment, booking.booking_type, zone) for moment in (booking.check_in, booking.check_out))
    return {
        "booking": booking,
        "facts": facts(booking.booking_type, booking.meta_data),
        "starts": starts,
        "ends": ends,
        "nights": _nights(starts, ends) if booking.booking_type in _STAYS else None,
        "zone": zone,
    }


_STAYS = {BookingType.HOTEL, BookingType.PACKAGE}


def _when(moment: datetime | None, booking_type: str, zone: ZoneInfo) -> When | None:
    """Midnight UTC is how the backend stores a date alone, so it means that date, whatever the zone.

    Any other moment is read in ``zone``; there, too, midnight is a date alone. Stays have a day, never a moment: when
    the room is ready is the hotel's rule, not the booking's. What really begins at one of these midnights loses its
    time in the mail, but never gains a wrong one.
    """
    if moment is None:
        return None
    if moment.time() == time():
        return When(day=moment.date(), moment=None)
    local = moment.astimezone(zone)
    is_day = local.time() == time() or booking_type in _STAYS
    return When(day=local.date(), moment=None if is_day else moment)


def _nights(starts: When | None, ends: When | None) -> int | None:
    nights = (ends.day - starts.day).days if starts and ends else 0
    return nights if nights > 0 else None
