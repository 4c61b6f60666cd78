"""Itinerary: what a booking consists of: one stay, flights one after the other, or all that a package holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, cast
from zoneinfo import ZoneInfo

from skycap_travel.metadata.facts import ZONE, facts, first_text, first_when, first_zone, objects, with_time
from skycap_travel.metadata.moments import When, stored
from skycap_travel.payloads.bookings import BookingType
from skycap_travel.rows import BookingRow, one_line

STAYS: Final = frozenset({BookingType.HOTEL, BookingType.PACKAGE})

MOST_PARTS: Final = 8
"""Flights and parts of a package that a mail lists; hardly anybody books more at once, and Gmail cuts a longer mail."""

_MOST_WORDS = 20
_LONGEST_FACT = 60


@dataclass(frozen=True, kw_only=True)
class Part:
    """One thing that takes place; ``kind`` is a BookingType, or blank where metaData does not say.

    ``facts`` are those of the kind; ``starts`` and ``ends`` are a flight's departure and arrival. ``is_return`` is true
    of a way back of which no more than its date is known.
    """

    kind: str
    facts: Mapping[str, str | None]
    starts: When | None
    ends: When | None
    is_return: bool = False


@dataclass(frozen=True, kw_only=True)
class Itinerary:
    """``main`` is the booking as a whole; ``flights`` and ``pieces`` are what metaData lists, in its order.

    ``included`` is what of a package is only a word: Breakfast. A flight's ``main`` ends with the way back; ``arrives``
    is when the way there does. ``zone`` is that of the place, as far as metaData names it.
    """

    zone: ZoneInfo
    main: Part
    arrives: When | None
    flights: tuple[Part, ...]
    pieces: tuple[Part, ...]
    included: tuple[str, ...]

    def parts(self) -> tuple[Part, ...]:
        """All that takes place, without saying anything twice: listed flights are what a flight booking is."""
        if self.main.kind == BookingType.FLIGHT:
            return self.flights or self._there_and_back()
        return (self.main, *self.flights, *self.pieces)

    def _there_and_back(self) -> tuple[Part, ...]:
        there = replace(self.main, ends=self.arrives)
        if self.main.ends is None:
            return (there,)
        kind = self.main.kind
        return (there, Part(kind=kind, facts=facts(kind, {}), starts=self.main.ends, ends=None, is_return=True))


def itinerary(booking: BookingRow, zone: ZoneInfo) -> Itinerary:
    """``zone`` is that of all places whose own zone metaData does not name."""
    meta_data, kind = booking.meta_data, booking.booking_type
    place = first_zone(meta_data) or zone
    starts, ends = (stored(when, place, is_day=kind in STAYS) for when in (booking.check_in, booking.check_out))
    arrives = None
    if kind == BookingType.FLIGHT:
        arrives = first_when(meta_data, _ARRIVAL, first_zone(meta_data, _ARRIVAL_ZONE), elsewhere=place)
        starts = with_time(starts, meta_data, _DEPARTURE, first_zone(meta_data, _DEPARTURE_ZONE), elsewhere=place)
    elif kind not in STAYS:
        starts = with_time(starts, meta_data, _STARTS, place, elsewhere=place)
        ends = with_time(ends, meta_data, _ENDS, place, elsewhere=place)
    flights = _flights(meta_data, place) if kind in (BookingType.FLIGHT, BookingType.PACKAGE) else ()
    pieces = _pieces(meta_data, place) if kind == BookingType.PACKAGE else ()
    return Itinerary(
        zone=place,
        main=Part(kind=kind, facts=facts(kind, meta_data), starts=starts, ends=ends),
        arrives=arrives,
        flights=flights[:MOST_PARTS],
        pieces=pieces[: MOST_PARTS - len(flights[:MOST_PARTS])],
        included=_words(meta_data) if kind == BookingType.PACKAGE else (),
    )


_STARTS = (
    *("pickupTime", "pickUpTime", "pickupDateTime", "pickup.time", "pickup.dateTime", "reservationTime", "tableTime"),
    *("startTime", "startDate", "startsAt", "meetingTime", "time"),
)
_ENDS = (
    *("dropoffTime", "dropOffTime", "dropoffDateTime", "dropoff.time", "dropoff.dateTime", "returnTime"),
    *("returnDateTime", "endTime", "endDate", "endsAt"),
)
_DEPARTURE = (
    *("departureTime", "departureDateTime", "departureAt", "departureDate", "departs", "departure"),
    *("departure.at", "departure.dateTime", "departure.date", "departure.time", "departing_at"),
)
_ARRIVAL = (
    *("arrivalTime", "arrivalDateTime", "arrivalAt", "arrivalDate", "arrives", "arrival"),
    *("arrival.at", "arrival.dateTime", "arrival.date", "arrival.time", "arriving_at"),
)


_DEPARTURE_ZONE = (
    *("departureTimeZone", "departureTimezone"),
    *(f"{end}.{key}" for end in ("departure", "departureAirport", "origin", "from") for key in ZONE),
)
_ARRIVAL_ZONE = (
    *("arrivalTimeZone", "arrivalTimezone"),
    *(f"{end}.{key}" for end in ("arrival", "arrivalAirport", "destination", "to") for key in ZONE),
)


_LISTS = ("flights", "segments", "legs", "itinerary", "itineraries", "slices")
_DIRECTIONS = ("outbound", "outboundFlight", "departureFlight", "inbound", "returnFlight", "return")


def _flights(meta_data: Mapping[str, object], elsewhere: ZoneInfo) -> tuple[Part, ...]:
    flights = (_flight(segment, elsewhere) for segment in _segments(meta_data))
    return tuple(filter(None, flights))


def _segments(meta_data: Mapping[str, object], depth: int = 3) -> Iterator[Mapping[str, object]]:
    """Each object that may be a flight; Amadeus puts segments into itineraries."""
    for key in (*_LISTS, *_DIRECTIONS) if depth else ():
        for each in objects(meta_data, key):
            if isinstance(each, dict):
                found = cast("dict[str, object]", each)
                yield from list(_segments(found, depth - 1)) or [found]


def _flight(segment: Mapping[str, object], elsewhere: ZoneInfo) -> Part | None:
    """None for what says neither which flight it is nor where it goes: perhaps a day of another itinerary."""
    numbered = {"flightNumber": segment.get("number")} if "carrierCode" in segment else {}
    found = _short_facts(BookingType.FLIGHT, {**numbered, **segment})
    starts = first_when(segment, _DEPARTURE, first_zone(segment, _DEPARTURE_ZONE), elsewhere=elsewhere)
    ends = first_when(segment, _ARRIVAL, first_zone(segment, _ARRIVAL_ZONE), elsewhere=elsewhere)
    leaves, lands = (found[end] or found[f"{end}_code"] for end in ("origin", "destination"))
    is_flight = found["flight"] or (leaves and (lands or starts))
    return Part(kind=BookingType.FLIGHT, facts=found, starts=starts, ends=ends) if is_flight else None


_PIECES = ("parts", "items", "components", "services", "bookings", "includes", "included", "inclusions")
_NAMED: Mapping[str, BookingType] = {
    "transfer": BookingType.AIRPORT_TRANSFER,
    "transfers": BookingType.AIRPORT_TRANSFER,
    "airportTransfer": BookingType.AIRPORT_TRANSFER,
    "car": BookingType.CAR_RENTAL,
    "carRental": BookingType.CAR_RENTAL,
    "tour": BookingType.TOUR,
    "tours": BookingType.TOUR,
    "activity": BookingType.ACTIVITY,
    "activities": BookingType.ACTIVITY,
    "restaurant": BookingType.RESTAURANT,
    "hotels": BookingType.HOTEL,
}
_KINDS: Mapping[str, str] = {kind.replace("_", ""): kind for kind in BookingType} | {
    "CAR": BookingType.CAR_RENTAL,
    "TRANSFER": BookingType.AIRPORT_TRANSFER,
}
_PIECE_STARTS = (*_STARTS, "checkInDate", "checkIn", *_DEPARTURE, "date", "start")
_PIECE_ENDS = (*_ENDS, "checkOutDate", "checkOut", *_ARRIVAL, "end")


def _pieces(meta_data: Mapping[str, object], zone: ZoneInfo) -> tuple[Part, ...]:
    untold = ((key, "") for key in _PIECES)
    found = (_piece(each, kind, zone) for key, kind in (*_NAMED.items(), *untold) for each in objects(meta_data, key))
    return tuple(filter(None, found))


def _words(meta_data: Mapping[str, object]) -> tuple[str, ...]:
    texts = (each for key in _PIECES for each in objects(meta_data, key) if isinstance(each, str))
    return tuple(filter(None, (_short(one_line(text)) for text in texts)))[:_MOST_WORDS]


def _piece(value: object, kind: str, zone: ZoneInfo) -> Part | None:
    if not isinstance(value, dict):
        return None
    piece = cast("dict[str, object]", value)
    kind = kind or _kind_called(first_text(piece, ("bookingType", "type", "kind")))
    if kind == BookingType.FLIGHT:
        return _flight(piece, zone)
    place = first_zone(piece) or zone
    found = Part(
        kind=kind,
        facts=_short_facts(kind, piece),
        starts=first_when(piece, _PIECE_STARTS, place, elsewhere=place),
        ends=first_when(piece, _PIECE_ENDS, place, elsewhere=place),
    )
    return found if kind or any(found.facts.values()) else None


def _short_facts(kind: str, meta_data: Mapping[str, object]) -> dict[str, str | None]:
    return {name: _short(text) for name, text in facts(kind, meta_data).items()}


def _short(text: str | None) -> str | None:
    return f"{text[:_LONGEST_FACT]}…" if text and len(text) > _LONGEST_FACT else text


def _kind_called(word: str | None) -> str:
    """HOTEL, ``hotel``, ``car-rental`` and ``airportTransfer`` alike; blank for anything else."""
    letters = "".join(letter for letter in word or "" if letter.isascii() and letter.isalpha())
    return _KINDS.get(letters.upper(), "")
