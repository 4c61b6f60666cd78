"""The plugin that writes receipts: what it takes, and what it reads from metaData that nobody has agreed upon."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from skycap_travel.metadata.breakdowns import Code, Line
from skycap_travel.metadata.cards import is_card_number, without_card_numbers
from skycap_travel.payments import PaymentsSettings, SendPaymentReceipt, order, plugin
from tests.support.receipts import payment, receipt

WIRE = {"userId": "cmq1us0a7000108l4a1yse0y1", "bookingId": "cmq1bk0a7000108l4h3f1c9d2"}


def test_the_payload_is_what_the_backend_enqueues() -> None:
    payload = SendPaymentReceipt.model_validate(WIRE)
    assert payload.on_the_wire() == WIRE
    assert (payload.payload_spec.queue, payload.payload_spec.priority) == ("email", 1)


@pytest.mark.parametrize("missing", list(WIRE))
def test_a_payload_is_complete_or_refused(missing: str) -> None:
    with pytest.raises(ValidationError, match=missing):
        SendPaymentReceipt.model_validate({name: value for name, value in WIRE.items() if name != missing})


@pytest.mark.parametrize("name", list(WIRE))
@pytest.mark.parametrize("value", ["", "a" * 129, "cmq1\nbk", "cmq1 bk", 7, None])
def test_an_id_that_is_none_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValidationError) as refused:
        SendPaymentReceipt.model_validate(WIRE | {name: value})
    assert [error["loc"] for error in refused.value.errors()] == [(name,)]


def test_the_plugin_is_named_as_its_entry_point() -> None:
    assert plugin.name == "payments"
    assert [job.kind for job in plugin.register_jobs()] == ["send-payment-receipt"]


@pytest.mark.parametrize("name", ["Mars/Olympus", "Europe", "../etc/passwd", "", "UTC+3"])
def test_a_time_zone_that_does_not_exist_is_refused_with_the_fix(name: str) -> None:
    with pytest.raises(ValidationError, match="give an IANA name such as Europe/Istanbul"):
        PaymentsSettings(time_zone=name)


@pytest.mark.parametrize("name", ["receiptNumber", "receipt_number", "ReceiptNo"])
def test_a_number_of_the_backends_own_is_taken(name: str) -> None:
    assert receipt({name: "M-2026/17"}).number == "M-2026/17"


def test_without_one_the_number_follows_from_the_reference() -> None:
    assert receipt().number == "R-BK-2026-7F3K9Q"
    assert receipt().invoice_number is None
    assert receipt(payment_status="REFUNDED").number == "RF-BK-2026-7F3K9Q"
    assert receipt({"receiptNumber": "M-17"}, payment_status="REFUNDED").number == "RF-BK-2026-7F3K9Q"


@pytest.mark.parametrize(
    ("meta_data", "number"),
    [
        ({"invoiceNumber": "GIB2026000000123"}, "GIB2026000000123"),
        ({"invoice": {"number": 20260017}}, "20260017"),
        ({"invoice_no": " A \n 17 "}, "A 17"),
        ({"faturaNo": "GIB2026000000123"}, "GIB2026000000123"),
        ({"invoiceNumber": ""}, None),
        ({"invoiceNumber": True}, None),
        ({"invoiceNumber": {"no": {}}}, None),
        ({"invoiceNumber": "x" * 41}, None),
        ({"invoiceNumber": "4242424242424242"}, None),
    ],
)
def test_an_invoice_has_the_number_that_the_backend_gave_it_or_none(meta_data: object, number: str | None) -> None:
    assert receipt(meta_data).invoice_number == number


@pytest.mark.parametrize(
    ("meta_data", "day"),
    [
        ({"paidAt": "2026-11-20T10:05:00.000Z"}, date(2026, 11, 20)),
        ({"paidAt": "2026-11-20T21:05:00.000Z"}, date(2026, 11, 21)),
        ({"payment": {"date": "2026-11-20"}}, date(2026, 11, 20)),
        ({"payment_date": "2026-11-20"}, date(2026, 11, 20)),
        ({"paidAt": 1795172700000}, date(2026, 11, 20)),
        ({"paidAt": 1795172700}, date(2026, 11, 20)),
        ({"paidAt": "20.11.2026", "paymentDate": "2026-11-20"}, date(2026, 11, 20)),
        ({"paymentDate": "2026-11-24"}, None),
        ({"paymentDate": "2027-05-01"}, None),
        ({"paidAt": "20.11.2026"}, None),
        ({"paidAt": "2026-02-30"}, None),
        ({"paidAt": 20261120}, None),
        ({"paidAt": True}, None),
        ({}, None),
    ],
)
def test_the_day_of_payment_is_one_that_the_backend_names_and_that_has_come(
    meta_data: object, day: date | None
) -> None:
    found = receipt(meta_data)
    assert (found.paid, found.issued) == (day, date(2026, 11, 23))


def test_only_a_refund_has_a_day_of_refund() -> None:
    meta_data = {"refundedAt": "2026-11-22", "refundAmount": 100}
    assert receipt(meta_data, payment_status="REFUNDED").refunded_on == date(2026, 11, 22)
    assert (receipt(meta_data).refunded_on, receipt(meta_data).refunded) == (None, None)


@pytest.mark.parametrize(
    ("meta_data", "shown"),
    [
        ({"cardLast4": "4242", "cardBrand": "visa"}, "Visa •••• 4242"),
        ({"card": {"last4": "0042", "brand": "TROY"}}, "Troy •••• 0042"),
        ({"payment": {"card": {"last4": 4242, "brand": "american_express"}}}, "American Express •••• 4242"),
        ({"card_last_four": "4242"}, "•••• 4242"),
        ({"cardBrand": "MasterCard"}, "Mastercard"),
        ({"cardNumber": "4242 4242 4242 4242"}, "•••• 4242"),
        ({"cardNumber": 378282246310005}, "•••• 0005"),
        ({"maskedCard": "**** **** **** 4242"}, "•••• 4242"),
        ({"maskedPan": "424242******4242"}, "•••• 4242"),
        ({"card": "XXXX-XXXX-XXXX-4242"}, "•••• 4242"),
        ({"cardNumber": "4242 4242 4242 4241"}, None),
        ({"cardLast4": "424242"}, None),
        ({"cardLast4": 42}, None),
        ({"cardLast4": "٤٢٤٢"}, None),
        ({"cardBrand": "4242424242424242"}, None),
        ({"cardBrand": "Ayşe's card"}, None),
        ({"card": None, "cardLast4": ["4242"]}, None),
    ],
)
def test_a_card_is_its_brand_and_four_digits(meta_data: object, shown: str | None) -> None:
    card = receipt(meta_data).card
    assert (card and str(card)) == shown


@pytest.mark.parametrize("method", ["PAYPAL", "BANK_TRANSFER", "LOYALTY_POINTS", "CASH"])
def test_who_did_not_pay_by_card_has_none(method: str) -> None:
    assert receipt({"cardLast4": "4242"}, payment_method=method).card is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Oda 4242-4242-4242-4242", "Oda ••••"),
        ("4242 4242 4242 4242 12/28", "•••• "),
        ("٤٢٤٢٤٢٤٢٤٢٤٢٤٢٤٢", "••••"),
        ("424242424242424242424242", "••••"),
        ("GIB2026000000123", "GIB2026000000123"),
        ("+90 232 000 00 14", "+90 232 000 00 14"),
    ],
)
def test_a_card_number_in_a_text_is_hidden(text: str, shown: str) -> None:
    assert without_card_numbers(text).split() == shown.split()


def test_a_card_number_has_an_issuer_a_length_and_a_checksum() -> None:
    numbers = ["4242424242424242", "5555555555554444", "378282246310005", "30569309025904", "9792030394440796"]
    assert [number for number in numbers if not is_card_number(number)] == []
    assert not any(is_card_number(number) for number in ["4242424242424241", "1234567812345670", "42", "0" * 16])


ROOM, BREAKFAST = Line(name="Oda", total=Decimal("16450.00")), Line(name="Kahvaltı", total=Decimal("2000.00"))


@pytest.mark.parametrize(
    "meta_data",
    [
        {"items": [{"name": "Oda", "amount": 16450}, {"name": "Kahvaltı", "amount": 2000}]},
        {"line_items": [{"description": "Oda", "total": "16450.00"}, {"title": "Kahvaltı", "price": "2000"}]},
        {"lines": [{"label": "Oda", "amount": "16.450,00"}, {"label": "Kahvaltı", "amount": "2,000.00"}]},
        {"priceBreakdown": {"Oda": "16450.00", "Kahvaltı": 2000.0, "total": 18450}},
        {"items": [{"name": "Oda", "price": {"amount": 16450, "currency": "TRY"}}, {"name": "Kahvaltı", "cost": 2000}]},
        {"invoice": {"lines": [{"text": "Oda", "value": "16450 TRY"}, {"text": "Kahvaltı", "value": "2000"}]}},
        {"items": "no list", "lines": [{"name": "Oda", "amount": 16450}, {"name": "Kahvaltı", "amount": 2000}]},
        {
            "items": [{"name": "Oda", "amount": 1}],
            "rooms": [{"name": "Oda", "price": 16450}, {"name": "Kahvaltı", "price": 2000}],
        },
    ],
)
def test_lines_are_read_however_they_are_written(meta_data: object) -> None:
    assert receipt(meta_data).lines == (ROOM, BREAKFAST)


def test_a_price_is_that_of_one_when_only_so_it_adds_up() -> None:
    rooms = {"rooms": [{"roomType": "Oda", "quantity": 2, "price": 9225}]}
    assert receipt(rooms).lines == (Line(name="Oda", quantity=2, total=Decimal("18450.00")),)
    nights = {"rooms": [{"roomType": "Oda", "count": "2", "nights": 3, "pricePerNight": "3075.00"}]}
    assert receipt(nights).lines == (Line(name="Oda", quantity=2, total=Decimal("18450.00")),)
    whole = {"items": [{"name": "Oda", "qty": 2, "price": 18450}]}
    assert receipt(whole).lines == (Line(name="Oda", quantity=2, total=Decimal("18450.00")),)


def test_what_stands_beside_the_lines_is_a_line_where_the_sum_needs_it() -> None:
    items = [{"name": "Oda", "amount": 16000}]
    found = receipt({"items": items, "tax": "3200", "serviceFee": 250, "discount": 1000})
    assert [(line.name or line.code, line.total) for line in found.lines] == [
        ("Oda", Decimal("16000.00")),
        (Code.FEE, Decimal("250.00")),
        (Code.TAX, Decimal("3200.00")),
        (Code.DISCOUNT, Decimal("-1000.00")),
    ]
    within = receipt({"items": [{"name": "Oda", "amount": 18450}], "taxAmount": 3075, "taxRate": 20})
    assert (len(within.lines), within.tax, within.tax_rate) == (1, Decimal("3075.00"), Decimal(20))


@pytest.mark.parametrize(
    "meta_data",
    [
        {"items": [{"name": "Oda", "amount": 18450.01}]},
        {"items": [{"name": "Oda", "amount": 1845000}]},
        {"items": [{"name": "Oda", "amount": 18450, "currency": "EUR"}]},
        {"items": [{"name": "Oda", "amount": 18450}], "currency": "EUR"},
        {"items": [{"name": "Oda", "amount": 18450}, {"amount": 0}]},
        {"items": [{"name": "Oda", "amount": 18450}, "Kahvaltı"]},
        {"items": [{"name": "Oda", "amount": True}]},
        {"items": [{"name": "Oda", "amount": "18,450"}]},
        {"items": [{"name": f"Oda {number}", "amount": 450} for number in range(41)]},
        {"priceBreakdown": {"roomPrice": 18450}},
        {"priceBreakdown": {"tax": 9225, "vat": 9225}},
        {"items": []},
        {"priceBreakdown": {}},
    ],
)
def test_lines_that_do_not_add_up_are_left_out(meta_data: object) -> None:
    assert receipt(meta_data).lines == ()


def test_lines_add_up_as_they_are_shown() -> None:
    thirds = {"items": [{"name": name, "amount": 33.333} for name in "abc"]}
    assert receipt(thirds, total_amount=Decimal("99.999")).lines == ()
    assert receipt(thirds, total_amount=Decimal("99.99")).total == Decimal("99.99")
    assert len(receipt(thirds, total_amount=Decimal("99.99")).lines) == 3
    assert len(receipt(thirds, total_amount=Decimal("99.999"), currency="KWD").lines) == 3


def test_an_amount_is_never_a_float() -> None:
    meta_data = '{"items": [{"name": "a", "amount": 0.1}, {"name": "b", "amount": 0.2}]}'
    assert sum(line.total for line in receipt(meta_data, total_amount=Decimal("0.3")).lines) == Decimal("0.30")


@pytest.mark.parametrize(
    ("meta_data", "tax", "rate"),
    [
        ({"taxAmount": "3075.00"}, "3075.00", None),
        ({"taxAmount": 3075, "taxRate": 0.2}, "3075.00", "20"),
        ({"tax": {"amount": "1677.27", "rate": "10 %"}}, "1677.27", "10"),
        ({"kdvOrani": "%20"}, None, "20"),
        ({"vatRate": 8.5}, None, "8.5"),
        ({"taxAmount": 3075, "taxRate": 10}, "3075.00", None),
        ({"tax": 20}, None, None),
        ({"taxAmount": 18450}, None, None),
        ({"taxAmount": -5, "taxRate": 0}, None, None),
        ({"taxRate": "20 percent"}, None, None),
        ({"taxRate": True}, None, None),
        ({"taxRate": 99}, None, None),
    ],
)
def test_tax_is_shown_where_it_is_known(meta_data: object, tax: str | None, rate: str | None) -> None:
    found = receipt(meta_data)
    assert (found.tax, found.tax_rate) == (tax and Decimal(tax), rate and Decimal(rate))


@pytest.mark.parametrize(
    ("status", "amount", "refunded"),
    [
        ("REFUNDED", 18450, "18450.00"),
        ("REFUNDED", 18000, "18000.00"),
        ("REFUNDED", 18451, None),
        ("REFUNDED", None, None),
        ("PARTIALLY_REFUNDED", "450.50", "450.50"),
        ("PARTIALLY_REFUNDED", 18450, None),
        ("PARTIALLY_REFUNDED", 0, None),
        ("PARTIALLY_REFUNDED", -450, None),
    ],
)
def test_a_refund_is_shown_where_it_is_one(status: str, amount: object, refunded: str | None) -> None:
    assert receipt({"refundAmount": amount}, payment_status=status).refunded == (refunded and Decimal(refunded))


def test_the_order_is_gmails_minimum_and_what_is_known() -> None:
    meta_data = {"hotelName": "Ilıca Koyu Butik Otel", "invoiceNumber": "GIB2026000000123"}
    price = {"price": "18450.00", "priceCurrency": "TRY"}
    assert order(payment(meta_data), receipt(meta_data)) == {
        "@context": "https://schema.org",
        "@type": "Order",
        "orderNumber": "BK-2026-7F3K9Q",
        **price,
        "acceptedOffer": {
            "@type": "Offer",
            "itemOffered": {"@type": "Product", "name": "Ilıca Koyu Butik Otel"},
            **price,
            "eligibleQuantity": {"@type": "QuantitativeValue", "value": "1"},
        },
        "orderStatus": "https://schema.org/OrderProcessing",
        "customer": {"@type": "Person", "name": "Ayşe Yılmaz"},
        "partOfInvoice": {
            "@type": "Invoice",
            "identifier": "GIB2026000000123",
            "confirmationNumber": "R-BK-2026-7F3K9Q",
            "paymentStatus": "https://schema.org/PaymentComplete",
        },
    }


@pytest.mark.parametrize(("meta_data", "currency"), [({}, "TRY"), ({"hotelName": "Ilıca"}, "TL"), (None, "₺")])
def test_without_its_minimum_there_is_no_order(meta_data: object, currency: str) -> None:
    row = payment(meta_data, currency=currency)
    assert order(row, receipt(meta_data, currency=currency)) is None


LONG = 300_000


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "meta_data",
    [
        json.dumps(
            {"hotelName": "4" * LONG, "cardNumber": "*" * LONG, "invoiceNumber": "4 " * LONG, "tax": "1" * LONG}
        ),
        json.dumps({"items": [{"name": "4 2" * 1_000, "amount": 1}] * 2_000}),
        json.dumps({"priceBreakdown": {f"Oda {number}": 1 for number in range(LONG)}}),
        json.dumps({f"key{number}": {"a": 1} for number in range(LONG)}),
        '{"items": ' + "[" * LONG,
        '{"tax": 1e99999999999999999999}',
        '{"tax": ' + "1" * LONG + "}",
        '{"taxAmount": NaN, "refundAmount": Infinity, "items": [{"name": "Oda", "amount": -Infinity}]}',
    ],
)
def test_meta_data_of_any_size_is_read_soon(meta_data: str) -> None:
    found = receipt(meta_data)
    assert (found.lines, found.tax, found.card) == ((), None, None)


KEYS = st.sampled_from([
    *("items", "lines", "rooms", "priceBreakdown", "pricing", "name", "title", "amount", "price", "total", "quantity"),
    *("nights", "pricePerNight", "currency", "tax", "taxAmount", "taxRate", "discount", "serviceFee", "hotelName"),
    *("card", "cardLast4", "cardNumber", "cardBrand", "last4", "paidAt", "invoiceNumber", "receiptNumber"),
    *("refundAmount", "payment"),
])  # fmt: skip
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(["4242424242424242", "4242", "TRY", "1.250,00", "20 %", "2026-11-20", "1e999999", "-0", "NaN"]),
)
META_DATA = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=8), inner, max_size=6),
    max_leaves=25,
)
AMOUNTS = st.decimals(min_value=0, max_value=10**34, places=4)


@settings(max_examples=150, deadline=None)
@given(
    meta_data=META_DATA,
    total=AMOUNTS,
    status=st.sampled_from(["COMPLETED", "REFUNDED", "PARTIALLY_REFUNDED"]),
    currency=st.sampled_from(["TRY", "JPY", "KWD", "XBT", "", "₺"]),
)
def test_whatever_the_backend_stores_a_receipt_agrees_with_itself(
    meta_data: object, total: Decimal, status: str, currency: str
) -> None:
    found = receipt(meta_data, total_amount=total, payment_status=status, currency=currency)
    assert not found.lines or sum(line.total for line in found.lines) == found.total
    assert found.tax is None or 0 < found.tax < found.total
    assert found.refunded is None or 0 < found.refunded <= found.total
    assert found.paid is None or found.paid <= found.issued
    order(payment(meta_data, total_amount=total, payment_status=status, currency=currency), found)


@settings(max_examples=60, deadline=None)
@given(prices=st.lists(st.decimals(min_value=-100, max_value=10**6, places=2), min_size=1, max_size=6))
def test_lines_that_add_up_are_always_shown(prices: list[Decimal]) -> None:
    items = [{"name": f"Oda {index}", "amount": str(price)} for index, price in enumerate(prices)]
    found = receipt({"items": items}, total_amount=sum(prices, Decimal()))
    assert [line.total for line in found.lines] == prices
