"""Reports: what can be asked for, who may have it, which days they are about, and files that harm no reader."""

from __future__ import annotations

import csv
import gzip
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from io import StringIO
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from skycap import Database, InvalidPayload, JobState
from skycap.discovery import PluginChoice, load
from skycap.outcome import Discarded
from skycap.testing import Performed, perform
from skycap_travel import reports
from skycap_travel.content.periods import Period
from skycap_travel.content.tables import Table, TooLarge, plain_amount
from skycap_travel.payloads import GenerateReport, NamedPeriod
from skycap_travel.reports import ReportsSettings, generate_report

SETTINGS = ReportsSettings(report_recipients=("example.com", "Auditor@example.org"))
WIRE = {"mailTo": "finance@example.com", "period": "last-month"}
BOOKING = {
    "reference": "BK-1",
    "booking_type": "HOTEL",
    "status": "CONFIRMED",
    "payment_method": "CREDIT_CARD",
    "payment_status": "COMPLETED",
    "currency": "TRY",
    "total_amount": Decimal("1200.000000000000000000000000000000"),
    "check_in": None,
    "check_out": datetime.fromisoformat("2027-06-15T00:00"),
    "guest_count": None,
    "created_at": datetime.fromisoformat("2026-10-31T20:59:59"),
}


class Rows:
    """Streams the rows that a test has."""

    def __init__(self, *rows: Mapping[str, Any]) -> None:
        self._rows = rows
        self.arguments: tuple[object, ...] = ()

    async def stream(self, _query: str, *arguments: object, **_batch: int) -> AsyncIterator[Mapping[str, Any]]:
        self.arguments = arguments
        for row in self._rows:
            yield row


async def report(*rows: Mapping[str, Any], settings: ReportsSettings = SETTINGS, **fields: Any) -> Performed:
    payload = GenerateReport.model_validate(WIRE | {"kind": "bookings"} | fields)
    now = datetime(2026, 11, 28, 12, tzinfo=UTC)
    return await perform(generate_report, payload, settings=settings, db=cast("Database", Rows(*rows)), now=now)


def written(*rows: list[Any]) -> bytes:
    with Table() as table:
        for row in rows:
            table.write(row)
        return table.content(most=10_000_000)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "payload: says no period; give from and to, both days included, or a period such as last-month"),
        ({"from": "2026-10-01"}, "payload: says no period"),
        ({"from": "2026-10-02", "to": "2026-10-01"}, "payload: ends before it begins: to is earlier than from"),
        ({"from": "1026-10-02", "to": "2026-10-01"}, "payload: is about more than 3,660 days; give a shorter period"),
        ({"period": "last-month", "to": "2026-10-01"}, "payload: has a period, and from or to as well"),
        ({"period": "next-month"}, "period: input should be 'yesterday', 'last-week', 'last-month'"),
        ({"from": "2026-02-30", "to": "2026-03-01"}, "from: input should be a valid date"),
        ({"period": "yesterday", "format": "pdf"}, "format: input should be 'csv' or 'html'"),
        ({"period": "yesterday", "kind": "guests"}, "kind: input should be 'bookings' or 'revenue'"),
        ({"period": "yesterday", "currency": "lira"}, "currency: string should match pattern"),
        ({"period": "yesterday", "mailTo": "finance"}, "mailTo: value is not a valid email address"),
        ({"period": "yesterday", "cc": "x"}, "cc: "),
    ],
)
def test_what_cannot_be_reported_is_refused_when_it_is_enqueued(fields: dict[str, str], problem: str) -> None:
    registry = load(PluginChoice(only=frozenset({"reports"})))
    with pytest.raises(InvalidPayload) as refused:
        registry.checked_payload("generate-report", {"mailTo": "finance@example.com"} | fields)
    assert any(each.startswith(problem) for each in refused.value.problems), refused.value.problems


def test_the_payload_is_written_as_the_backend_writes_it() -> None:
    payload = GenerateReport.model_validate({"mailTo": "f@example.com", "from": "2026-10-01", "to": "2026-10-31"})
    assert (payload.first_day, payload.last_day) == (date(2026, 10, 1), date(2026, 10, 31))
    assert payload.on_the_wire()["from"] == "2026-10-01"
    assert GenerateReport.model_validate(payload.on_the_wire()) == payload


