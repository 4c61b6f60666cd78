"""Facts: what a booking's free-form metaData says about it, as far as a mail may repeat it; nothing is made up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from skycap_travel.rows import BookingType, one_line

# What the backend's metaData calls the facts that the mail shows; the first that holds a text is taken. A dot leads
# into an object.
_SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "name": (
        *("packageName", "hotelName", "tourName", "activityName", "restaurantName", "name", "title"),
        *("package.name", "hotel.name", "tour.name", "activity.name", "restaurant.name"),
    ),
    "room": ("roomName", "roomType", "room", "room.name"),
    "check_in_time": ("checkInTime", "hotel.checkInTime"),
    "check_out_time": ("checkOutTime", "hotel.checkOutTime"),
    "airline": ("airline", "airlineName", "airline.name"),
    "flight": ("flightNumber", "flightNo", "flight", "flight.number"),
    "origin": ("origin", "from", "departureAirport", "origin.name", "from.name"),
    "destination": ("destination", "to", "arrivalAirport", "destination.name", "to.name"),
    "pick_up": ("pickupLocation", "pickUpLocation", "pickup", "pickup.location"),
    "drop_off": ("dropoffLocation", "dropOffLocation", "dropoff", "dropoff.location"),
    "meeting_point": ("meetingPoint", "meetingPoint.name"),
    "vehicle": ("vehicle", "vehicleType", "carModel", "car.model", "vehicle.type"),
    "provider": ("provider", "company", "rentalCompany", "provider.name", "company.name"),
    "address": ("address", "hotelAddress", "location", "hotel.address", "restaurant.address", "location.address"),
    "city": ("city", "hotel.city", "restaurant.city", "location.city"),
    "phone": ("phone", "hotelPhone", "hotel.phone", "restaurant.phone"),
}
_PLACE = ("name", "address", "city", "phone")
_SHOWN: Mapping[str, tuple[str, ...]] = {
    BookingType.HOTEL: (*_PLACE, "room", "check_in_time", "check_out_time"),
    BookingType.PACKAGE: (*_PLACE, "room", "check_in_time", "check_out_time"),
    BookingType.FLIGHT: ("airline", "flight", "origin", "destination"),
    BookingType.ACTIVITY: (*_PLACE, "meeting_point", "provider"),
    BookingType.TOUR: (*_PLACE, "meeting_point", "provider"),
    BookingType.CAR_RENTAL: ("vehicle", "provider", "pick_up", "drop_off", "phone"),
    BookingType.AIRPORT_TRANSFER: ("vehicle", "provider", "flight", "pick_up", "drop_off", "phone"),
    BookingType.RESTAURANT: _PLACE,
}


def facts(booking_type: str, meta_data: Mapping[str, object]) -> dict[str, str | None]:
    """Every fact that the template knows, None where ``meta_data`` does not say it or the type does not show it."""
    shown = _SHOWN.get(booking_type, _PLACE)
    return {
        fact: _first_text(meta_data, spellings) if fact in shown else None for fact, spellings in _SPELLINGS.items()
    }


def _first_text(meta_data: Mapping[str, object], spellings: tuple[str, ...]) -> str | None:
    return next(filter(None, (_text_of(_value_at(meta_data, spelling)) for spelling in spellings)), None)


def _value_at(meta_data: Mapping[str, object], path: str) -> object:
    key, _, rest = path.partition(".")
    value = meta_data.get(key)
    if not rest:
        return value
    return _value_at(cast("dict[str, object]", value), rest) if isinstance(value, dict) else None


def _text_of(value: object) -> str | None:
    """One line of text, or a whole number as text; None for anything else: there is no telling what it means."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return one_line(str(value)) if is_number or isinstance(value, str) else None
