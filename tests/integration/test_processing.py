"""Bookings that are confirmed once they are paid, on a real PostgreSQL with the backend's tables."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from skycap import AsyncClient, Enqueued, JobState, Payload, Recorder
from skycap.outcome import Cancelled, Discarded, Snoozed
from skycap.services.database import DatabasePool
from skycap.testing import Performed, perform
from skycap_travel.payloads import ProcessBooking
from skycap_travel.processing import ProcessingSettings, process_booking
from tests.support.travel import WRITTEN, add_booking, add_user, travel_database

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


@pytest.fixture
async def travel(database_url: str) -> AsyncGenerator[DatabasePool]:
    async with travel_database(database_url) as database:
        await add_user(database, preferredLanguage="tr")
        yield database


async def process(travel: DatabasePool, *, settings: ProcessingSettings | None = None, **fields: Any) -> Performed:
    payload = ProcessBooking.model_validate({"booking_id": "booking-1"} | fields)
    return await perform(process_booking, payload, settings=settings or ProcessingSettings(), db=travel, now=NOW)


async def notifications(travel: DatabasePool) -> Sequence[Any]:
    return await travel.fetch('SELECT "userId", type::text, title, message, data::text, "createdAt" FROM notifications')


async def status(travel: DatabasePool) -> str:
    return str(await travel.fetchval("SELECT status::text FROM bookings WHERE id = 'booking-1'"))


async def test_a_paid_booking_is_confirmed_and_its_guest_is_told(travel: DatabasePool) -> None:
    await add_booking(travel, paymentStatus="COMPLETED")
    done = await process(travel)
    assert done.state is JobState.COMPLETED
    row = await travel.fetchrow('SELECT status::text, "updatedAt" FROM bookings')
    assert row == {"status": "CONFIRMED", "updatedAt": NOW.replace(tzinfo=None)}
    (notice,) = await notifications(travel)
    assert (notice["userId"], notice["type"], notice["title"]) == (
        "user-1",
        "BOOKING_CONFIRMATION",
        "Rezervasyonunuz onaylandı",
    )
    assert json.loads(notice["data"]) == {
        "bookingId": "booking-1",
        "bookingReference": "BK-booking-1",
        "bookingType": "HOTEL",
    }
    assert [payload.on_the_wire() for payload in done.enqueued] == [
        {"bookingId": "booking-1", "userId": "user-1", "userEmail": "user-1@example.com", "bookingType": "HOTEL"},
        {"userId": "user-1", "bookingId": "booking-1"},
    ]


async def test_a_booking_is_confirmed_once_however_many_jobs_say_so(travel: DatabasePool) -> None:
    await add_booking(travel, paymentStatus="COMPLETED")
    done = await asyncio.gather(*(process(travel) for _ in range(8)))
    assert {each.state for each in done} == {JobState.COMPLETED}
    assert sorted(each.result["changed"] for each in done) == [False] * 7 + [True]
    assert len(await notifications(travel)) == 1
    assert sum(len(each.enqueued) for each in done) == 2


async def test_mails_are_enqueued_in_the_transaction_that_confirms(
    travel: DatabasePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the real outbox: its rows are there after the commit, and gone with a transaction that is undone."""
    client = AsyncClient(Recorder())

    async def in_the_outbox(_context: object, payload: Payload, *, tx: Any = None, **_options: Any) -> Enqueued:
        assert tx is not None
        found = await client.enqueue(payload, tx=tx)
        if breaks and payload.payload_spec.kind == "send-payment-receipt":
            raise RuntimeError("the worker dies")
        return found

    monkeypatch.setattr("skycap.testing._TestContext.enqueue", in_the_outbox)
    await add_booking(travel, paymentStatus="COMPLETED")
    breaks = True
    assert (await process(travel)).state is JobState.RETRYABLE
    assert (await status(travel), await notifications(travel)) == ("PENDING", [])
    assert await travel.fetchval("SELECT count(*) FROM skycap.outbox") == 0
    breaks = False
    assert (await process(travel)).state is JobState.COMPLETED
    assert await status(travel) == "CONFIRMED"
    assert await travel.fetchval("SELECT count(*) FROM skycap.outbox") == 2