@pytest.mark.parametrize(
    ("name", "today", "first", "last"),
    [
        ("yesterday", "2026-01-01", "2025-12-31", "2025-12-31"),
        ("last-week", "2026-11-28", "2026-11-16", "2026-11-22"),
        ("last-week", "2026-11-23", "2026-11-16", "2026-11-22"),
        ("last-month", "2026-03-31", "2026-02-01", "2026-02-28"),
        ("last-month", "2026-01-15", "2025-12-01", "2025-12-31"),
        ("last-quarter", "2026-02-01", "2025-10-01", "2025-12-31"),
        ("last-quarter", "2026-11-28", "2026-07-01", "2026-09-30"),
        ("last-year", "2026-11-28", "2025-01-01", "2025-12-31"),
    ],
)
def test_a_named_period_is_the_last_whole_one(name: str, today: str, first: str, last: str) -> None:
    period = Period.named(NamedPeriod(name), date.fromisoformat(today))
    assert (period.first_day.isoformat(), period.last_day.isoformat()) == (first, last)


def test_days_are_those_of_the_zone_with_their_own_lengths() -> None:
    october = Period(first_day=date(2026, 10, 25), last_day=date(2026, 10, 25))
    begin, end = october.bounds(ZoneInfo("Europe/Berlin"))
    assert (begin.isoformat(), end.isoformat()) == ("2026-10-24T22:00:00", "2026-10-25T23:00:00")
    assert october.bounds(ZoneInfo("Europe/Istanbul"))[0].isoformat() == "2026-10-24T21:00:00"


@pytest.mark.parametrize("address", ["finance@example.com", "FINANCE@EXAMPLE.COM", "auditor@example.org"])
async def test_a_report_goes_to_whom_the_settings_name(address: str) -> None:
    assert (await report(BOOKING, mailTo=address)).state is JobState.COMPLETED


@pytest.mark.parametrize(
    "address", ["other@example.org", "x@sub.example.com", "x@example.com.evil.net", "x@notexample.com"]
)
async def test_a_report_goes_to_nobody_else_and_the_reason_keeps_the_address(address: str) -> None:
    done = await report(BOOKING, mailTo=address)
    assert isinstance(done.outcome, Discarded)
    assert "plugins.reports.report_recipients" in done.outcome.error
    assert address not in done.outcome.error
    assert done.mails == []


async def test_without_settings_nobody_is_sent_a_report() -> None:
    assert (await report(BOOKING, settings=ReportsSettings())).state is JobState.DISCARDED


@pytest.mark.parametrize("recipient", ["", "*", "*.example.com", "localhost", "a b@example.com", "@", "x@"])
def test_a_recipient_that_is_no_address_and_no_domain_stops_the_start(recipient: str) -> None:
    with pytest.raises(ValidationError, match=r"write finance@example.com or example\.com"):
        ReportsSettings(report_recipients=(recipient,))


async def test_bookings_are_a_row_each_with_plain_numbers_and_times_of_the_zone() -> None:
    done = await report(BOOKING, BOOKING | {"reference": "BK-2", "currency": "KWD", "total_amount": Decimal("1.5")})
    (attachment,) = done.mails[0].attachments
    assert attachment.filename == "bookings-2026-10-01-2026-10-31.csv"
    assert attachment.media_type == "text/csv; charset=utf-8; header=present"
    assert attachment.content.decode().split("\r\n") == [
        "reference,bookingType,status,paymentMethod,paymentStatus,currency,totalAmount,checkIn,checkOut,guestCount,createdAt",
        "BK-1,HOTEL,CONFIRMED,CREDIT_CARD,COMPLETED,TRY,1200.00,,2027-06-15T03:00:00+03:00,,2026-10-31T23:59:59+03:00",
        "BK-2,HOTEL,CONFIRMED,CREDIT_CARD,COMPLETED,KWD,1.500,,2027-06-15T03:00:00+03:00,,2026-10-31T23:59:59+03:00",
        "",
    ]
    assert done.result == {
        "messageId": done.mails[0].message_id,
        "from": "2026-10-01",
        "to": "2026-10-31",
        "bookings": 2,
    }


async def test_amounts_of_two_currencies_are_never_added() -> None:
    done = await report(BOOKING, BOOKING, BOOKING | {"currency": "EUR", "payment_status": "PENDING"})
    totals: Any = done.mails[0].variables["totals"]
    assert [(each.currency, each.bookings, each.total, each.paid) for each in totals] == [
        ("EUR", 1, Decimal(1200), Decimal(0)),
        ("TRY", 2, Decimal(2400), Decimal(2400)),
    ]


