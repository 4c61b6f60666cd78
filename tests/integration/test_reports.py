"""Reports on a real PostgreSQL with the backend's tables: the queries, and the files that come out."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from skycap import JobState
from skycap.services.database import DatabasePool
from skycap.testing import Performed, perform
from skycap_travel.payloads import GenerateReport
from skycap_travel.reports import ReportsSettings, generate_report
from tests.support.mails import TEMPLATES
from tests.support.travel import add_booking, add_user, travel_database


@pytest.fixture
async def travel(database_url: str) -> AsyncGenerator[DatabasePool]:
    """October in Istanbul ends at 21:00 UTC."""
    async with travel_database(database_url) as database:
        await add_user(database)
        rows: list[tuple[str, str, dict[str, Any]]] = [
            ("early", "2026-09-30T20:59:59.999", {}),
            ("first", "2026-09-30T21:00:00", {"paymentStatus": "COMPLETED", "status": "CONFIRMED"}),
            ("last", "2026-10-31T20:59:59.999", {"status": "CONFIRMED", "totalAmount": Decimal("99.5")}),
            ("late", "2026-10-31T21:00:00", {}),
            ("euro", "2026-10-10T10:00:00", {"currency": "EUR", "bookingType": "TOUR"}),
            (
                "strange",
                "2026-10-11T10:00:00",
                {"currency": "EUR", "bookingType": "TOUR", "totalAmount": Decimal("NaN")},
            ),
        ]
        for name, created, columns in rows:
            await add_booking(database, name, createdAt=datetime.fromisoformat(created), **columns)
        yield database


async def october(travel: DatabasePool, **fields: Any) -> Performed:
    payload = GenerateReport.model_validate(
        {"mailTo": "finance@example.com", "from": "2026-10-01", "to": "2026-10-31", "locale": "en"} | fields
    )
    settings = ReportsSettings(report_recipients=("example.com",))
    done = await perform(generate_report, payload, settings=settings, db=travel)
    assert done.state is JobState.COMPLETED
    return done


def table(done: Performed) -> list[str]:
    (attachment,) = done.mails[0].attachments
    return attachment.content.decode().splitlines()


async def test_revenue_is_added_up_by_type_status_and_currency(travel: DatabasePool) -> None:
    assert table(await october(travel)) == [
        "bookingType,status,currency,bookings,totalAmount,paidAmount",
        "TOUR,PENDING,EUR,2,1200.00,0.00",
        "HOTEL,CONFIRMED,TRY,2,1299.50,1200.00",
    ]


async def test_bookings_are_those_made_on_the_days_of_the_zone(travel: DatabasePool) -> None:
    rows = table(await october(travel, kind="bookings"))
    assert [row.partition(",")[0] for row in rows] == ["reference", "BK-first", "BK-euro", "BK-strange", "BK-last"]


async def test_one_currency_leaves_out_the_others(travel: DatabasePool) -> None:
    done = await october(travel, kind="bookings", currency="EUR")
    assert done.result["bookings"] == 2
    assert len(table(done)) == 3


@pytest.mark.parametrize("kind", ["bookings", "revenue"])
@pytest.mark.parametrize("locale", ["en", "tr", "de", "ru", "ar"])
async def test_html_is_a_page_in_the_language_of_the_mail(travel: DatabasePool, kind: str, locale: str) -> None:
    (mail,) = (await october(travel, kind=kind, format="html", locale=locale)).mails
    assert mail.attachments == ()
    rendered = TEMPLATES.render(mail.template, locale=mail.locale, variables=mail.variables)
    (page,) = rendered.documents
    assert page.filename == "report.html"
    assert page.source.startswith(f'<!doctype html>\n<html lang="{locale}"')
    assert page.source.count("<tr>") == {"bookings": 5, "revenue": 3}[kind]
    expected = {"en": "TRY 1,200.00", "tr": "₺1.200,00", "de": "1.200,00", "ru": "1\u00a0200,00", "ar": "1,200.00"}
    assert expected[locale].replace("TRY ", "") in page.source.replace("٬", ",").replace("٫", ".")


async def test_what_a_booking_is_called_is_escaped_in_html(travel: DatabasePool) -> None:
    await travel.execute("""UPDATE bookings SET "bookingReference" = '<script>' WHERE id = 'first'""")
    (mail,) = (await october(travel, kind="bookings", format="html")).mails
    (page,) = TEMPLATES.render(mail.template, locale="en", variables=mail.variables).documents
    assert "<script" not in page.source
    assert "&lt;script&gt;" in page.source


async def test_a_long_report_passes_through_without_being_held(travel: DatabasePool) -> None:
    await travel.execute(
        """INSERT INTO bookings (id, "userId", "bookingType", "totalAmount", "paymentMethod", "bookingReference",
                                 "createdAt", "updatedAt")
           SELECT 'many-' || n, 'user-1', 'HOTEL', n, 'PAYPAL', 'M-' || n, '2026-05-01', '2026-05-01'
             FROM generate_series(1, 12000) AS n"""
    )
    done = await october(travel, **{"kind": "bookings", "from": "2026-05-01", "to": "2026-05-01"})
    assert done.result["bookings"] == 12_000
    assert len(table(done)) == 12_001
    totals: Any = done.mails[0].variables["totals"]
    assert totals[0].total == Decimal(12_000 * 12_001 // 2)


async def test_a_period_without_bookings_is_reported_as_such(travel: DatabasePool) -> None:
    (mail,) = (await october(travel, **{"from": "2020-01-01", "to": "2020-01-31"})).mails
    rendered = TEMPLATES.render(mail.template, locale="en", variables=mail.variables)
    assert "There are no bookings in this period." in rendered.text
    assert mail.attachments[0].content.count(b"\r\n") == 1
