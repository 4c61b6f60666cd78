"""Reservations as schema.org words them: nothing that is not known, and nothing at all without what a card needs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skycap_travel.bookings import confirmation
from skycap_travel.payloads import BookingType
from tests.support.mails import ISTANBUL, SAMPLES, booking, calendars_of, confirmation_mail, elements_of

TYPES = {
    "hotel": ["LodgingReservation"],
    "flight": ["FlightReservation", "FlightReservation"],
    "car": ["RentalCarReservation"],
    "restaurant": ["FoodEstablishmentReservation"],
    "tour": ["EventReservation"],
    "activity": ["EventReservation"],
    "transfer": ["TaxiReservation"],
    "package": ["LodgingReservation", "FlightReservation", "TaxiReservation", "EventReservation"],
}


def reservations(**columns: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = confirmation(booking(**columns), ISTANBUL)["structured_data"]
    return found


@pytest.mark.parametrize("name", list(SAMPLES))
def test_every_type_of_booking_is_a_reservation(name: str) -> None:
    found = reservations(**SAMPLES[name])
    assert [each["@type"] for each in found] == TYPES[name]
    for each in found:
        assert each["@context"] == "http://schema.org"
        assert each["reservationNumber"] == "BK-2026-7F3K9Q"
        assert each["reservationStatus"] == "http://schema.org/ReservationConfirmed"
        assert each["underName"] == {"@type": "Person", "name": "Ayşe Yılmaz"}
        assert "null" not in json.dumps(each)


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("PENDING", "ReservationPending"),
        ("CONFIRMED", "ReservationConfirmed"),
        ("CANCELLED", "ReservationCancelled"),
        ("COMPLETED", "ReservationConfirmed"),
        ("REFUNDED", "ReservationCancelled"),
    ],
)
def test_a_status_is_told(status: str, told: str) -> None:
    [found] = reservations(**SAMPLES["hotel"] | {"status": status})
    assert found["reservationStatus"] == f"http://schema.org/{told}"


def test_a_stay_begins_when_the_hotel_says_and_else_on_its_day() -> None:
    [found] = reservations(**SAMPLES["hotel"])
    assert (found["checkinTime"], found["checkoutTime"]) == ("2027-06-11T14:00:00+03:00", "2027-06-15")
    assert found["reservationFor"]["address"]["addressCountry"] == "TR"


def test_a_flight_has_its_own_clocks_at_both_ends() -> None:
    first, second = (each["reservationFor"] for each in reservations(**SAMPLES["flight"]))
    assert (first["flightNumber"], first["airline"]["iataCode"]) == ("1972", "TK")
    # Nobody has said in which zone: what the airport's clocks show.
    assert (first["departureTime"], first["arrivalTime"]) == ("2027-02-10T08:05:00", "2027-02-10T10:10:00")
    assert (second["departureTime"], second["arrivalTime"]) == (
        "2027-02-17T16:30:00+00:00",
        "2027-02-17T23:20:00+03:00",
    )
    assert (second["departureAirport"]["iataCode"], second["arrivalAirport"]["iataCode"]) == ("LHR", "IST")


@pytest.mark.parametrize(
    ("name", "columns", "without"),
    [
        ("hotel", {}, ["hotelName"]),
        ("hotel", {}, ["address", "city"]),
        ("hotel", {"check_out": None}, []),
        ("hotel", {"guest_name": None}, []),
        ("hotel", {"status": "ON_HOLD"}, []),
        ("hotel", {"booking_type": "CRUISE"}, []),
        ("car", {}, ["pickupLocation"]),
        ("car", {}, ["vehicle", "provider"]),
        ("car", {"check_in": None}, []),
        ("restaurant", {}, ["restaurantName"]),
        ("restaurant", {}, ["address", "city"]),
        ("restaurant", {"check_in": None}, []),
        ("tour", {}, ["tourName"]),
        ("tour", {}, ["meetingPoint", "address", "city"]),
        ("tour", {"check_in": None}, []),
        ("transfer", {}, ["pickup"]),
        ("transfer", {"check_in": None}, []),
        ("flight", {"meta_data": '{"flightNumber": "TK1972", "from": "IST"}'}, []),
        ("flight", {"meta_data": '{"flightNumber": "TK1972", "from": "IST", "to": "LHR"}', "check_in": None}, []),
        ("flight", {"meta_data": '{"from": "IST", "to": "LHR"}'}, []),
        ("flight", {"meta_data": '{"flightNumber": "1972", "from": "IST", "to": "LHR"}'}, []),
        ("package", {"meta_data": '{"includes": ["Breakfast"], "packageName": "A week"}'}, []),
    ],
)
def test_without_its_minimum_there_is_no_reservation(name: str, columns: dict[str, object], without: list[str]) -> None:
    sample = SAMPLES[name]
    meta_data = {key: value for key, value in json.loads(str(sample["meta_data"])).items() if key not in without}
    assert reservations(**sample | {"meta_data": json.dumps(meta_data)} | columns) == []


def test_one_flight_on_a_day_is_enough() -> None:
    meta_data = json.dumps({"flightNumber": "TK1972", "from": "IST", "to": "LHR"})
    columns = SAMPLES["flight"] | {"meta_data": meta_data}
    [there] = reservations(**columns)
    assert there["reservationFor"]["departureTime"] == "2027-02-10T08:05:00+03:00"
    assert "arrivalTime" not in there["reservationFor"]


def blocks(html: str) -> list[Any]:
    scripts = [element for element in elements_of(html) if element.tag == "script"]
    assert [script.attributes for script in scripts] == [{"type": "application/ld+json"}] * len(scripts)
    assert all(script.ancestors[-1].tag == "head" for script in scripts)
    return [json.loads("".join(script.text)) for script in scripts]


@pytest.mark.parametrize("name", list(SAMPLES))
def test_the_mail_holds_the_reservation_as_it_is(name: str) -> None:
    mail = confirmation_mail(booking(**SAMPLES[name]), locale="en")
    assert blocks(mail.html) == [reservations(**SAMPLES[name])]


def test_a_mail_without_a_reservation_has_no_script() -> None:
    assert blocks(confirmation_mail(booking(), locale="en").html) == []


@pytest.mark.parametrize("words", ["</script><script>alert(1)</script>", "<!--<script>", "]]>", "\u2028'\"&amp;\\"])
def test_no_words_can_leave_the_block(words: str) -> None:
    meta_data = json.dumps({"hotelName": words, "city": words})
    mail = confirmation_mail(booking(guest_name=words, meta_data=meta_data), locale="en")
    [[found]] = blocks(mail.html)
    assert found["reservationFor"]["name"] == found["underName"]["name"] == " ".join(words.split())
    assert mail.html.count("<script") == mail.html.count("</script") == 1


VALUES = ["2027-06-11", "2027-06-11T19:30:00Z", "2027-06-11T19:30", "19:30", "Europe/Berlin", "TK1972", "IST", "hotel"]
INNER_KEYS = [
    *("name", "flightNumber", "number", "carrierCode", "departure", "arrival", "from", "to", "at", "time", "date"),
    *("iataCode", "type", "timeZone", "segments", "city", "address", "pickup", "location"),
]
SCALARS = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8)), st.sampled_from(VALUES)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(INNER_KEYS), inner, max_size=5),
    max_leaves=20,
)
KEYS = st.sampled_from(
    [
        *("hotelName", "hotel", "address", "city", "flights", "segments", "itineraries", "outbound", "flightNumber"),
        *("departureTime", "arrival", "from", "to", "pickupLocation", "pickupTime", "dropoff", "vehicle", "startTime"),
        *("timeZone", "cancellationDeadline", "passengers", "partySize", "includes", "transfer", "visaRequired"),
        *("checkInTime", "cancellationPolicy", "items", "travelDocuments"),
    ]
)


@settings(max_examples=80, deadline=None)
@given(
    kind=st.sampled_from([*BookingType, "CRUISE"]),
    status=st.sampled_from(["PENDING", "CONFIRMED", "CANCELLED", "COMPLETED", "REFUNDED", "ON_HOLD"]),
    meta_data=st.dictionaries(KEYS, JSON, max_size=8),
    check_in=st.none() | st.datetimes(),
    check_out=st.none() | st.datetimes(),
)
def test_meta_data_of_any_shape_becomes_a_mail(
    kind: str, status: str, meta_data: dict[str, object], check_in: object, check_out: object
) -> None:
    row = booking(
        booking_type=kind, status=status, meta_data=json.dumps(meta_data), check_in=check_in, check_out=check_out
    )
    mail = confirmation_mail(row, locale="en")
    assert row.reference in mail.subject
    assert "None" not in mail.text.split()
    assert len(blocks(mail.html)) <= 1
    calendars_of(mail)
