"""The plugin that writes to guests about their bookings: what it takes, and what it reads from their rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from skycap.outcome import Discarded
from skycap.testing import Performed, perform
from skycap_travel.bookings import (
    BookingsSettings,
    SendBookingConfirmation,
    confirmation,
    plugin,
    send_booking_confirmation,
)
from skycap_travel.metadata.facts import facts
from skycap_travel.metadata.moments import When, written, zone_called
from skycap_travel.payloads import BookingType
from skycap_travel.rows import read_object
from tests.support.mails import ISTANBUL, RECORD, TEMPLATES, booking

WIRE = {
    "bookingId": "cmq1bk0a7000108l4h3f1c9d2",
    "userId": "cmq1us0a7000108l4a1yse0y1",
    "userEmail": "ayse@example.com",
    "bookingType": "HOTEL",
}


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_the_payload_is_what_the_backend_enqueues() -> None:
    payload = SendBookingConfirmation.model_validate(WIRE)
    assert payload.on_the_wire() == WIRE
    assert (payload.payload_spec.queue, payload.payload_spec.priority) == ("email", 1)


@pytest.mark.parametrize("kind", list(BookingType))
def test_every_type_of_booking_is_taken(kind: BookingType) -> None:
    assert SendBookingConfirmation.model_validate(WIRE | {"bookingType": kind.value}).booking_type is kind


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bookingId", ""),
        ("bookingId", "a" * 129),
        ("bookingId", "cmq1\nbk"),
        ("bookingId", "cmq1bk\n"),
        ("userId", "cmq1 us"),
        ("userId", "cmq1\x00us"),
        ("userId", 7),
        ("userEmail", "ayse"),
        ("userEmail", "ayse@example.com\nBcc: all@example.com"),
        ("userEmail", "ayse@example.com\n"),
        ("userEmail", "ay\x00se@example.com"),
        ("userEmail", f"ayse@{'a.' * 130}example.com"),
        ("bookingType", "hotel"),
        ("bookingType", "CRUISE"),
    ],
)
def test_a_payload_that_no_mail_can_be_made_of_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValidationError) as refused:
        SendBookingConfirmation.model_validate(WIRE | {name: value})
    assert [error["loc"] for error in refused.value.errors()] == [(name,)]


@pytest.mark.parametrize("missing", list(WIRE))
def test_a_payload_is_complete_or_refused(missing: str) -> None:
    with pytest.raises(ValidationError, match=missing):
        SendBookingConfirmation.model_validate({name: value for name, value in WIRE.items() if name != missing})


@pytest.mark.parametrize("name", ["Mars/Olympus", "Europe", "../etc/passwd", "", "UTC+3"])
def test_a_time_zone_that_does_not_exist_is_refused_with_the_fix(name: str) -> None:
    with pytest.raises(ValidationError, match="give an IANA name such as Europe/Istanbul"):
        BookingsSettings(time_zone=name)


def test_a_misspelt_setting_is_refused() -> None:
    with pytest.raises(ValidationError, match="timezone"):
        BookingsSettings.model_validate({"timezone": "Europe/Istanbul"})


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        (None, {}),
        ("null", {}),
        ('["hotel", "flight"]', {}),
        ('"Ilıca"', {}),
        ("12", {}),
        ("no JSON", {}),
        ("[" * 100_000, {}),
        ('{"hotelName": "Ilıca"}', {"hotelName": "Ilıca"}),
    ],
)
def test_meta_data_of_any_shape_is_read(stored: str | None, read: Mapping[str, object]) -> None:
    assert read_object(stored) == read


@pytest.mark.parametrize(
    ("meta_data", "name"),
    [
        ({"hotelName": "Ilıca"}, "Ilıca"),
        ({"hotel": {"name": "Ilıca"}}, "Ilıca"),
        ({"name": "  Ilıca \n Koyu\t"}, "Ilıca Koyu"),
        ({"hotelName": "", "name": "Ilıca"}, "Ilıca"),
        ({"hotelName": " \x00", "name": "Ilıca"}, "Ilıca"),
        ({"hotelName": None, "title": "Ilıca"}, "Ilıca"),
        ({"hotelName": 1453}, "1453"),
        ({"hotelName": True}, None),
        ({"hotelName": 4.5}, None),
        ({"hotelName": ["Ilıca"]}, None),
        ({"hotelName": {"tr": "Ilıca"}}, None),
        ({"hotel": "Ilıca"}, None),
        ({"hotel": {"name": {"tr": "Ilıca"}}}, None),
        ({"HOTELNAME": "Ilıca"}, "Ilıca"),
        ({"hotel_name": "Ilıca"}, "Ilıca"),
        ({}, None),
        ({"hotelName": "ı" * 300}, "ı" * 200 + "…"),
    ],
)
def test_a_fact_is_a_text_or_left_out(meta_data: dict[str, object], name: str | None) -> None:
    assert facts("HOTEL", meta_data)["name"] == name


def test_a_booking_shows_the_facts_of_its_type_only() -> None:
    meta_data = {"hotelName": "Ilıca", "from": "web", "flightNumber": 771, "city": "Çeşme"}
    assert {fact for fact, value in facts("HOTEL", meta_data).items() if value} == {"name", "city"}
    assert {fact for fact, value in facts("FLIGHT", meta_data).items() if value} == {"flight", "origin"}
    assert {fact for fact, value in facts("CRUISE", meta_data).items() if value} == {"name", "city"}


@pytest.mark.parametrize(
    ("check_in", "check_out", "nights"),
    [
        ("2027-06-11", "2027-06-15", 4),
        ("2027-06-10T21:00", "2027-06-14T21:00", 4),
        ("2027-06-11T11:00", "2027-06-15T09:00", 4),
        ("2027-03-27", "2027-03-29", 2),
        ("2027-06-11", "2027-06-11", None),
        ("2027-06-15", "2027-06-11", None),
    ],
)
def test_a_stay_is_counted_in_days_at_the_place(check_in: str, check_out: str, nights: int | None) -> None:
    found = confirmation(booking(check_in=at(check_in), check_out=at(check_out)), ISTANBUL)
    assert found["nights"] == nights
    if nights == 4:
        assert found["starts"] == When(day=date(2027, 6, 11), moment=None)
        assert found["ends"] == When(day=date(2027, 6, 15), moment=None)


def test_a_flight_has_no_nights() -> None:
    assert confirmation(booking(booking_type="FLIGHT"), ISTANBUL)["nights"] is None


@pytest.mark.parametrize(
    ("stored", "zone", "shown"),
    [
        ("2027-01-04T16:30", "Europe/Istanbul", When(day=date(2027, 1, 4), moment=at("2027-01-04T16:30+00:00"))),
        ("2027-01-04T22:30", "Europe/Istanbul", When(day=date(2027, 1, 5), moment=at("2027-01-04T22:30+00:00"))),
        ("2027-01-04T21:00", "Europe/Istanbul", When(day=date(2027, 1, 5), moment=None)),
        ("2027-01-04", "Europe/Istanbul", When(day=date(2027, 1, 4), moment=None)),
        ("2027-01-04", "America/New_York", When(day=date(2027, 1, 4), moment=None)),
    ],
)
def test_a_moment_is_shown_as_one_and_a_date_as_a_date(stored: str, zone: str, shown: When) -> None:
    assert confirmation(booking(booking_type="FLIGHT", check_in=at(stored)), ZoneInfo(zone))["starts"] == shown


def test_a_booking_without_dates_has_none() -> None:
    found = confirmation(booking(check_in=None, check_out=None), ISTANBUL)
    assert (found["starts"], found["ends"], found["nights"]) == (None, None, None)


def test_the_columns_of_a_guest_come_clean() -> None:
    row = booking(guest_name=" Ada\r\nLovelace\x00 ", special_requests="\ta\x1b\rb \n", guest_count=0)
    assert (row.guest_name, row.special_requests, row.guest_count) == ("Ada Lovelace", "a\nb", None)
    row = booking(guest_name=" \n", special_requests="", guest_count=-1)
    assert (row.guest_name, row.special_requests, row.guest_count) == (None, None, None)
    assert booking(special_requests="ı" * 3_000).special_requests == "ı" * 2_000 + "…"


def test_the_plugin_is_named_as_its_entry_point() -> None:
    assert plugin.name == "bookings"
    assert [job.kind for job in plugin.register_jobs()] == ["send-booking-confirmation"]


def test_a_row_keeps_codes_that_are_new_to_it() -> None:
    row = booking(booking_type="CRUISE", status="ON_HOLD", payment_method="CASH", meta_data=json.dumps({"name": "Ege"}))
    mail = TEMPLATES.render("bookings/confirmation", locale="en", variables=confirmation(row, ISTANBUL))
    assert mail.subject == "Your booking BK-2026-7F3K9Q"
    assert "Booking: Ege\n" in mail.text
    assert not {"CRUISE", "ON_HOLD", "CASH"} & set(mail.text.split())


class OneRow:
    """A database whose every query brings one record, or none."""

    def __init__(self, record: Mapping[str, Any] | None) -> None:
        self._record = record

    @property
    def fresh(self) -> OneRow:
        return self

    async def fetchrow(self, query: str, *args: object) -> Mapping[str, Any] | None:
        del query, args
        return self._record


async def confirmed(
    record: Mapping[str, Any] | None, *, address: str = "ayse@example.com", **settings: str
) -> Performed:
    payload = SendBookingConfirmation.model_validate(WIRE | {"userEmail": address})
    database: Any = OneRow(record)
    return await perform(send_booking_confirmation, payload, settings=BookingsSettings(**settings), db=database)


async def test_a_mail_to_another_address_than_the_users_is_sent_there_and_noted_without_either() -> None:
    done = await confirmed(RECORD, address="deniz@example.com")
    assert [mail.to for mail in done.mails] == ["deniz@example.com"]
    assert done.notes == ["sent to the address of the payload, which is not the user's"]
    same = await confirmed(RECORD | {"guest_email": " AYSE@example.com"})
    assert ([mail.to for mail in same.mails], same.notes) == (["ayse@example.com"], [])


async def test_a_booking_that_is_gone_is_discarded() -> None:
    done = await confirmed(None)
    assert isinstance(done.outcome, Discarded)
    assert done.mails == []


async def test_a_link_to_the_booking_is_there_where_the_settings_have_one() -> None:
    linked = await confirmed(RECORD | {"reference": "BK/1 ü"}, manage_url="https://www.example.com/b/{reference}")
    assert linked.mails[0].variables["manage_url"] == "https://www.example.com/b/BK%2F1%20%C3%BC"
    assert (await confirmed(RECORD)).mails[0].variables["manage_url"] is None


@pytest.mark.parametrize(
    "address",
    [
        "http://www.example.com/{reference}",
        "https://www.example.com/",
        "https:///{reference}",
        "/{reference}",
        "https://{reference}",
    ],
)
def test_a_link_that_leads_to_no_booking_is_refused_with_the_fix(address: str) -> None:
    with pytest.raises(ValidationError, match=r"write it like https://www\.example\.com/bookings/\{reference\}"):
        BookingsSettings(manage_url=address)


BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "zone", "shown"),
    [
        ("2027-06-11", BERLIN, When(day=date(2027, 6, 11), moment=None)),
        ("2027-06-11T00:00:00.000Z", BERLIN, When(day=date(2027, 6, 11), moment=None)),
        ("2027-06-11T22:30:00.000Z", BERLIN, When(day=date(2027, 6, 12), moment=at("2027-06-12T00:30+02:00"))),
        ("2027-06-11T22:30Z", None, When(day=date(2027, 6, 12), moment=at("2027-06-12T01:30+03:00"))),
        ("2027-06-11 19:30", BERLIN, When(day=date(2027, 6, 11), moment=at("2027-06-11T19:30+02:00"))),
        ("2027-06-11T19:30:00", None, When(day=date(2027, 6, 11), moment=at("2027-06-11T19:30"))),
        ("2027-06-11T19:30+0100", None, When(day=date(2027, 6, 11), moment=at("2027-06-11T19:30+01:00"))),
        ("2027-06-11T19:30+01:00", BERLIN, When(day=date(2027, 6, 11), moment=at("2027-06-11T20:30+02:00"))),
        ("2027-02-31", BERLIN, None),
        ("2027-06-11T25:00", BERLIN, None),
        ("2027-06-11T19:30+30:00", BERLIN, None),
        ("11.06.2027", BERLIN, None),
        ("9999-12-31T23:59", BERLIN, None),
        ("tomorrow", BERLIN, None),
        (1_812_000_000_000, BERLIN, None),
        (None, BERLIN, None),
    ],
)
def test_a_moment_in_meta_data_is_read_on_the_clocks_of_its_place(
    text: object, zone: ZoneInfo | None, shown: When | None
) -> None:
    assert written(text, zone, elsewhere=ISTANBUL) == shown


@pytest.mark.parametrize(
    "name", ["localtime", "posix/Europe/Berlin", "Europe", "America/Argentina", "../UTC", "Mars/Olympus", 3]
)
def test_a_zone_that_is_none_is_as_if_it_was_not_there(name: object) -> None:
    assert zone_called(name) is None


@pytest.mark.parametrize(
    ("kind", "check_in", "meta_data", "shown"),
    [
        ("RESTAURANT", "2027-06-12", {"reservationTime": "19:30"}, "2027-06-12T19:30+03:00"),
        ("RESTAURANT", "2027-06-12T16:30", {"reservationTime": "21:00"}, "2027-06-12T19:30+03:00"),
        ("RESTAURANT", "2027-06-12", {"time": "19.30", "timeZone": "Europe/Berlin"}, "2027-06-12T19:30+02:00"),
        ("RESTAURANT", None, {"reservationTime": "2027-06-12T19:30"}, "2027-06-12T19:30+03:00"),
        ("RESTAURANT", None, {"reservationTime": "19:30"}, None),
        ("CAR_RENTAL", "2027-06-12", {"pickupTime": "2027-06-12T10:00:00Z"}, "2027-06-12T13:00+03:00"),
        ("CAR_RENTAL", "2027-06-12T09:00", {"timeZone": "Europe/Berlin"}, "2027-06-12T11:00+02:00"),
        ("FLIGHT", "2027-06-12", {"departureTime": "08:05"}, "2027-06-12T08:05"),
        (
            "FLIGHT",
            "2027-06-12",
            {"departureTime": "08:05", "departureTimeZone": "Europe/Berlin"},
            "2027-06-12T08:05+02:00",
        ),
    ],
)
def test_a_time_that_only_meta_data_has_belongs_to_the_day_of_the_booking(
    kind: str, check_in: str | None, meta_data: dict[str, object], shown: str | None
) -> None:
    row = booking(booking_type=kind, check_in=check_in and at(check_in), meta_data=json.dumps(meta_data))
    starts = confirmation(row, ISTANBUL)["starts"]
    assert (starts and starts.moment) == (shown and at(shown))


@pytest.mark.parametrize(
    "meta_data",
    [
        {"flights": [{"flightNumber": "TK1972"}]},
        {"itinerary": {"segments": [{"carrierCode": "TK", "number": 1972}]}},
        {"itineraries": [{"segments": [{"carrierCode": "TK", "number": "1972"}]}]},
        {"legs": [{"airline": {"iataCode": "TK"}, "flightNo": 1972}]},
        {"outbound": {"flight": {"number": "TK-1972"}}},
        {"slices": [{"segments": [{"flightNumber": "TK 1972"}]}], "segments": [None, 3, "x", {}, {"number": 4}]},
    ],
)
def test_a_flight_is_found_wherever_it_is_listed(meta_data: dict[str, object]) -> None:
    flights = confirmation(booking(booking_type="FLIGHT", meta_data=json.dumps(meta_data)), ISTANBUL)["flights"]
    assert [flight.facts["flight"] for flight in flights] == ["TK 1972"]
