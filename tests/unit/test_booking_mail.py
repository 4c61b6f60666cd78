"""The mail about a booking: whole mails against golden files, and what holds for whatever a guest may have written."""

from __future__ import annotations

import json
import re
from datetime import datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skycap.services.message import RenderedMail
from skycap_travel.metadata.facts import facts
from skycap_travel.payloads import BookingType
from skycap_travel.rows import BookingRow
from tests.support.golden import assert_golden
from tests.support.mails import (
    BRAND,
    SAMPLES,
    Element,
    booking,
    calendars_of,
    confirmation_mail,
    elements_of,
    in_the_dark,
)

LOCALES = ("en", "tr")
STATUSES = ("PENDING", "CONFIRMED", "CANCELLED", "COMPLETED", "REFUNDED")

GOLDEN = {
    "hotel-confirmed": booking(
        special_requests="Deniz gören bir oda rica ederiz.\nBebek yatağı & <sessiz> bir kat.",
        meta_data="""{
            "hotelName": "Ilıca Koyu Butik Otel",
            "roomType": "Deniz manzaralı oda",
            "address": "Çeşme Caddesi 14, Ilıca",
            "city": "Çeşme",
            "phone": "+90 232 000 00 14",
            "checkInTime": "14:00",
            "checkOutTime": "12:00"
        }""",
    ),
    "flight-pending": booking(
        booking_type="FLIGHT",
        status="PENDING",
        total_amount=Decimal("87.125"),
        currency="KWD",
        payment_method="PAYPAL",
        payment_status="PROCESSING",
        guest_count=3,
        guest_name="يوسف العلي",
        check_in=datetime.fromisoformat("2027-02-10T05:05"),
        check_out=datetime.fromisoformat("2027-02-17T19:40"),
        meta_data='{"from": {"name": "Kuwait"}, "to": {"name": "İstanbul"}, "flightNumber": 771}',
    ),
    "transfer-cancelled": booking(
        booking_type="AIRPORT_TRANSFER",
        status="CANCELLED",
        total_amount=Decimal(9400),
        currency="JPY",
        payment_status="REFUNDED",
        guest_count=None,
        guest_name=None,
        check_in=datetime.fromisoformat("2027-04-01T05:20"),
        check_out=None,
        meta_data='{"pickup": {"location": "Dalaman (DLM)"}, "dropoff": null, "vehicle": ""}',
    ),
    "package-refunded-without-facts": booking(
        booking_type="PACKAGE",
        status="REFUNDED",
        payment_method="BANK_TRANSFER",
        payment_status="PARTIALLY_REFUNDED",
        check_in=None,
        check_out=None,
        guest_count=None,
        meta_data='["hotel", "flight"]',
    ),
}


ROWS = GOLDEN | {name: booking(**columns) for name, columns in SAMPLES.items()}


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("name", list(GOLDEN))
def test_a_mail_looks_as_it_did_when_it_was_last_looked_at(name: str, locale: str) -> None:
    mail = confirmation_mail(GOLDEN[name], locale=locale)
    assert_golden(f"bookings/{name}.{locale}.subject.txt", f"{mail.subject}\n")
    assert_golden(f"bookings/{name}.{locale}.txt", mail.text)
    assert_golden(f"bookings/{name}.{locale}.html", mail.html)


@pytest.mark.parametrize("name", list(SAMPLES))
def test_each_type_looks_as_it_did_when_it_was_last_looked_at(name: str) -> None:
    mail = confirmation_mail(booking(**SAMPLES[name]), locale="en", manage_url="https://www.example.com/b/{reference}")
    assert_golden(f"bookings/{name}.en.txt", mail.text)
    assert_golden(f"bookings/{name}.en.html", mail.html)
    [file] = calendars_of(mail)
    assert_golden(f"bookings/{name}.en.ics", file.decode().replace("\r\n", "\n"))


