"""Receipts from a real PostgreSQL with the backend's tables, and the sample rows of the demo."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta

import asyncpg
import pytest

from skycap import JobState
from skycap.demo.travel import SAMPLE_BOOKING_ID, SAMPLE_USER_ID, add_sample_rows, create_travel_tables
from skycap.outcome import Discarded, Retry
from skycap.services.database import DatabasePool
from skycap.testing import Performed, perform
from skycap_travel.payments import PaymentsSettings, SendPaymentReceipt, send_payment_receipt
from tests.support.mails import TEMPLATES


@pytest.fixture
async def travel(database_url: str) -> AsyncGenerator[DatabasePool]:
    connection = await asyncpg.connect(database_url)
    await create_travel_tables(connection)
    await add_sample_rows(connection)
    await connection.close()
    pool = DatabasePool(dsn=database_url, size=1)
    await pool.execute("UPDATE bookings SET \"paymentStatus\" = 'COMPLETED' WHERE id = $1", SAMPLE_BOOKING_ID)
    await pool.execute("UPDATE users SET email = 'ayse@example.com' WHERE id = $1", SAMPLE_USER_ID)
    yield pool
    await pool.close()


async def send(
    travel: DatabasePool, booking_id: str = SAMPLE_BOOKING_ID, user_id: str = SAMPLE_USER_ID, *, attempt: int = 1
) -> Performed:
    payload = SendPaymentReceipt(booking_id=booking_id, user_id=user_id)
    return await perform(send_payment_receipt, payload, settings=PaymentsSettings(), db=travel, attempt=attempt)


async def test_a_receipt_goes_to_the_users_address_in_the_users_language(travel: DatabasePool) -> None:
    done = await send(travel)
    (mail,) = done.mails
    assert done.result == {"messageId": mail.message_id}
    assert (mail.to, mail.locale, mail.on_unknown) == ("ayse@example.com", "tr", "resend")
    assert mail.key == "payment-receipt:BK-2026-7F3K9Q:COMPLETED"
    rendered = TEMPLATES.render(mail.template, locale=mail.locale, variables=mail.variables)
    assert "BK-2026-7F3K9Q" in rendered.subject
    assert [document.filename for document in rendered.documents] == ["receipt.pdf"]


@pytest.mark.parametrize("status", ["REFUNDED", "PARTIALLY_REFUNDED"])
async def test_a_refund_is_another_mail(travel: DatabasePool, status: str) -> None:
    await pay(travel, status)
    (mail,) = (await send(travel)).mails
    assert mail.key == f"payment-receipt:BK-2026-7F3K9Q:{status}"


async def pay(travel: DatabasePool, status: str) -> None:
    await travel.execute(
        'UPDATE bookings SET "paymentStatus" = $2::text::"PaymentStatus" WHERE id = $1', SAMPLE_BOOKING_ID, status
    )


@pytest.mark.parametrize("status", ["PENDING", "PROCESSING", "FAILED"])
async def test_a_payment_that_is_not_there_yet_is_looked_for_again_and_then_given_up(
    travel: DatabasePool, status: str
) -> None:
    await pay(travel, status)
    outcomes = [(await send(travel, attempt=attempt)).outcome for attempt in (1, 2, 3)]
    waits = [outcome.delay for outcome in outcomes if isinstance(outcome, Retry)]
    assert waits == [timedelta(seconds=5), timedelta(minutes=1)]
    assert isinstance(outcomes[2], Discarded)
    assert outcomes[2].error == (
        f"booking {SAMPLE_BOOKING_ID} has the payment status {status}, and nothing to receipt: "
        "enqueue send-payment-receipt once it is COMPLETED"
    )


@pytest.mark.parametrize(("booking_id", "user_id"), [("gone", SAMPLE_USER_ID), (SAMPLE_BOOKING_ID, "another")])
async def test_a_booking_that_is_not_the_users_is_discarded(
    travel: DatabasePool, booking_id: str, user_id: str
) -> None:
    done = await send(travel, booking_id, user_id)
    assert isinstance(done.outcome, Discarded)
    assert done.outcome.error == f"booking {booking_id} does not exist or is not user {user_id}'s"
    assert done.mails == []


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("", "has no mail address: set users.email"),
        (" ", "has no mail address: set users.email"),
        ("ayse.yilmaz", "mail address is not valid: correct users.email"),
        ("ayse.yilmaz@example.com\nBcc: all@example.com", "mail address is not valid: correct users.email"),
        (f"ayse.yilmaz@{'a.' * 130}example.com", "mail address is not valid: correct users.email"),
    ],
)
async def test_a_user_who_cannot_be_written_to_is_discarded_without_naming_the_address(
    travel: DatabasePool, address: str, reason: str
) -> None:
    await travel.execute("UPDATE users SET email = $2 WHERE id = $1", SAMPLE_USER_ID, address)
    done = await send(travel)
    assert (done.state, done.mails) == (JobState.DISCARDED, [])
    assert isinstance(done.outcome, Discarded)
    assert reason in done.outcome.error
    assert "yilmaz" not in done.outcome.error


@pytest.mark.parametrize("amount", ["-0.01", "NaN"])
async def test_an_amount_that_nobody_can_have_paid_is_discarded(travel: DatabasePool, amount: str) -> None:
    await travel.execute(
        'UPDATE bookings SET "totalAmount" = $2::text::numeric WHERE id = $1', SAMPLE_BOOKING_ID, amount
    )
    done = await send(travel)
    assert isinstance(done.outcome, Discarded)
    assert "which nobody can have paid" in done.outcome.error


async def test_amounts_come_from_the_stored_json_as_they_were_written(travel: DatabasePool) -> None:
    await travel.execute(
        'UPDATE bookings SET "totalAmount" = 0.3, "metaData" = $2::text::jsonb WHERE id = $1',
        SAMPLE_BOOKING_ID,
        '{"items": [{"name": "Çay", "amount": 0.1}, {"name": "Kahve", "amount": 0.2}]}',
    )
    (mail,) = (await send(travel)).mails
    text = TEMPLATES.render(mail.template, locale="en", variables=mail.variables).text
    assert "Çay: TRY 0.10\nKahve: TRY 0.20\n" in text.replace("\N{NO-BREAK SPACE}", " ")
