"""iCalendar files: what comes out is RFC 5545, whatever a guest has written, and another program reads it back."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

import icalendar
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skycap.services.calendars import calendar
from tests.support.mails import booking, calendars_of, confirmation_mail

EVENT = {
    "uid": "BK-1-1@www.example.com",
    "sequence": 7,
    "stamp": "2026-11-23T09:30:00+00:00",
    "status": "CONFIRMED",
    "starts": "2027-06-11T19:30:00+03:00[Europe/Istanbul]",
    "summary": "Dinner",
}


def made(*events: dict[str, object]) -> bytes:
    return calendar("\n".join(json.dumps(EVENT | event) for event in events))


def components(file: bytes, name: str) -> list[Any]:
    """What the library reads back."""
    return list(cast("Any", icalendar.Calendar.from_ical(file)).walk(name))


def test_an_event_comes_back_with_all_that_it_has() -> None:
    whole = made({"location": "Alaçatı", "description": "a\nb", "url": "https://www.example.com/b/1"})
    [event] = components(whole, "VEVENT")
    assert (event["uid"], event["sequence"], event["status"]) == ("BK-1-1@www.example.com", 7, "CONFIRMED")
    assert (event["summary"], event["location"], event["description"]) == ("Dinner", "Alaçatı", "a\nb")
    assert event["url"] == "https://www.example.com/b/1"
    assert event.decoded("dtstart") == datetime(2027, 6, 11, 19, 30, tzinfo=ZoneInfo("Europe/Istanbul"))
    assert event.decoded("dtstamp") == datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
    assert "dtend" not in event
    assert event["transp"] == "OPAQUE"


def test_the_file_says_what_it_is_and_that_nobody_has_to_answer() -> None:
    lines = made({}).decode().split("\r\n")
    assert lines[0] == "BEGIN:VCALENDAR"
    assert {"VERSION:2.0", "PRODID:-//skycap//mails//EN", "CALSCALE:GREGORIAN", "METHOD:PUBLISH"} < set(lines)
    assert lines[-2:] == ["END:VCALENDAR", ""]


def test_equal_sources_give_equal_bytes() -> None:
    assert made({}, {"uid": "2"}) == made({}, {"uid": "2"})


@pytest.mark.parametrize(
    ("starts", "written"),
    [
        ("2027-06-11", "DTSTART;VALUE=DATE:20270611"),
        ("2027-06-11T19:30:00", "DTSTART:20270611T193000"),
        ("2027-06-11T19:30:00+02:00", "DTSTART:20270611T173000Z"),
        ("2027-06-11T19:30:00+00:00[UTC]", "DTSTART:20270611T193000Z"),
        ("2027-06-11T19:30:00[Europe/Berlin]", "DTSTART;TZID=Europe/Berlin:20270611T193000"),
        ("2027-06-11T19:30:00+03:00[Europe/Berlin]", "DTSTART;TZID=Europe/Berlin:20270611T183000"),
    ],
)
def test_a_day_a_moment_and_what_a_clock_shows_are_three_things(starts: str, written: str) -> None:
    assert written in made({"starts": starts}).decode().split("\r\n")


@pytest.mark.parametrize(
    "zone",
    [
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Africa/Casablanca",
        "Europe/Istanbul",
        "Asia/Kathmandu",
    ],
)
@pytest.mark.parametrize("year", [2027, 2028])
def test_the_clocks_of_a_zone_are_told_as_they_are(zone: str, year: int) -> None:
    whole = made({"starts": f"{year}-06-11T12:00:00[{zone}]"})
    [described] = components(whole, "VTIMEZONE")
    assert described["tzid"] == zone
    moment, last = datetime(year, 1, 1, tzinfo=ZoneInfo(zone)).astimezone(UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    while moment < last - timedelta(days=1):
        expected = moment.astimezone(ZoneInfo(zone)).utcoffset()
        assert offset_told(described, moment) == expected, moment
        moment += timedelta(minutes=30)


def offset_told(described: Any, moment: datetime) -> timedelta:
    """The offset of the last observance that has begun at ``moment``, each in its own local time (RFC 5545 §3.6.5)."""
    begun = [
        (begins, observance.decoded("tzoffsetto"))
        for observance in described.subcomponents
        for begins in [(observance.decoded("dtstart") - observance.decoded("tzoffsetfrom")).replace(tzinfo=UTC)]
        if begins <= moment
    ]
    return cast("timedelta", max(begun)[1])


def test_a_zone_is_told_from_before_the_first_event_on() -> None:
    whole = made({"starts": "2027-01-01T00:30:00[Pacific/Kiritimati]", "ends": "2027-12-31T23:30:00[Pacific/Niue]"})
    for described in components(whole, "VTIMEZONE"):
        first = min(observance.decoded("dtstart") for observance in described.subcomponents)
        assert first < datetime(2027, 1, 1)  # noqa: DTZ001 - local, as RFC 5545 has it


TEXT = (
    st.text(max_size=120) | st.text("\r\n:;,\\\"'%\u2028\x85\tBEGIN", max_size=200) | st.text("ığüşöçİ🏖️", max_size=200)
)


@settings(max_examples=60, deadline=None)
@given(summary=TEXT, description=TEXT, location=TEXT)
def test_no_words_can_be_more_than_words(summary: str, description: str, location: str) -> None:
    # As the template writes them: control characters and lone surrogates have left before.
    summary, description, location = (
        re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", "", text) for text in (summary, description, location)
    )
    whole = made({"summary": summary or "x", "description": description, "location": location})
    assert all(len(line) <= 75 for line in whole.split(b"\r\n"))
    assert b"\n" not in whole.replace(b"\r\n", b"")
    names = [re.split("[:;]", line)[0] for line in whole.decode().replace("\r\n ", "").split("\r\n")]
    plain = made({"summary": "x", "description": description and "x", "location": location and "x"}).decode()
    assert names == [re.split("[:;]", line)[0] for line in plain.replace("\r\n ", "").split("\r\n")]
    [event] = components(whole, "VEVENT")
    assert event["summary"] == read_as(summary or "x")
    assert event.get("description", "") == read_as(description)
    assert event.get("location", "") == read_as(location)


def read_as(text: str) -> str:
    """The library writes a backslash before an N, which nobody means, as the line break that RFC 5545 lets it be."""
    return text.replace("\\N", "\n")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("", "there is no event in it"),
        ("BEGIN:VCALENDAR", "line 1"),
        ('"event"', "line 1"),
        (json.dumps({"uid": "1"}), "line 1: sequence"),
        (json.dumps(EVENT | {"rrule": "FREQ=SECONDLY"}), "rrule"),
        (json.dumps(EVENT | {"status": "DONE"}), "status"),
        (json.dumps(EVENT | {"sequence": -1}), "sequence"),
        (json.dumps(EVENT | {"starts": "2027-02-31"}), "starts"),
        (json.dumps(EVENT | {"starts": "2027-06-11T19:30:00[Mars/Olympus]"}), "starts"),
        (json.dumps(EVENT | {"starts": "2027-06-11T19:30:00[../../etc/passwd]"}), "starts"),
        (json.dumps(EVENT | {"stamp": "2026-11-23"}), "stamp"),
        (json.dumps(EVENT | {"ends": "2027-06-11"}), "ends"),
        (json.dumps(EVENT | {"ends": "2027-06-11T19:30:00+03:00[Europe/Istanbul]"}), "ends"),
        (json.dumps(EVENT | {"ends": "2027-06-11T22:30:00"}), "ends"),
        (json.dumps(EVENT | {"url": "javascript:alert(1)"}), "url"),
        (json.dumps(EVENT) + "\n" + json.dumps(EVENT | {"uid": ""}), "line 2: uid"),
    ],
)
def test_what_is_no_event_is_refused_with_the_line_and_the_property(line: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        calendar(line)


def test_an_error_does_not_repeat_what_a_guest_wrote() -> None:
    with pytest.raises(ValueError, match="line 1") as refused:
        calendar(json.dumps(EVENT | {"starts": "ayse@example.com", "status": "ayse@example.com"}))
    assert "ayse" not in str(refused.value)


def test_a_stay_is_days_that_leave_a_guest_free_for_other_things() -> None:
    [event] = events_of(booking(meta_data='{"hotelName": "Ilıca", "address": "Çeşme Caddesi 14", "city": "Çeşme"}'))
    assert (event.decoded("dtstart"), event.decoded("dtend")) == (date(2027, 6, 11), date(2027, 6, 15))
    assert (event["transp"], event["status"]) == ("TRANSPARENT", "CONFIRMED")
    assert event["summary"] == "Hotel stay · Ilıca"
    assert event["location"] == "Ilıca, Çeşme Caddesi 14, Çeşme"
    assert "BK-2026-7F3K9Q" in event["description"]


def events_of(row: Any) -> list[Any]:
    [file] = calendars_of(confirmation_mail(row, locale="en"))
    return components(file, "VEVENT")


def test_a_cancellation_is_the_same_event_in_a_later_version() -> None:
    [confirmed] = events_of(booking())
    [cancelled] = events_of(booking(status="CANCELLED", updated_at=datetime.fromisoformat("2026-11-24T09:30")))
    assert cancelled["uid"] == confirmed["uid"] == "BK-2026-7F3K9Q-1@www.example.com"
    assert cancelled["sequence"] == confirmed["sequence"] + 86_400
    assert (confirmed["status"], cancelled["status"]) == ("CONFIRMED", "CANCELLED")
    assert cancelled.decoded("dtstamp") > confirmed.decoded("dtstamp")


@pytest.mark.parametrize(("status", "told"), [("PENDING", "TENTATIVE"), ("REFUNDED", "CANCELLED")])
def test_a_status_is_told_in_the_words_of_a_calendar(status: str, told: str) -> None:
    assert [event["status"] for event in events_of(booking(status=status))] == [told]


@pytest.mark.parametrize("columns", [{"check_in": None}, {"status": "COMPLETED"}, {"status": "ON_HOLD"}])
def test_without_a_date_or_after_the_trip_there_is_no_calendar(columns: dict[str, object]) -> None:
    assert calendars_of(confirmation_mail(booking(**columns), locale="en")) == []


def test_each_flight_is_an_event_on_the_clocks_of_its_airport() -> None:
    first, second = events_of(
        booking(
            booking_type="FLIGHT",
            meta_data=json.dumps(
                {
                    "segments": [
                        {
                            "flightNumber": "TK1721",
                            "from": "IST",
                            "to": "BER",
                            "departureTime": "2027-03-27T22:10",
                            "departureTimeZone": "Europe/Istanbul",
                            "arrivalTime": "2027-03-28T00:20",
                            "arrivalTimeZone": "Europe/Berlin",
                        },
                        {"flightNumber": "TK1722", "from": "BER", "to": "IST", "departureTime": "2027-03-30T11:00"},
                    ]
                }
            ),
        )
    )
    assert first.decoded("dtstart") == datetime(2027, 3, 27, 22, 10, tzinfo=ZoneInfo("Europe/Istanbul"))
    assert first.decoded("dtend") == datetime(2027, 3, 28, 0, 20, tzinfo=ZoneInfo("Europe/Berlin"))
    assert first["summary"] == "TK 1721 · IST – BER"
    assert second.decoded("dtstart") == datetime(2027, 3, 30, 11, 0)  # noqa: DTZ001 - nobody has said in which zone
    assert [event["uid"] for event in (first, second)] == [f"BK-2026-7F3K9Q-{n}@www.example.com" for n in (1, 2)]