@pytest.mark.parametrize("locale", LOCALES)
def test_every_status_has_words_of_its_own(locale: str) -> None:
    mails = [confirmation_mail(booking(status=status), locale=locale) for status in STATUSES]
    assert len({mail.subject for mail in mails}) == len(STATUSES)
    assert len({headings(mail, "h1")[0] for mail in mails}) == len(STATUSES)
    assert all("BK-2026-7F3K9Q" in mail.subject for mail in mails)


@pytest.mark.parametrize("locale", LOCALES)
def test_every_type_has_a_word_of_its_own(locale: str) -> None:
    mails = [confirmation_mail(booking(booking_type=kind), locale=locale) for kind in BookingType]
    assert len({headings(mail, "h2")[0] for mail in mails}) == len(BookingType)


def headings(mail: RenderedMail, tag: str) -> list[str]:
    """The text of each heading, most of which is in a ``bdi``."""
    elements = elements_of(mail.html)
    return [
        "".join(
            "".join(each.text) for each in elements if any(heading is one for one in (each, *each.ancestors))
        ).strip()
        for heading in elements
        if heading.tag == tag
    ]


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("row", list(ROWS.values()), ids=list(ROWS))
def test_the_html_says_all_that_the_text_says(row: BookingRow, locale: str) -> None:
    mail = confirmation_mail(row, locale=locale, manage_url="https://www.example.com/b/{reference}")
    links = set(re.findall(r"https://\S+[^\s.]", mail.text))
    assert links <= {element.attributes.get("href") for element in elements_of(mail.html)}
    words = re.sub(r"https://\S+", "", mail.text)
    in_text = set(re.findall(r"\w+", words)) - {"Status", "Durum"}  # the pill has no label
    in_html = {word for element in body_of(mail.html) for word in re.findall(r"\w+", "".join(element.text))}
    assert in_text - in_html == set()


def test_nothing_is_fetched_and_nothing_runs() -> None:
    for row in ROWS.values():
        html = confirmation_mail(row, locale="tr").html
        elements = elements_of(html)
        assert {element.tag for element in elements} & {"img", "link", "iframe", "object", "form"} == set()
        scripts = [element for element in elements if element.tag == "script"]
        assert all(script.attributes == {"type": "application/ld+json"} for script in scripts)
        assert not re.search(r"url\(|@import|javascript:", html)
        links = [
            element.attributes[name] for element in elements for name in ("href", "src") if name in element.attributes
        ]
        own = [f"mailto:{BRAND['support_email']}", BRAND["website"]]
        assert [link for link in links if not (link or "").startswith(MAP)] == own
        assert len(links) - len(own) == bool(facts(row.booking_type, row.meta_data)["address"])


MAP = "https://www.google.com/maps/search/?api=1&query="


@pytest.mark.parametrize("locale", LOCALES)
def test_a_screen_reader_and_a_phone_find_what_they_need(locale: str) -> None:
    elements = elements_of(confirmation_mail(GOLDEN["hotel-confirmed"], locale=locale).html)
    article = next(element for element in elements if element.attributes.get("role") == "article")
    assert [element.attributes["lang"] for element in (elements[0], article)] == [locale, locale]
    assert [element.attributes["dir"] for element in (elements[0], article)] == ["ltr", "ltr"]
    assert {element.attributes.get("role") for element in elements if element.tag == "table"} == {"presentation"}
    assert [element.tag for element in elements if re.fullmatch(r"h\d", element.tag)] == ["h1", "h2", "h2", "h2"]
    metas = {element.attributes.get("name"): element.attributes.get("content") for element in elements}
    assert metas["color-scheme"] == metas["supported-color-schemes"] == "light dark"
    assert metas["viewport"] == "width=device-width, initial-scale=1"


