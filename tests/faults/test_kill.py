"""kill -9 in the middle: nothing that was accepted is lost, and nobody gets a mail twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import asyncpg

from skycap import AsyncClient, discovery
from skycap.demo.mailbox import Mailbox
from skycap.demo.travel import add_sample_rows, create_travel_tables
from skycap.job import JobState
from tests.support.daemons import Site
from tests.support.workers import PATIENCE, eventually

CONFIRMATIONS = 100
COPY_BOOKING = """
    INSERT INTO bookings (id, "userId", "bookingType", status, "totalAmount", currency, "paymentMethod",
                          "paymentStatus", "checkInDate", "checkOutDate", "guestCount", "bookingReference",
                          "metaData", "updatedAt")
    SELECT 'kill-' || n, b."userId", b."bookingType", b.status, b."totalAmount", b.currency, b."paymentMethod",
           b."paymentStatus", b."checkInDate", b."checkOutDate", b."guestCount", 'KILL-' || n, b."metaData", now()
    FROM bookings b, generate_series(1, $1::int) AS n
    WHERE b.id = (SELECT id FROM bookings WHERE status = 'CONFIRMED' ORDER BY id LIMIT 1)
    RETURNING id, "userId" AS user_id, "bookingType" AS booking_type
"""


async def test_killed_in_the_middle_every_confirmation_is_delivered_and_none_twice(
    redis_url: str, database_url: str, tmp_path: Path
) -> None:
    bookings = await _bookings(database_url)
    registry = discovery.load()
    async with (
        Mailbox(tmp_path / "mails", username="u", password="p") as mailbox,
        AsyncClient(redis_url) as client,
    ):
        site = Site(folder=tmp_path, redis_url=redis_url, database_url=database_url, mailbox=mailbox)
        async with site.daemon() as first:
            for booking in bookings:
                fields = {
                    "bookingId": booking["id"],
                    "userId": booking["user_id"],
                    "userEmail": f"{booking['id']}@example.com",
                    "bookingType": booking["booking_type"],
                }
                await client.enqueue(registry.checked_payload("send-booking-confirmation", fields))
            await _in_the_middle(mailbox)
            delivered_before = len(mailbox.received)
            await first.kill()
        assert 0 < delivered_before < CONFIRMATIONS
        queue = client.queue("email")
        async with site.daemon():

            async def all_settled() -> bool:
                counts = await queue.counts()
                return counts.available + counts.later + counts.running == 0

            await eventually(all_settled)
        assert await queue.jobs(JobState.DISCARDED) == []
    copies = Counter(received.recipient for received in mailbox.received)
    lost = [booking["id"] for booking in bookings if copies[f"{booking['id']}@example.com"] == 0]
    # Between a mail's final dot and the server's 250 nobody can know: there, and only there, a confirmation is
    # sent again, with the same Message-ID. At most the few that were in hand at that moment.
    twice = [recipient for recipient, count in copies.items() if count > 1]
    print(f"delivered before the kill: {delivered_before}, lost: {len(lost)}, twice: {len(twice)}")  # noqa: T201
    assert lost == []
    assert max(copies.values()) <= 2
    assert len(twice) <= 3, "more than the queue's concurrency were in hand"


async def _bookings(database_url: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(database_url)
    try:
        await create_travel_tables(connection)
        await add_sample_rows(connection)
        return await connection.fetch(COPY_BOOKING, CONFIRMATIONS)
    finally:
        await connection.close()


async def _in_the_middle(mailbox: Mailbox) -> None:
    async with asyncio.timeout(PATIENCE.total_seconds()):
        async for _ in mailbox:
            if len(mailbox.received) >= CONFIRMATIONS // 3:
                return
