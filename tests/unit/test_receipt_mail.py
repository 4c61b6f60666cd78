"""The receipt of a payment: whole mails against golden files, and what holds for whatever the backend has stored."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skycap.services.message import RenderedMail
from skycap_travel.rows import PaymentRow
from tests.support.golden import assert_golden
from tests.support.mails import BRAND, TEMPLATES, elements_of
from tests.support.receipts import paper, payment, receipt_mail

STATUSES = ("COMPLETED", "REFUNDED", "PARTIALLY_REFUNDED")
CARD_NUMBERS = ("4242424242424242", "5555555555554444", "378282246310005", "9792030394440796")

GOLDEN = {
    "hotel-paid": payment(
        {
            "hotelName": "Ilıca Koyu Butik Otel",
            "items": [
                {"name": "Deniz manzaralı oda", "quantity": 4, "price": "4100.00"},
                {"name": "Kahvaltı & <akşam> yemeği", "total": 1200.5},
            ],
            "serviceFee": 1200,
            "discount": "350.50",
            "taxAmount": "1677.27",
            "taxRate": 10,
            "cardLast4": "4242",
            "cardBrand": "visa",
            "paidAt": "2026-11-20T21:05:00.000Z",
            "invoiceNumber": "GIB2026000000123",
        }
    ),
    "flight-refunded": payment(
        {"from": "Kuwait", "to": "İstanbul", "refundAmount": "87.125", "refundedAt": "2026-11-22"},
        booking_type="FLIGHT",
        payment_status="REFUNDED",
        payment_method="PAYPAL",
        total_amount=Decimal("87.125"),
        currency="KWD",
        guest_name="يوسف العلي",
    ),
    "tour-partly-refunded": payment(
        {
            "tourName": "Efes & Şirince",
            "rooms": [{"name": "Yetişkin", "qty": 2, "unitPrice": 4700}],
            "refundAmount": 4700,
        },
        booking_type="TOUR",
        payment_status="PARTIALLY_REFUNDED",
        total_amount=Decimal(9400),
        currency="JPY",
    ),
    "nothing-known": payment('["hotel"]', booking_type="CRUISE", payment_method="CASH", guest_name=None),
}


@pytest.mark.parametrize("name", list(GOLDEN))
def test_a_receipt_looks_as_it_did_when_it_was_last_looked_at(name: str) -> None:
    mail = receipt_mail(GOLDEN[name])
    assert_golden(f"payments/{name}.en.subject.txt", f"{mail.subject}\n")
    assert_golden(f"payments/{name}.en.txt", mail.text)
    assert_golden(f"payments/{name}.en.html", mail.html)
    assert_golden(f"payments/{name}.en.pdf.html", paper(mail))


@pytest.mark.parametrize("locale", TEMPLATES.locales)
def test_every_status_has_words_of_its_own(locale: str) -> None:
    mails = [receipt_mail(payment(payment_status=status), locale=locale) for status in STATUSES]
    assert len({mail.subject for mail in mails}) == len(STATUSES)
    assert len({first_heading(mail) for mail in mails}) == len(STATUSES)
    assert all("BK-2026-7F3K9Q" in mail.subject for mail in mails)


def first_heading(mail: RenderedMail) -> str:
    return next(element.text[0] for element in elements_of(mail.html) if element.tag == "h1")


@pytest.mark.parametrize("locale", TEMPLATES.locales)
@pytest.mark.parametrize("row", list(GOLDEN.values()), ids=list(GOLDEN))
def test_html_and_pdf_say_all_that_the_text_says(row: PaymentRow, locale: str) -> None:
    mail = receipt_mail(row, locale=locale)
    said = set(re.findall(r"\w+", mail.text))
    assert said - words_of(mail.html) == set()
    figures = {word for word in said if any(character.isdigit() for character in word)}
    assert figures - words_of(paper(mail)) == set()


def test_a_receipt_says_that_it_is_no_invoice() -> None:
    mail = receipt_mail(payment({"invoiceNumber": "GIB2026000000123"}))
    for said in (mail.text, mail.html, paper(mail)):
        assert "It is not an invoice." in said
        assert "GIB2026000000123" in said
    assert "Invoice number" not in receipt_mail(payment()).text


def test_an_order_tells_who_was_paid() -> None:
    html = receipt_mail(GOLDEN["hotel-paid"]).html
    (script,) = [element for element in elements_of(html) if element.tag == "script"]
    order = json.loads("".join(script.text))
    assert order["merchant"] == {"@type": "Organization", "name": BRAND["name"], "url": BRAND["website"]}
    assert (order["orderNumber"], order["price"], order["priceCurrency"]) == ("BK-2026-7F3K9Q", "18450.00", "TRY")
    assert script.attributes == {"type": "application/ld+json"}


def test_without_a_name_there_is_no_order() -> None:
    assert "<script" not in receipt_mail(GOLDEN["nothing-known"]).html


def test_what_is_not_known_is_not_mentioned() -> None:
    text = receipt_mail(GOLDEN["nothing-known"]).text
    assert not re.search("Tax|Refund|Paid on|Payment method|Invoice number|CRUISE|CASH|None", text)


def test_the_longest_receipt_is_not_cut_by_gmail() -> None:
    items = [{"name": "&" * 5_000, "amount": "461.25"} for _ in range(40)]
    mail = receipt_mail(payment({"items": items, "hotelName": "&" * 5_000}, guest_name="&" * 5_000))
    assert mail.text.count("461.25") == 40
    assert len(mail.html.encode()) < 80 * 1024


MARKUP = (
    "<b>",
    "</td>",
    "<script>",
    "</script>",
    "<!--",
    "]]>",
    "&lt;",
    "&#0;",
    '"><img/src=x>',
    "{{brand}}",
    "%(name)s",
)
CHARACTERS = "<>&\"'=/`{}%#$*_\\\r\n\t\x00\x1b\x85\u2028\u202e\u2066\u2069\ud800İıŞ"
TEXT = st.lists(st.sampled_from([*MARKUP, *CHARACTERS]) | st.characters(), max_size=12).map("".join)


@settings(max_examples=40, deadline=None)
@given(name=TEXT, hotel=TEXT, line=TEXT, number=TEXT)
def test_what_somebody_wrote_is_text_and_nothing_else(name: str, hotel: str, line: str, number: str) -> None:
    def written(name: str, hotel: str, line: str, number: str) -> RenderedMail:
        meta_data = {"hotelName": hotel, "items": [{"name": line, "amount": 18450}], "receiptNumber": number}
        return receipt_mail(payment(meta_data, guest_name=name))

    mail = written(name, hotel, line, number)
    harmless = written(*(text and "x" if shown(text) else "" for text in (name, hotel, line, number)))
    assert skeleton(mail.html) == skeleton(harmless.html)
    assert skeleton(paper(mail)) == skeleton(paper(harmless))
    assert mail.subject == harmless.subject
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", mail.text + mail.html + paper(mail))


def shown(text: str) -> str:
    return "".join(re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", "", text.replace("\r", "\n")).split())


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_card_number_is_ever_shown(data: st.DataObject) -> None:
    keys = ("cardNumber", "card", "cardLast4", "cardBrand", "maskedPan", "hotelName", "invoiceNumber", "receiptNumber")
    number = data.draw(st.sampled_from(CARD_NUMBERS))
    separator = data.draw(st.sampled_from(["", " ", "-", ".", " - ", "\u00a0", "_"]))
    spaced = separator.join(re.findall(".{1,4}", number))
    around = data.draw(st.tuples(st.sampled_from(["", "Oda ", "x"]), st.sampled_from(["", " 12/28", "x"])))
    text = f"{around[0]}{spaced}{around[1]}"
    meta_data: dict[str, object] = {key: text for key in keys if data.draw(st.booleans())}
    meta_data["items"] = [{"name": text, "amount": 18450}]
    mail = receipt_mail(payment(meta_data, guest_name=text))
    for said in (mail.subject, mail.text, "".join(texts_of(mail.html)), mail.html, paper(mail)):
        assert number not in re.sub(r"[\W_]", "", said)


def words_of(html: str) -> set[str]:
    return {word for text in texts_of(html) for word in re.findall(r"\w+", text)}


def texts_of(html: str) -> list[str]:
    return _read(html).texts


def skeleton(html: str) -> list[tuple[str, tuple[tuple[str, str | None], ...]]]:
    return _read(html).tags


def _read(html: str) -> _Tags:
    parser = _Tags()
    parser.feed(html)
    parser.close()
    return parser


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.tags.append((f"/{tag}", ()))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