@pytest.mark.parametrize("shade", ["light", "dark"])
@pytest.mark.parametrize("status", STATUSES)
def test_text_stands_out_from_what_is_behind_it(status: str, shade: str) -> None:
    row = booking(**SAMPLES["package"] | {"status": status, "special_requests": "Lütfen"})
    html = confirmation_mail(row, locale="tr", manage_url="https://www.example.com/b/{reference}").html
    seen = [element for element in body_of(in_the_dark(html) if shade == "dark" else html) if is_seen(element)]
    pairs = {(next(element.styles("color")), next(element.styles("background-color"))) for element in seen}
    assert len(pairs) >= 5
    assert {pair: contrast(*pair) for pair in pairs if contrast(*pair) < 4.5} == {}


def test_the_dark_is_dark() -> None:
    html = confirmation_mail(booking(), locale="tr").html
    seen = [element for element in body_of(in_the_dark(html)) if is_seen(element)]
    backgrounds = {next(element.styles("background-color")) for element in seen}
    assert max(luminance(color) for color in backgrounds) < 0.05


def body_of(html: str) -> list[Element]:
    return [element for element in elements_of(html) if any(parent.tag == "body" for parent in element.ancestors)]


def is_seen(element: Element) -> bool:
    return bool("".join(element.text).strip()) and "none" not in element.styles("display")