async def test_a_notification_that_the_backend_has_written_is_not_written_again(travel: DatabasePool) -> None:
    await add_booking(travel, paymentStatus="COMPLETED")
    await travel.execute(
        """INSERT INTO notifications (id, "userId", type, title, message, data)
           VALUES ('n', 'user-1', 'BOOKING_CONFIRMATION', 'Onay', '', '{"bookingId": "booking-1"}')"""
    )
    assert (await process(travel)).result["changed"]
    assert len(await notifications(travel)) == 1


@pytest.mark.parametrize("confirmed", ["CONFIRMED", "COMPLETED"])
async def test_a_booking_that_is_confirmed_already_stays_as_it_is(travel: DatabasePool, confirmed: str) -> None:
    await add_booking(travel, status=confirmed, paymentStatus="COMPLETED")
    done = await process(travel)
    assert (done.state, done.result, done.enqueued) == (
        JobState.COMPLETED,
        {"status": "CONFIRMED", "changed": False},
        [],
    )
    assert await travel.fetchval('SELECT "updatedAt" FROM bookings') == WRITTEN
    assert await notifications(travel) == []


@pytest.mark.parametrize("payment", ["PENDING", "PROCESSING", "FAILED"])
async def test_a_booking_that_waits_for_its_payment_is_put_off(travel: DatabasePool, payment: str) -> None:
    await add_booking(travel, paymentStatus=payment)
    done = await process(travel)
    assert isinstance(done.outcome, Snoozed)
    assert done.outcome.delay == timedelta(seconds=10)
    assert done.outcome.reason == f"booking booking-1 waits for its payment, which is {payment}"
    assert (await status(travel), await notifications(travel), done.enqueued) == ("PENDING", [], [])


async def test_a_payment_that_does_not_come_leaves_the_job_without_a_purpose(travel: DatabasePool) -> None:
    await add_booking(travel, paymentStatus="PENDING")
    done = await process(travel, settings=ProcessingSettings(payment_wait=timedelta(0)))
    assert isinstance(done.outcome, Cancelled)
    assert "is still PENDING after 0:00:00; enqueue process-booking again" in done.outcome.reason
    assert await status(travel) == "PENDING"


@pytest.mark.parametrize(
    ("booking", "payment"),
    [("CANCELLED", "COMPLETED"), ("REFUNDED", "REFUNDED"), ("PENDING", "REFUNDED"), ("PENDING", "PARTIALLY_REFUNDED")],
)
async def test_what_is_cancelled_or_refunded_is_not_confirmed(travel: DatabasePool, booking: str, payment: str) -> None:
    await add_booking(travel, status=booking, paymentStatus=payment)
    done = await process(travel)
    assert isinstance(done.outcome, Cancelled)
    assert done.outcome.reason.endswith("so there is nothing to confirm")
    assert await status(travel) == booking


@pytest.mark.parametrize("fields", [{"booking_id": "gone"}, {"user_id": "another"}])
async def test_a_booking_that_is_not_the_users_is_a_dead_letter(travel: DatabasePool, fields: dict[str, Any]) -> None:
    await add_booking(travel, paymentStatus="COMPLETED")
    done = await process(travel, **fields)
    assert isinstance(done.outcome, Discarded)
    assert "does not exist" in done.outcome.error
    assert await status(travel) == "PENDING"


async def test_a_guest_without_a_mail_address_has_the_booking_confirmed_without_mails(travel: DatabasePool) -> None:
    await travel.execute("UPDATE users SET email = 'nobody'")
    await add_booking(travel, paymentStatus="COMPLETED")
    done = await process(travel)
    assert (done.result["changed"], done.enqueued) == (True, [])
    assert done.notes == ["confirmed; no mail, since users.email is not a mail address"]
    assert len(await notifications(travel)) == 1


@pytest.mark.parametrize("language", ["en", "de-AT", "ru", "ar", "xx", ""])
async def test_the_notification_is_in_the_guests_language_or_in_english(travel: DatabasePool, language: str) -> None:
    await travel.execute('UPDATE users SET "preferredLanguage" = $1', language)
    await add_booking(travel, paymentStatus="COMPLETED")
    await process(travel)
    (notice,) = await notifications(travel)
    assert "BK-booking-1" in notice["message"]
    assert (notice["title"] == "Booking confirmed") == (language in {"en", "xx", ""})


@pytest.mark.parametrize("action", ["cancel", "", None, 7])
def test_only_confirming_can_be_asked_for(action: object) -> None:
    with pytest.raises(ValidationError, match="action\n  Input should be 'confirm'"):
        ProcessBooking.model_validate({"bookingId": "booking-1", "action": action})
