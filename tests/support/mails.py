"""Bookings to write mails about, the templates that do it, and what a reader sees of the HTML."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any, Final
from zoneinfo import ZoneInfo

import css_inline
from jinja2 import PackageLoader

from skycap.services.message import RenderedMail
from skycap.services.templates import Templates
from skycap_travel.bookings import confirmation
from skycap_travel.rows import BookingRow

BRAND: Final = {"name": "Ege Seyahat", "website": "https://www.example.com", "support_email": "destek@example.com"}
ISTANBUL: Final = ZoneInfo("Europe/Istanbul")
TEMPLATES: Final = Templates([PackageLoader("skycap_templates", "")], brand=BRAND)

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
    "guest_name": "Ayşe Yılmaz",
    "language": "tr",
}


def booking(**columns: object) -> BookingRow:
    """The row of a confirmed hotel booking, with some columns as the database might return them."""
    return BookingRow.from_record(RECORD | columns)


def confirmation_mail(row: BookingRow, *, locale: str) -> RenderedMail:
    return TEMPLATES.render("bookings/confirmation", locale=locale, variables=confirmation(row, ISTANBUL))


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
    _VOID = frozenset({"br", "meta"})

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
