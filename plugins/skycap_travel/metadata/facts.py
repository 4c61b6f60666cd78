"""Facts: what a booking's free-form metaData says about it, as far as a mail may repeat it; nothing is made up."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import cast
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from skycap_travel.metadata.free_form import values
from skycap_travel.metadata.moments import When, at_clock, written, zone_called
from skycap_travel.payloads.bookings import BookingType
from skycap_travel.rows import LONGEST_LINE, one_line

# What the backend's metaData calls the facts that the mail shows; the first that holds a text is taken. A dot leads
# into an object. Amadeus, from which flights come, says departure.iataCode, carrierCode and the like.
_SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "name": (
        *("packageName", "hotelName", "tourName", "activityName", "restaurantName", "name", "title"),
        *("package.name", "hotel.name", "tour.name", "activity.name", "restaurant.name"),
    ),
    "hotel": ("hotelName", "hotel.name"),
    "room": ("roomName", "roomType", "room", "room.name"),
    "check_in_time": ("checkInTime", "hotel.checkInTime"),
    "check_out_time": ("checkOutTime", "hotel.checkOutTime"),
    "airline": ("airline", "airlineName", "airline.name", "carrier", "carrierName", "carrier.name"),
    "airline_code": ("airlineCode", "carrierCode", "airline.iataCode", "airline.code", "carrier.iataCode"),
    "flight": ("flightNumber", "flightNo", "flight", "flight.number"),
    "origin": (
        *("origin", "from", "departureAirport", "origin.name", "from.name", "departureAirport.name"),
        *("departure.airport", "departure.airport.name", "departure.name", "departureCity", "origin.city", "from.city"),
    ),
    "origin_code": (
        *("originCode", "departureAirportCode", "origin.iataCode", "origin.code", "from.iataCode", "from.code"),
        *("departure.iataCode", "departure.airport.iataCode", "departureAirport.iataCode", "departureAirport.code"),
    ),
    "terminal": ("departureTerminal", "terminal", "departure.terminal", "origin.terminal", "from.terminal"),
    "destination": (
        *("destination", "to", "arrivalAirport", "destination.name", "to.name", "arrivalAirport.name"),
        *("arrival.airport", "arrival.airport.name", "arrival.name", "arrivalCity", "destination.city", "to.city"),
    ),
    "destination_code": (
        *("destinationCode", "arrivalAirportCode", "destination.iataCode", "destination.code", "to.iataCode"),
        *("to.code", "arrival.iataCode", "arrival.airport.iataCode", "arrivalAirport.iataCode", "arrivalAirport.code"),
    ),
    "seat": ("seat", "seatNumber", "seat.number"),
    "cabin": ("cabinClass", "cabin", "travelClass", "flightClass", "bookingClass", "class"),
    "baggage": ("baggage", "baggageAllowance", "luggage"),
    "pick_up": ("pickupLocation", "pickUpLocation", "pickup", "pickup.location", "pickup.address"),
    "drop_off": ("dropoffLocation", "dropOffLocation", "dropoff", "dropoff.location", "dropoff.address"),
    "meeting_point": ("meetingPoint", "meetingPoint.name"),
    "vehicle": ("vehicle", "vehicleType", "carModel", "car.model", "vehicle.type"),
    "provider": ("provider", "company", "rentalCompany", "provider.name", "company.name"),
    "provider_reference": (
        *("pnr", "recordLocator", "airlineReference", "providerReference", "confirmationNumber", "confirmationCode"),
        *("voucherNumber", "hotelConfirmationNumber"),
    ),
    "address": ("address", "hotelAddress", "location", "hotel.address", "restaurant.address", "location.address"),
    "city": ("city", "hotel.city", "restaurant.city", "location.city"),
    "country": ("country", "hotel.country", "restaurant.country", "location.country"),
    "phone": ("phone", "hotelPhone", "hotel.phone", "restaurant.phone"),
    "cancellation_policy": (
        "cancellationPolicy",
        "cancellationTerms",
        "cancellation.policy",
        "cancellationPolicy.text",
    ),
    "travel_documents": ("travelDocuments", "passportNote", "visaNote", "documentsNote", "entryRequirements"),
}
_PLACE = ("name", "address", "city", "country", "phone", "provider_reference", "cancellation_policy")
_STAY = (*_PLACE, "room", "check_in_time", "check_out_time")
_FLIGHT = (
    *("airline", "airline_code", "flight", "origin", "origin_code", "terminal", "destination", "destination_code"),
    *("seat", "cabin", "baggage", "provider_reference", "cancellation_policy", "travel_documents"),
)
_DRIVE = ("vehicle", "provider", "pick_up", "drop_off", "phone", "provider_reference", "cancellation_policy")
_SHOWN: Mapping[str, tuple[str, ...]] = {
    BookingType.HOTEL: _STAY,
    BookingType.PACKAGE: (*_STAY, "hotel", "travel_documents"),
    BookingType.FLIGHT: _FLIGHT,
    BookingType.ACTIVITY: (*_PLACE, "meeting_point", "provider"),
    BookingType.TOUR: (*_PLACE, "meeting_point", "provider", "travel_documents"),
    BookingType.CAR_RENTAL: _DRIVE,
    BookingType.AIRPORT_TRANSFER: (*_DRIVE, "flight"),
    BookingType.RESTAURANT: _PLACE,
}
ZONE = ("timeZone", "timezone", "tz")
_MOST_PEOPLE = 999
_IATA_AIRPORT = re.compile(r"[A-Z]{3}")
_IATA_FLIGHT = re.compile(r"(?P<airline>[A-Z][A-Z0-9]|[0-9][A-Z])[ -]?(?P<number>\d{1,4}[A-Z]?)")


def facts(booking_type: str, meta_data: Mapping[str, object]) -> dict[str, str | None]:
    """Every fact that the template knows, None where ``meta_data`` does not say it or the type does not show it."""
    shown = _SHOWN.get(booking_type, _PLACE)
    found = {
        fact: first_text(meta_data, spellings) if fact in shown else None for fact, spellings in _SPELLINGS.items()
    }
    if booking_type == BookingType.FLIGHT:
        _read_codes(found)
    if found["hotel"] == found["name"]:
        found["hotel"] = None
    return found


def _read_codes(flight: dict[str, str | None]) -> None:
    """IST as an airport's name is its code, TK in TK1972 is the airline's; a bare 1972 of the airline TK is TK 1972."""
    for end in ("origin", "destination"):
        if flight[f"{end}_code"] is None and _IATA_AIRPORT.fullmatch(flight[end] or ""):
            flight[f"{end}_code"] = flight[end]
    number = flight["flight"] or ""
    code = flight["airline_code"]
    if found := _IATA_FLIGHT.fullmatch(number):
        flight["airline_code"] = found["airline"]
        flight["flight"] = f"{found['airline']} {found['number']}"
    elif code and number.isdecimal():
        flight["flight"] = f"{code} {number}"


def first_text(meta_data: Mapping[str, object], spellings: tuple[str, ...]) -> str | None:
    """What the first of these keys with a text holds, as one line."""
    return next(filter(None, (_text_of(value) for value in values(meta_data, spellings))), None)


def first_when(
    meta_data: Mapping[str, object], spellings: tuple[str, ...], zone: ZoneInfo | None, *, elsewhere: ZoneInfo
) -> When | None:
    """What the first of these keys with a date holds; a time alone in a further key belongs to that date."""
    held = list(values(meta_data, spellings))
    found = next(filter(None, (written(value, zone, elsewhere=elsewhere) for value in held)), None)
    for value in held if found else ():
        found = found and at_clock(found, value, zone)
    return found


def with_time(
    when: When | None,
    meta_data: Mapping[str, object],
    spellings: tuple[str, ...],
    zone: ZoneInfo | None,
    *,
    elsewhere: ZoneInfo,
) -> When | None:
    """What a column says, with the time that ``meta_data`` has for that day; the column knows best."""
    if when is None or when.moment is not None:
        return when or first_when(meta_data, spellings, zone, elsewhere=elsewhere)
    found = first_when(meta_data, spellings, zone, elsewhere=elsewhere)
    if found and found.day == when.day:
        return found
    for value in values(meta_data, spellings):
        when = at_clock(when, value, zone)
    return when


def first_zone(meta_data: Mapping[str, object], spellings: tuple[str, ...] = ZONE) -> ZoneInfo | None:
    """The time zone that the first of these keys with an IANA name names."""
    return next(filter(None, (zone_called(value) for value in values(meta_data, spellings))), None)


def is_true(meta_data: Mapping[str, object], *spellings: str) -> bool:
    """Whether one of these keys holds true itself: a text might say "no"."""
    return any(value is True for value in values(meta_data, spellings))


def names(meta_data: Mapping[str, object], spellings: tuple[str, ...], *, at_most: int) -> tuple[str, ...]:
    """The people in the first list with any: texts, or objects with a name or its parts."""
    for value in values(meta_data, spellings):
        people = [_person(each) for each in cast("list[object]", value)] if isinstance(value, list) else []
        if found := tuple(filter(None, people)):
            return found[:at_most]
    return ()


def _person(value: object) -> str | None:
    if not isinstance(value, dict):
        return _text_of(value) if isinstance(value, str) else None
    person = cast("dict[str, object]", value)
    if name := first_text(person, ("name", "fullName", "passengerName")):
        return name
    return " ".join(filter(None, (first_text(person, ("firstName",)), first_text(person, ("lastName",))))) or None


def count(meta_data: Mapping[str, object], spellings: tuple[str, ...]) -> int | None:
    """The first of these keys with a number of people."""
    found = (value for value in values(meta_data, spellings) if isinstance(value, int) and not isinstance(value, bool))
    return next((number for number in found if 0 < number <= _MOST_PEOPLE), None)


def objects(meta_data: Mapping[str, object], key: str) -> Iterator[object]:
    """What the list at ``key`` holds, or the one object."""
    value = meta_data.get(key)
    if isinstance(value, list):
        yield from cast("list[object]", value)
    elif isinstance(value, dict):
        yield cast("dict[str, object]", value)


def map_link(found: Mapping[str, str | None]) -> str | None:
    """Where the address is on a map; None without a street: a city alone finds a city."""
    if not found["address"]:
        return None
    place = [found["name"], found["address"], found["city"], found["country"]]
    query = urlencode({"api": 1, "query": ", ".join(filter(None, place))[:LONGEST_LINE]})
    return f"https://www.google.com/maps/search/?{query}"


def _text_of(value: object) -> str | None:
    """One line of text, or a whole number as text; None for anything else: there is no telling what it means."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return one_line(str(value)) if is_number or isinstance(value, str) else None
