"""Reservations: a booking in schema.org's words, which mail programs read to show it on a card or in a calendar.

What they read is what the mail says: a property that is not known is left out, and without what its card needs there
is no reservation. https://developers.google.com/workspace/gmail/markup/reference lists the properties.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final
from zoneinfo import ZoneInfo

from skycap_travel.content.itinerary import Itinerary, Part
from skycap_travel.metadata.moments import When, at_clock
from skycap_travel.payloads.bookings import BookingType
from skycap_travel.rows import BookingRow

Thing = dict[str, Any]

_STATUSES: Final[Mapping[str, str]] = {
    "PENDING": "ReservationPending",
    "CONFIRMED": "ReservationConfirmed",
    "COMPLETED": "ReservationConfirmed",
    "CANCELLED": "ReservationCancelled",
    "REFUNDED": "ReservationCancelled",
}


def structured_data(
    booking: BookingRow, itinerary: Itinerary, *, guests: int | None, manage_url: str | None = None
) -> list[Thing]:
    """One object for each reservation, in the order of the mail; empty when nothing is complete enough.

    Those that would make the mail too long for Gmail are left out, the last first. A booking without a guest's name
    has none, and so has one with a status that is new.
    """
    status = _STATUSES.get(booking.status)
    if status is None or booking.guest_name is None:
        return []
    common = {
        "@context": "http://schema.org",
        "reservationNumber": booking.reference,
        "reservationStatus": f"http://schema.org/{status}",
        "underName": _thing("Person", name=booking.guest_name),
        "modifiedTime": booking.updated_at.isoformat(timespec="seconds"),
        "modifyReservationUrl": manage_url,
    }
    known = _Circumstances(guests=guests, zone=itinerary.zone)
    found = (_DESCRIBE[part.kind](part, known) for part in itinerary.parts() if part.kind in _DESCRIBE)
    return _as_many_as_fit([_known(common | reservation) for reservation in found if reservation])


_MOST_CHARACTERS: Final = 10_000


def _as_many_as_fit(reservations: list[Thing]) -> list[Thing]:
    lengths = accumulate(len(json.dumps(reservation)) for reservation in reservations)
    return [each for each, length in zip(reservations, lengths, strict=True) if length <= _MOST_CHARACTERS]


@dataclass(frozen=True, kw_only=True)
class _Circumstances:
    """What is the same for all parts of a booking."""

    guests: int | None
    zone: ZoneInfo


def _stay(part: Part, known: _Circumstances) -> Thing | None:
    # A package's own name is no hotel's.
    name = part.facts["hotel"] or part.facts["name"]
    address = _address(part.facts)
    if not (name and address and part.starts and part.ends):
        return None
    return _thing(
        "LodgingReservation",
        reservationFor=_thing("LodgingBusiness", name=name, address=address, telephone=part.facts["phone"]),
        checkinTime=_iso(at_clock(part.starts, part.facts["check_in_time"], known.zone)),
        checkoutTime=_iso(at_clock(part.ends, part.facts["check_out_time"], known.zone)),
    )


def _flight(part: Part, _: _Circumstances) -> Thing | None:
    flight = part.facts
    airline = _named("Airline", flight["airline"], flight["airline_code"])
    origin = _named("Airport", flight["origin"], flight["origin_code"])
    destination = _named("Airport", flight["destination"], flight["destination_code"])
    if not (flight["flight"] and airline and origin and destination and part.starts):
        return None
    return _thing(
        "FlightReservation",
        reservationFor=_thing(
            "Flight",
            # The number alone: the airline's code stands beside it.
            flightNumber=flight["flight"].removeprefix(f"{flight['airline_code']} "),
            airline=airline,
            departureAirport=origin,
            departureTerminal=flight["terminal"],
            arrivalAirport=destination,
            **_departure(part.starts),
            arrivalTime=_iso(part.ends) if part.ends and part.ends.moment else None,
        ),
        airplaneSeat=flight["seat"],
        airplaneSeatClass=_named("AirplaneSeatClass", flight["cabin"]),
    )


def _departure(starts: When) -> Thing:
    return {"departureTime" if starts.moment else "departureDay": _iso(starts)}


def _car(part: Part, _: _Circumstances) -> Thing | None:
    pick_up, drop_off = (_named("Place", part.facts[end], address=True) for end in ("pick_up", "drop_off"))
    company = _named("Organization", part.facts["provider"])
    if not (pick_up and part.starts and (part.facts["vehicle"] or company)):
        return None
    return _thing(
        "RentalCarReservation",
        reservationFor=_thing("RentalCar", name=part.facts["vehicle"], rentalCompany=company),
        pickupLocation=pick_up,
        pickupTime=_iso(part.starts),
        dropoffLocation=drop_off,
        dropoffTime=_iso(part.ends),
    )


def _transfer(part: Part, known: _Circumstances) -> Thing | None:
    pick_up = _named("Place", part.facts["pick_up"], address=True)
    if not (pick_up and part.starts and part.starts.moment):
        return None
    return _thing(
        "TaxiReservation",
        reservationFor=_thing("Taxi", name=part.facts["vehicle"]) if part.facts["vehicle"] else None,
        provider=_named("Organization", part.facts["provider"]),
        pickupLocation=pick_up,
        pickupTime=_iso(part.starts),
        partySize=known.guests,
    )


def _table(part: Part, known: _Circumstances) -> Thing | None:
    address = _address(part.facts)
    if not (part.facts["name"] and address and part.starts and part.starts.moment):
        return None
    return _thing(
        "FoodEstablishmentReservation",
        reservationFor=_thing(
            "FoodEstablishment", name=part.facts["name"], address=address, telephone=part.facts["phone"]
        ),
        startTime=_iso(part.starts),
        endTime=_iso(part.ends),
        partySize=known.guests,
    )


def _event(part: Part, _: _Circumstances) -> Thing | None:
    address = _address(part.facts)
    place = part.facts["meeting_point"] or part.facts["address"] or part.facts["city"]
    if not (part.facts["name"] and place and part.starts):
        return None
    return _thing(
        "EventReservation",
        reservationFor=_thing(
            "Event",
            name=part.facts["name"],
            startDate=_iso(part.starts),
            endDate=_iso(part.ends),
            location=_thing("Place", name=place, address=address, telephone=part.facts["phone"]),
        ),
    )


_DESCRIBE: Final[Mapping[str, Callable[[Part, _Circumstances], Thing | None]]] = {
    BookingType.HOTEL: _stay,
    BookingType.PACKAGE: _stay,
    BookingType.FLIGHT: _flight,
    BookingType.CAR_RENTAL: _car,
    BookingType.AIRPORT_TRANSFER: _transfer,
    BookingType.RESTAURANT: _table,
    BookingType.ACTIVITY: _event,
    BookingType.TOUR: _event,
}


def _thing(kind: str, **properties: object) -> Thing:
    return {"@type": kind, **_known(properties)}


def _known(properties: Mapping[str, object]) -> Thing:
    return {name: value for name, value in properties.items() if value is not None}


def _named(kind: str, name: str | None, iata_code: str | None = None, *, address: bool = False) -> Thing | None:
    """None without a name or a code. ``address`` is for a place whose name is all that is known of where it is."""
    if not name and not iata_code:
        return None
    return _thing(kind, name=name or iata_code, iataCode=iata_code, address=name if address else None)


def _address(place: Mapping[str, str | None]) -> Thing | None:
    if not place["address"] and not place["city"]:
        return None
    return _thing(
        "PostalAddress",
        streetAddress=place["address"],
        addressLocality=place["city"],
        addressCountry=place["country"],
    )


def _iso(when: When | None) -> str | None:
    """A moment with its offset, where that is known; a day as one."""
    if when is None:
        return None
    return when.moment.isoformat(timespec="seconds") if when.moment else when.day.isoformat()
