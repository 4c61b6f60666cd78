"""The clients over PostgreSQL: a job exists if and only if the caller's transaction commits."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import psycopg
import pytest

from skycap import AsyncClient, Client, ConfigurationError, JobState, Payload, RawPayload, Recorder, Refused, Unique
from skycap.services.database import DatabasePool
from skycap.services.migrations import migrate

pytestmark = pytest.mark.usefixtures("tables")


class Receipt(Payload, kind="send-receipt", queue="email"):
    booking_id: str
    note: str = ""


@pytest.fixture
async def connection(database_url: str) -> AsyncGenerator[Any]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def tables(connection: Any) -> None:
    await migrate(connection)
    await connection.execute("CREATE TABLE public.bookings (id TEXT)")


async def outbox(connection: Any) -> list[tuple[str, str, dict[str, Any], dict[str, Any]]]:
    rows = await connection.fetch("SELECT job_id, kind, payload, options FROM skycap.outbox ORDER BY id")
    return [(row[0], row[1], json.loads(row[2]), json.loads(row[3])) for row in rows]


@pytest.mark.parametrize("commits", [True, False])
async def test_a_job_shares_the_fate_of_the_transaction(connection: Any, *, commits: bool) -> None:
    async with AsyncClient(Recorder()) as client:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("INSERT INTO public.bookings VALUES ('b1')")
        done = await client.enqueue(Receipt(booking_id="b1", note="günaydın"), tx=connection, tags=["x"])
        await (transaction.commit() if commits else transaction.rollback())
    assert (done.state, done.duplicate) == (JobState.AVAILABLE, False)
    expected = (done.job_id, "send-receipt", {"bookingId": "b1", "note": "günaydın"}, {"tags": ["x"], "version": 1})
    assert await outbox(connection) == ([expected] if commits else [])


async def test_all_that_can_be_said_of_a_job_goes_along(connection: Any, database_url: str) -> None:
    at = datetime(2027, 1, 1, 8, tzinfo=UTC)
    key = Unique(by=("booking_id",), within=timedelta(minutes=1), on_conflict="replace")
    async with AsyncClient(database_url) as client:
        done = await client.enqueue(
            Receipt(booking_id="b1"), at=at, deadline=at + timedelta(hours=1), priority=3, unique=key, job_id="mine"
        )
        again = await client.enqueue(Receipt(booking_id="b1"), job_id="mine")
    assert (done.job_id, done.state, done.duplicate) == ("mine", JobState.SCHEDULED, False)
    assert again.duplicate
    ((_, _, _, options),) = await outbox(connection)
    assert options == {
        "at": "2027-01-01T08:00:00+00:00",
        "deadline": "2027-01-01T09:00:00+00:00",
        "priority": 3,
        "version": 1,
        "unique": {"by": ["booking_id"], "withinSeconds": 60.0, "onConflict": "replace"},
    }


async def test_many_are_one_statement_all_or_none(connection: Any, database_url: str) -> None:
    async with AsyncClient(database_url) as client:
        done = await client.enqueue_many([Receipt(booking_id=str(number)) for number in range(100)])
        with pytest.raises(Refused, match=r"jobs\[1\]: kind 'No kind' is no name of a kind; write lower-case"):
            await client.enqueue_many([Receipt(booking_id="x"), RawPayload(kind="No kind")])
    assert [row[0] for row in await outbox(connection)] == [each.job_id for each in done]


async def test_a_connection_that_broke_is_made_anew(connection: Any, database_url: str) -> None:
    async with AsyncClient(database_url) as client:
        await client.enqueue(Receipt(booking_id="1"))
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
            "AND datname = current_database()"
        )
        await client.enqueue(Receipt(booking_id="2"))
    assert len(await outbox(connection)) == 2


async def test_over_postgresql_a_job_can_only_be_enqueued(database_url: str) -> None:
    async with AsyncClient(database_url) as client:
        for ask in (client.get, client.cancel, client.retry):
            with pytest.raises(Refused, match="give the client a redis:// or https:// address"):
                await ask("x")
        with pytest.raises(Refused, match="over Redis only"):
            client.queue("email")


async def test_a_database_without_the_function_and_a_role_without_the_right_say_what_to_do(
    connection: Any, database_url: str
) -> None:
    await connection.execute("DROP ROLE IF EXISTS stranger; CREATE ROLE stranger")
    async with connection.transaction():
        await connection.execute("SET LOCAL ROLE stranger")
        with pytest.raises(ConfigurationError, match="run `skycap db grant ROLE`"):
            await AsyncClient(Recorder()).enqueue(Receipt(booking_id="1"), tx=connection)
    await connection.execute("DROP ROLE stranger; DROP SCHEMA skycap CASCADE")
    async with AsyncClient(database_url) as client:
        with pytest.raises(ConfigurationError, match="run `skycap db migrate`"):
            await client.enqueue(Receipt(booking_id="1"))


async def test_what_handlers_have_as_database_is_a_transaction_too(connection: Any, database_url: str) -> None:
    database = DatabasePool(dsn=database_url, size=1)
    async with AsyncClient(Recorder()) as client, database.transaction() as tx:
        done = await client.enqueue(Receipt(booking_id="b1"), tx=tx)
    await database.close()
    assert [row[0] for row in await outbox(connection)] == [done.job_id]


async def test_psycopg_with_await_works_as_asyncpg_does(connection: Any, database_url: str) -> None:
    async with AsyncClient(Recorder()) as client, await psycopg.AsyncConnection.connect(database_url) as tx:
        done = await client.enqueue(Receipt(booking_id="b1"), tx=tx)
        assert await outbox(connection) == []
        await tx.commit()
    assert [row[0] for row in await outbox(connection)] == [done.job_id]


async def test_without_await_a_db_api_connection_is_the_transaction(connection: Any, database_url: str) -> None:
    with Client(Recorder()) as client, psycopg.connect(database_url) as tx:
        kept = client.enqueue(Receipt(booking_id="kept"), tx=tx)
        tx.commit()
        client.enqueue_many([Receipt(booking_id="undone")], tx=tx)
        tx.rollback()
        with pytest.raises(Refused, match="is no name of a kind; write lower-case words"):
            client.enqueue(RawPayload(kind="No kind"), tx=tx)
    assert [row[0] for row in await outbox(connection)] == [kept.job_id]


async def test_a_transaction_of_the_other_kind_is_refused(connection: Any, database_url: str) -> None:
    with psycopg.connect(database_url) as tx, pytest.raises(Refused, match=r"there is skycap\.Client"):
        await AsyncClient(Recorder()).enqueue(Receipt(booking_id="1"), tx=tx)
    with pytest.raises(Refused, match="there is AsyncClient"):
        Client(Recorder()).enqueue(Receipt(booking_id="1"), tx=connection)