async def test_a_sum_keeps_every_digit_that_is_stored() -> None:
    large, small = Decimal("9" * 30), Decimal("0.000000000000000000000000000001")
    done = await report(BOOKING | {"total_amount": large}, BOOKING | {"total_amount": small})
    totals: Any = done.mails[0].variables["totals"]
    assert str(totals[0].total) == f"{'9' * 30}.{'0' * 29}1"


async def test_an_amount_that_is_no_number_spoils_no_sum() -> None:
    for output in ("csv", "html"):
        done = await report(BOOKING | {"total_amount": Decimal("NaN")}, BOOKING, format=output)
        totals: Any = done.mails[0].variables["totals"]
        assert (totals[0].bookings, totals[0].total) == (2, Decimal(1200))


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n", "＝"])
def test_a_cell_that_a_program_would_take_for_a_formula_is_shown_as_text(begin: str) -> None:
    (row,) = csv.reader(StringIO(written([f"{begin}1+cmd|' /C calc'!A0", "x"]).decode(), newline=""))
    assert row == [f"'{begin}1+cmd|' /C calc'!A0", "x"]


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2), min_size=1))
def test_what_is_written_is_what_is_read(rows: list[list[str]]) -> None:
    read = list(csv.reader(StringIO(written(*rows).decode(), newline="")))
    assert [[cell.removeprefix("'") for cell in row] for row in read] == [
        [cell.removeprefix("'") for cell in row] for row in rows
    ]
    assert not any(cell.startswith(("=", "+", "@", "\t", "\r", "\n")) for row in read for cell in row)


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("18450.000000000000000000000000000000", "TRY", "18450.00"),
        ("66000.0", "JPY", "66000"),
        ("0.123450000000000000000000000000", "TRY", "0.12345"),
        ("-5", "EUR", "-5.00"),
        ("1E+20", "EUR", "100000000000000000000.00"),
        ("NaN", "EUR", ""),
    ],
)
def test_an_amount_is_a_plain_number_as_fine_as_its_currency_or_finer(amount: str, currency: str, text: str) -> None:
    assert plain_amount(Decimal(amount), currency) == text
    assert written([text, "x"]) == f"{text},x\r\n".encode()


async def test_a_file_that_is_too_large_for_a_mail_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "LARGEST_ATTACHMENTS_BYTES", 2_000)
    done = await report(*[BOOKING] * 200)
    (attachment,) = done.mails[0].attachments
    assert (attachment.filename, attachment.media_type) == (
        "bookings-2026-10-01-2026-10-31.csv.gz",
        "application/gzip",
    )
    assert gzip.decompress(attachment.content).count(b"\r\n") == 201
    again = await report(*[BOOKING] * 200)
    assert again.mails[0].attachments[0].content == attachment.content


async def test_a_file_that_is_too_large_even_when_packed_is_a_clear_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "LARGEST_ATTACHMENTS_BYTES", 20)
    done = await report(*[BOOKING] * 200)
    assert isinstance(done.outcome, Discarded)
    assert "even when it is packed, which no mail carries: ask for a shorter period" in done.outcome.error


async def test_a_table_that_cannot_become_small_enough_is_given_up_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "LARGEST_TABLE_BYTES", 1_000)
    assert (await report(*[BOOKING] * 5_000)).state is JobState.DISCARDED


def test_a_table_says_when_it_is_too_large() -> None:
    with Table() as table:
        table.write(["a" * 100])
        with pytest.raises(TooLarge):
            table.content(most=100)
        assert table.content(most=102) == b"a" * 100 + b"\r\n"


async def test_html_is_for_as_many_rows_as_one_reads() -> None:
    done = await report(*[BOOKING] * 1_001, format="html")
    assert isinstance(done.outcome, Discarded)
    assert "has more than 1,000 rows, which are too many for HTML: ask for the format csv" in done.outcome.error
    assert (await report(*[BOOKING] * 1_000, format="html")).state is JobState.COMPLETED


async def test_the_language_is_the_jobs_or_that_of_the_settings() -> None:
    assert (await report(BOOKING)).mails[0].locale == "tr"
    assert (await report(BOOKING, locale="de")).mails[0].locale == "de"