def contrast(color: str, background: str) -> float:
    """WCAG 2.2's contrast ratio of two ``#rrggbb`` colours."""
    darker, lighter = sorted((luminance(color), luminance(background)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color: str) -> float:
    channels = [int(color.strip()[position : position + 2], 16) / 255 for position in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("kind", list(BookingType))
def test_the_longest_mail_is_not_cut_by_gmail(kind: BookingType) -> None:
    spelled = [
        *("name", "hotelName", "address", "city", "country", "phone", "roomName", "checkInTime", "checkOutTime"),
        *("airline", "flightNumber", "from", "to", "seat", "cabin", "baggage", "terminal", "pickup", "dropoff"),
        *("vehicle", "provider", "pnr", "meetingPoint", "cancellationPolicy", "travelDocuments"),
    ]
    one = dict.fromkeys(spelled, "\U0001f3d6" * 5_000)
    meta_data = json.dumps(
        one
        | {"flights": [one | {"departureTime": "2027-06-11T19:30"}] * 50, "items": [one | {"type": "TOUR"}] * 50}
        | {"passengers": ["\U0001f3d6" * 5_000] * 50}
    )
    row = booking(booking_type=kind, guest_name="&" * 5_000, special_requests="&\n" * 5_000, meta_data=meta_data)
    assert len(confirmation_mail(row, locale="tr").html.encode()) < 80 * 1024


def test_each_flight_says_when_it_leaves_and_lands_by_the_clocks_there() -> None:
    text = confirmation_mail(ROWS["flight"], locale="en").text
    first, second = text.partition("Flights\n")[2].partition("Good to know")[0].strip().split("\n\n")
    assert first.splitlines() == [
        "- TK 1972 · IST – LHR",
        "  Departure: Wednesday, February 10, 2027, 8:05\u202fAM (local time)",
        "  Departure terminal: 1",
        "  Arrival: Wednesday, February 10, 2027, 10:10\u202fAM (local time)",
        "  Seat: 12A",
    ]
    assert second.splitlines() == [
        "- TK 1973 · LHR – IST",
        "  Departure: Wednesday, February 17, 2027, 4:30\u202fPM (London, GMT+00:00)",
        "  Arrival: Wednesday, February 17, 2027, 11:20\u202fPM (Istanbul, GMT+03:00)",
        "  Airline: Turkish Airlines",
    ]
    assert "Passengers: Ayşe Yılmaz, Deniz Yılmaz\n" in text
    assert "Airline reference: X7K2QM\n" in text


def test_a_deadline_is_a_date_while_there_is_something_to_cancel() -> None:
    mails = {
        status: confirmation_mail(booking(**SAMPLES["hotel"] | {"status": status}), locale="en").text
        for status in STATUSES
    }
    with_deadline = {status for status, text in mails.items() if "Cancellation deadline: Tuesday, June 8, 2027" in text}
    assert with_deadline == {"PENDING", "CONFIRMED"}


@pytest.mark.parametrize(
    ("meta_data", "told"),
    [
        ({"passportRequired": True}, "You need a passport for this journey."),
        ({"visaRequired": True}, "You need a visa for this journey."),
        ({"travelDocuments": "An identity card is enough."}, "An identity card is enough."),
        ({"passportRequired": "no", "visaRequired": 1, "from": "IST", "to": "LHR"}, None),
    ],
)
def test_travel_documents_are_spoken_of_only_where_meta_data_does(
    meta_data: dict[str, object], told: str | None
) -> None:
    text = confirmation_mail(booking(booking_type="FLIGHT", meta_data=json.dumps(meta_data)), locale="en").text
    assert re.findall("Travel documents: (.*)", text) == ([told] if told else [])


def test_a_package_lists_what_it_holds() -> None:
    mail = confirmation_mail(ROWS["package"], locale="en")
    assert headings(mail, "h3") == [
        *("TK 2310 · IST – ADB", "Airport transfer", "Tour · Ephesus"),
    ]
    assert "Included: Breakfast\n" in mail.text
    assert "Hotel: Ilıca Koyu Butik Otel\n" in mail.text


MARKUP = [
    "<b>",
    "</td>",
    "<script>",
    "<!--",
    "]]>",
    "&lt;",
    "&#0;",
    '"><img/src=x>',
    "{{brand}}",
    "{%raw%}",
    "%(name)s",
]
CHARACTERS = "<>&\"'=/`{}%#\r\n\t\x00\x0b\x1b\x85\u2028\u202e\u2066\u2069\ud800İıŞ"
TEXT = st.lists(st.sampled_from([*MARKUP, *CHARACTERS]) | st.characters(), max_size=12).map("".join)


@settings(max_examples=60)
@given(name=TEXT, wish=TEXT, hotel=TEXT, address=TEXT, locale=st.sampled_from(LOCALES))
def test_what_a_guest_writes_is_text_and_nothing_else(
    name: str, wish: str, hotel: str, address: str, locale: str
) -> None:
    meta_data = json.dumps({"hotelName": hotel, "address": address})
    row = booking(guest_name=name, special_requests=wish, meta_data=meta_data)
    mail, harmless = (confirmation_mail(written, locale=locale) for written in (row, harmless_twin(row)))

    assert skeleton(mail.html) == skeleton(harmless.html)
    assert quoted_lines(mail.text) == quoted_lines(harmless.text)
    assert mail.subject == harmless.subject
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", mail.text + mail.html)
    shown = "".join("".join(element.text) for element in elements_of(mail.html))
    assert all(line in shown for line in [row.guest_name or "", *(row.special_requests or "").splitlines()])


def harmless_twin(row: BookingRow) -> BookingRow:
    """The same booking by a guest who writes nothing but x, in the same places and in as many lines."""
    shown = facts(row.booking_type, row.meta_data)
    return booking(
        guest_name=row.guest_name and "x",
        special_requests="\n".join("x" for _ in (row.special_requests or "").splitlines()),
        meta_data=json.dumps({"hotelName": shown["name"] and "x", "address": shown["address"] and "x"}),
    )


def skeleton(html: str) -> list[tuple[str, dict[str, str | None]]]:
    """The elements and their attributes; an address also stands in the link to the map, in percent signs."""
    elements = elements_of(html)
    for element in elements:
        if (link := element.attributes.get("href") or "").startswith(MAP):
            assert re.fullmatch(r"[A-Za-z0-9%+._~*-]*", link.removeprefix(MAP))
            element.attributes["href"] = MAP
    return [(element.tag, element.attributes) for element in elements]


def quoted_lines(text: str) -> list[bool]:
    """For each line, whether it is marked as somebody else's words."""
    return [line.startswith("> ") for line in text.splitlines()]
