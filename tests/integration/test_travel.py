"""The travel plugins on a real PostgreSQL with the backend's tables, and the sample rows of the demo."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import asyncpg
import pytest

from skycap import JobState
from skycap.demo.travel import SAMPLE_BOOKING_ID, SAMPLE_USER_ID, add_sample_rows, create_travel_tables
from skycap.outcome import Discarded
from skycap.services.database import DatabasePool
from skycap.services.message import RenderedMail
from skycap.testing import Mail, Performed, perform
from skycap_travel.bookings import BookingsSettings, SendBookingConfirmation, send_booking_confirmation
from skycap_travel.payloads import BookingType
from tests.support.mails import TEMPLATES

STATUSES = {"PENDING", "CONFIRMED", "CANCELLED", "COMPLETED", "REFUNDED"}


@pytest.fixture
async def travel(database_url: str) -> AsyncGenerator[DatabasePool]:
    connection = await asyncpg.connect(database_url)
    await create_travel_tables(connection)
    await add_sample_rows(connection)
    await connection.close()
    pool = DatabasePool(dsn=database_url, size=1)
    yield pool
    await pool.close()


async def confirm(travel: DatabasePool, booking_id: str, user_id: str, *, zone: str = "Europe/Istanbul") -> Performed:
    payload = SendBookingConfirmation(
        booking_id=booking_id, user_id=user_id, user_email="ayse@example.com", booking_type=BookingType.HOTEL
    )
    return await perform(send_booking_confirmation, payload, settings=BookingsSettings(time_zone=zone), db=travel)


async def confirm_sample(travel: DatabasePool, reference: str, *, zone: str = "Europe/Istanbul") -> RenderedMail:
    """The mail about the sample booking with this reference, as its guest would read it."""
    row = await travel.fetchrow('SELECT id, "userId" FROM bookings WHERE "bookingReference" = $1', reference)
    assert row is not None
    done = await confirm(travel, row["id"], row["userId"], zone=zone)
    assert done.state is JobState.COMPLETED
    return rendered(done.mails[0])


def rendered(mail: Mail) -> RenderedMail:
    return TEMPLATES.render(mail.template, locale=mail.locale, variables=mail.variables)


async def test_a_confirmation_goes_to_the_address_of_the_payload_in_the_guests_language(travel: DatabasePool) -> None:
    done = await confirm(travel, SAMPLE_BOOKING_ID, SAMPLE_USER_ID)
    mail = done.mails[0]
    assert done.result == {"messageId": mail.message_id}
    assert (mail.to, mail.locale, mail.on_unknown) == ("ayse@example.com", "tr", "resend")
    assert rendered(mail).subject == "BK-2026-7F3K9Q numaralı rezervasyonunuz onaylandı"


async def test_a_mail_means_the_booking_in_its_status(travel: DatabasePool) -> None:
    confirmed = await confirm(travel, SAMPLE_BOOKING_ID, SAMPLE_USER_ID)
    await travel.execute("UPDATE bookings SET status = 'CANCELLED' WHERE id = $1", SAMPLE_BOOKING_ID)
    cancelled = await confirm(travel, SAMPLE_BOOKING_ID, SAMPLE_USER_ID)
    assert confirmed.mails[0].key == "booking-confirmation:BK-2026-7F3K9Q:CONFIRMED"
    assert cancelled.mails[0].key == "booking-confirmation:BK-2026-7F3K9Q:CANCELLED"


@pytest.mark.parametrize(("booking_id", "user_id"), [("gone", SAMPLE_USER_ID), (SAMPLE_BOOKING_ID, "another")])
async def test_a_booking_that_is_not_the_users_is_discarded_without_naming_the_address(
    travel: DatabasePool, booking_id: str, user_id: str
) -> None:
    done = await confirm(travel, booking_id, user_id)
    assert isinstance(done.outcome, Discarded)
    assert done.outcome.error == f"booking {booking_id} does not exist or is not user {user_id}'s"
    assert done.mails == []


async def test_every_sample_booking_becomes_a_mail_with_its_reference(travel: DatabasePool) -> None:
    rows = await travel.fetch(
        'SELECT "bookingReference" AS reference, "bookingType"::text AS kind, status::text FROM bookings'
    )
    assert {row["kind"] for row in rows} == set(BookingType)
    assert {row["status"] for row in rows} == STATUSES
    for row in rows:
        assert row["reference"] in (await confirm_sample(travel, row["reference"])).subject


@pytest.mark.parametrize(
    ("reference", "amount"),
    [
        ("BK-2026-7F3K9Q", "₺18.450,00"),
        ("BK-2026-KY0T04", "¥66,000"),
        ("BK-2026-KWD125", "87.125\u00a0د.ك."),
        ("BK-2026-CAR268", "$268.40"),
    ],
)
async def test_money_arrives_as_it_is_stored(travel: DatabasePool, reference: str, amount: str) -> None:
    assert amount in (await confirm_sample(travel, reference)).text


async def test_a_time_is_shown_in_the_zone_of_the_settings(travel: DatabasePool) -> None:
    assert "19:30 (İstanbul, GMT+03:00)" in (await confirm_sample(travel, "BK-2026-FL1G4T")).text
    in_london = await confirm_sample(travel, "BK-2026-FL1G4T", zone="Europe/London")
    assert "16:30 (Londra, GMT+00:00)" in in_london.text


async def test_a_second_demo_finds_the_tables_and_leaves_changed_rows_alone(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await create_travel_tables(connection)
    await add_sample_rows(connection)
    await connection.execute("UPDATE users SET name = 'Ada' WHERE id = $1", SAMPLE_USER_ID)
    await create_travel_tables(connection)
    await add_sample_rows(connection)
    assert await connection.fetchval("SELECT name FROM users WHERE id = $1", SAMPLE_USER_ID) == "Ada"
    await connection.close()


async def test_the_samples_can_reach_nobody(travel: DatabasePool) -> None:
    addresses = await travel.fetch("SELECT email FROM users UNION ALL SELECT email FROM hotels WHERE email IS NOT NULL")
    assert len(addresses) >= 8
    assert {row["email"].partition("@")[2] for row in addresses} == {"example.com", "example.org"}
