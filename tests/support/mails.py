"""Bookings to write mails about, the templates that do it, and what a reader sees of the HTML."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any, Final
from zoneinfo import ZoneInfo

import css_inline
from jinja2 import PackageLoader

from skycap.context import Attachment
from skycap.services.calendars import calendar
from skycap.services.message import RenderedMail, build_message
from skycap.services.recipient import Recipient
from skycap.services.templates import Templates
from skycap_travel.bookings import confirmation
from skycap_travel.rows import BookingRow

BRAND: Final = {
    "name": "Ege Seyahat",
    "website": "https://www.example.com",
    "support_email": "destek@example.com",
    "color": "#9a3f26",
    "color_dark": "#f3a586",
    "logo": "",
    "address": "Ege Seyahat A.Ş., Kordon Caddesi 1, İzmir",
}
ISTANBUL: Final = ZoneInfo("Europe/Istanbul")
TEMPLATES: Final = Templates([PackageLoader("skycap_templates", "")], brand=BRAND)


def _sample(kind: str, check_in: str, check_out: str | None, **meta_data: object) -> dict[str, Any]:
    return {
        "booking_type": kind,
        "check_in": datetime.fromisoformat(check_in),
        "check_out": check_out and datetime.fromisoformat(check_out),
        "meta_data": json.dumps(meta_data),
    }


RECORD: Final[dict[str, Any]] = {
    "reference": "BK-2026-7F3K9Q",
    "booking_type": "HOTEL",
    "status": "CONFIRMED",
    "total_amount": Decimal("18450.000000000000000000000000000000"),
    "currency": "TRY",
    "payment_method": "CREDIT_CARD",
    "payment_status": "COMPLETED",
    "check_in": datetime(2027, 6, 11),  # noqa: DTZ001 - as the database returns it
    "check_out": datetime(2027, 6, 15),  # noqa: DTZ001
    "guest_count": 2,
    "special_requests": None,
    "meta_data": None,
    "created_at": datetime(2026, 11, 20, 8, 15),  # noqa: DTZ001
    "updated_at": datetime(2026, 11, 23, 9, 30),  # noqa: DTZ001
    "guest_name": "Ayşe Yılmaz",
    "guest_email": "ayse@example.com",
    "language": "tr",
}

_SEGMENTS: Final = [
    # As Amadeus has it: no zone at all.
    {
        "carrierCode": "TK",
        "number": "1972",
        "departure": {"iataCode": "IST", "terminal": "1", "at": "2027-02-10T08:05:00"},
        "arrival": {"iataCode": "LHR", "at": "2027-02-10T10:10:00"},
        "seat": "12A",
    },
    {
        "flightNumber": "TK1973",
        "airline": "Turkish Airlines",
        "from": "LHR",
        "to": "IST",
        "departureTime": "2027-02-17T16:30:00Z",
        "departureTimeZone": "Europe/London",
        "arrivalTime": "2027-02-17T23:20",
        "arrivalTimeZone": "Europe/Istanbul",
    },
]

SAMPLES: Final[dict[str, dict[str, Any]]] = {
    "hotel": _sample(
        "HOTEL",
        "2027-06-11",
        "2027-06-15",
        hotelName="Ilıca Koyu Butik Otel",
        address="Çeşme Caddesi 14",
        city="Çeşme",
        country="TR",
        phone="+90 232 000 00 14",
        checkInTime="14:00",
        cancellationDeadline="2027-06-08T21:00:00+03:00",
    ),
    "flight": _sample(
        "FLIGHT",
        "2027-02-10T05:05",
        None,
        segments=_SEGMENTS,
        pnr="X7K2QM",
        passengers=[{"firstName": "Ayşe", "lastName": "Yılmaz"}, "Deniz Yılmaz"],
        passportRequired=True,
    ),
    "car": _sample(
        "CAR_RENTAL",
        "2027-06-11T07:00",
        "2027-06-15T15:30",
        vehicle="Fiat Egea",
        provider="Ege Oto",
        pickupLocation="Adnan Menderes Airport, İzmir",
        dropoffLocation="Çeşme",
    ),
    "restaurant": _sample(
        "RESTAURANT",
        "2027-06-12T16:30",
        None,
        restaurantName="Asma Yaprağı",
        address="1005 Sokak 50",
        city="Alaçatı",
        country="TR",
        partySize=4,
    ),
    "tour": _sample(
        "TOUR",
        "2027-06-12T06:30",
        "2027-06-12T14:00",
        tourName="Ephesus",
        meetingPoint="Tourist office",
        address="Atatürk Caddesi 1",
        city="Selçuk",
        country="TR",
    ),
    "activity": _sample(
        "ACTIVITY",
        "2027-06-12",
        None,
        activityName="Sailing",
        startTime="09:30",
        meetingPoint="Marina",
        city="Kiel",
        timeZone="Europe/Berlin",
    ),
    "transfer": _sample(
        "AIRPORT_TRANSFER",
        "2027-04-01T05:20",
        None,
        pickup={"location": "Dalaman Airport (DLM)"},
        dropoff="Göcek Marina",
        vehicle="Minibus",
        provider="Ege Transfer",
    ),
    "package": _sample(
        "PACKAGE",
        "2027-06-11",
        "2027-06-15",
        packageName="A week in Çeşme",
        hotelName="Ilıca Koyu Butik Otel",
        city="Çeşme",
        country="TR",
        flights=[
            {
                "flightNumber": "TK 2310",
                "from": "IST",
                "to": "ADB",
                "departureTime": "2027-06-11T11:00",
                "arrivalTime": "2027-06-11T12:10",
            }
        ],
        transfer={"pickup": "Adnan Menderes Airport", "time": "2027-06-11T13:00", "vehicle": "Minibus"},
        includes=[
            "Breakfast",
            {"type": "tour", "name": "Ephesus", "date": "2027-06-12", "time": "09:00", "meetingPoint": "Lobby"},
        ],
    ),
}
"""Columns of a booking of each type, with all that a card needs."""


def booking(**columns: object) -> BookingRow:
    """The row of a confirmed hotel booking, with some columns as the database might return them."""
    return BookingRow.from_record(RECORD | columns)


def confirmation_mail(row: BookingRow, *, locale: str, manage_url: str | None = None) -> RenderedMail:
    variables = confirmation(row, ISTANBUL, manage_url=manage_url)
    return TEMPLATES.render("bookings/confirmation", locale=locale, variables=variables)


def calendars_of(mail: RenderedMail) -> list[bytes]:
    """The iCalendar files that the mail is sent with."""
    return [calendar(document.source) for document in mail.documents if document.filename.endswith(".ics")]


def eml(mail: RenderedMail) -> bytes:
    """The mail as it is sent, with its calendar."""
    attachments = [
        Attachment(filename="booking.ics", content=file, media_type="text/calendar; charset=utf-8; method=PUBLISH")
        for file in calendars_of(mail)
    ]
    return build_message(
        mail,
        sender="Ege Seyahat <bookings@mail.example.com>",
        recipient=Recipient.parse("ayse@example.com"),
        message_id="<booking-confirmation.1@mail.example.com>",
        date=datetime(2026, 11, 23, 9, 30, tzinfo=UTC),
        attachments=attachments,
    )


@dataclass(frozen=True)
class Element:
    """One start tag; ``text`` is what stands directly in the element."""

    tag: str
    attributes: dict[str, str | None]
    ancestors: tuple[Element, ...]
    text: list[str]

    def styles(self, name: str) -> Iterator[str]:
        """The values of a CSS property, from this element outwards."""
        for element in (self, *reversed(self.ancestors)):
            yield from re.findall(rf"(?:^|;)\s*{name}:\s*([^;]+)", element.attributes.get("style") or "")[-1:]


def elements_of(html: str) -> list[Element]:
    """Every element in the order of its start tag."""
    parser = _Elements()
    parser.feed(html)
    parser.close()
    return parser.found


def in_the_dark(html: str) -> str:
    """``html`` as a mail program in dark mode shows it: its dark styles are written onto the elements."""
    block = re.search(r"@media \(prefers-color-scheme: dark\) \{\n(.*?)\n  \}", html, re.DOTALL)
    assert block, "the mail has no dark styles"
    return css_inline.inline(re.sub(r"<style>.*?</style>", f"<style>{block[1]}</style>", html, flags=re.DOTALL))


class _Elements(HTMLParser):
    _VOID = frozenset({"br", "img", "meta"})

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Element] = []
        self._open: list[Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs), tuple(self._open), [])
        self.found.append(element)
        if tag not in self._VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self._open:
            self._open[-1].text.append(data)
