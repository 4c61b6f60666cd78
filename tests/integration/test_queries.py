"""What the pool does beyond asking: it streams in little memory, tries again what was undone, names what is slow."""

from __future__ import annotations

import asyncio
import gc
import re
import tracemalloc
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from skycap.context import Database
from skycap.errors import QueryTimeout, Unavailable
from skycap.services.database import DatabasePool
from skycap.services.slow_queries import MOST_COUNTED, OTHER, OURSELVES, Asker, SlowQueries, SlowQuery
from skycap.services.statements import statement_of
from tests.support.pgbouncer import pgbouncer
from tests.support.servers import ms
from tests.support.workers import eventually

REPORT = Asker(plugin="reports", kind="make-report")
ROWS = "SELECT n, repeat('x', 1000) AS filling FROM generate_series(1, $1::int) AS n"
FAILS_TWICE = """
    CREATE SEQUENCE tries;
    CREATE TABLE trips (id INT);
    CREATE FUNCTION fail_twice(state TEXT) RETURNS BIGINT LANGUAGE plpgsql AS $$
    DECLARE try BIGINT := nextval('tries');
    BEGIN
        IF try <= 2 THEN RAISE 'no' USING ERRCODE = state; END IF;
        RETURN try;
    END $$
"""
UNDONE_BY_THE_SERVER = ["25006", "40001", "40P01", "53300", "55P03", "57P01", "57P03"]
NOT_WORTH_IT = ["53100", "57014", "57P02", "08006"]


@pytest.fixture(params=["direct", "pooled"])
async def pool(request: pytest.FixtureRequest, database_url: str) -> AsyncGenerator[DatabasePool]:
    if request.param == "direct":
        pool = DatabasePool(dsn=database_url, size=3)
        yield pool
        await pool.close()
    else:
        async with pgbouncer(database_url) as url:
            pool = DatabasePool(dsn=url, size=3, pooled=True)
            yield pool
            await pool.close()


async def idle(pool: DatabasePool) -> bool:
    """Nobody but who asks is in a transaction."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' AND usename = 'skycap'"
    return bool(await pool.fetchval(query) == 0)


async def test_a_large_result_is_streamed_in_little_memory(pool: DatabasePool) -> None:
    total = 0
    async with aclosing(pool.stream(ROWS, 2000, batch=500)) as rows:  # what is imported and cached at first
        async for row in rows:
            total += row["n"]
    gc.collect()
    tracemalloc.start()
    async with aclosing(pool.stream(ROWS, 20_000, batch=500)) as rows:
        async for row in rows:
            total += len(row["filling"])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == sum(range(1, 2001)) + 20_000_000
    assert peak < 5_000_000, "a batch has half a megabyte, all rows have twenty"


async def test_a_stream_whose_consumer_stops_early_ends_its_transaction(pool: DatabasePool) -> None:
    async with aclosing(pool.stream(ROWS, 1000, batch=10)) as rows:
        async for row in rows:
            if row["n"] == 15:
                break
    assert await idle(pool)
    async for row in pool.stream(ROWS, 1000, batch=10):
        if row["n"] == 15:
            break
    await eventually(lambda: idle(pool))


async def test_within_a_transaction_a_stream_sees_what_that_has_written(pool: DatabasePool) -> None:
    await pool.execute("CREATE TABLE trips (id INT)")
    async with pool.transaction() as transaction:
        await transaction.execute("INSERT INTO trips SELECT generate_series(1, 25)")
        query = "SELECT id FROM trips WHERE id > $1 ORDER BY id"
        found: list[int] = []
        async for row in transaction.stream(query, 5, batch=10):
            found.append(row["id"])
            await transaction.execute("UPDATE trips SET id = id")  # while it streams
        assert found == list(range(6, 26))
        assert [row["id"] async for row in pool.stream("SELECT id FROM trips")] == []
    assert await pool.fetchval("SELECT count(*) FROM trips") == 25


async def test_a_stream_has_the_time_limit_for_each_batch_and_not_for_all(database_url: str) -> None:
    slow = "SELECT n, pg_sleep(0.04) FROM generate_series(1, 20) AS n"
    pool = DatabasePool(dsn=database_url, statement_timeout=ms(400))
    assert len([row async for row in pool.stream(slow, batch=2)]) == 20
    with pytest.raises(Unavailable, match="longer than statement_timeout"):
        _ = [row async for row in pool.stream(slow, batch=20)]
    with pytest.raises(asyncpg.UndefinedTableError):
        _ = [row async for row in pool.stream("SELECT * FROM nothing")]
    await pool.close()


@pytest.mark.parametrize("sqlstate", UNDONE_BY_THE_SERVER)
async def test_a_statement_that_the_server_has_undone_is_asked_again(pool: DatabasePool, sqlstate: str) -> None:
    await pool.execute(FAILS_TWICE)
    await pool.execute("INSERT INTO trips SELECT fail_twice($1)", sqlstate)
    assert await pool.fetch("SELECT id FROM trips") == [{"id": 3}]


@pytest.mark.parametrize("sqlstate", NOT_WORTH_IT)
async def test_what_may_have_been_done_or_takes_long_is_not(pool: DatabasePool, sqlstate: str) -> None:
    await pool.execute(FAILS_TWICE)
    with pytest.raises(Unavailable):
        await pool.execute("INSERT INTO trips SELECT fail_twice($1)", sqlstate)
    assert await pool.fetchval("SELECT nextval('tries')") == 2


async def test_code_that_commits_in_between_and_a_transaction_are_not_asked_again(database_url: str) -> None:
    pool = DatabasePool(dsn=database_url)
    await pool.execute(FAILS_TWICE)
    with pytest.raises(Unavailable):
        await pool.execute("DO $$ BEGIN PERFORM fail_twice('40001'); END $$")
    with pytest.raises(Unavailable):
        async with pool.transaction() as transaction:
            await transaction.fetchval("SELECT fail_twice('40001')")
    assert await pool.fetchval("SELECT fail_twice('40001')") == 3
    await pool.close()


async def test_a_read_whose_connection_is_lost_is_asked_again_and_a_write_never(database_url: str) -> None:
    pool = DatabasePool(dsn=database_url, size=1)
    other = DatabasePool(dsn=database_url)
    await other.execute(FAILS_TWICE)

    async def is_asleep() -> bool:
        return bool(await other.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"))

    async def is_quiet() -> bool:
        """What the server does for those who were cut off, it does to the end."""
        return not await is_asleep()

    async def cut_while(sleeping: asyncio.Task[Any]) -> None:
        """Without a word: as a network does."""
        await eventually(is_asleep)
        inside: Any = pool
        for holder in inside._pool._holders:  # noqa: SLF001 - no public way to a socket
            holder._con._transport.abort()  # noqa: SLF001
        await asyncio.wait([sleeping])

    view = "CREATE VIEW slowly AS SELECT id FROM trips, pg_sleep(0.5)"
    await other.execute(view)
    await other.execute("INSERT INTO trips VALUES (1)")
    await pool.fetchval("SELECT 1")
    reading = asyncio.create_task(pool.fetchval("SELECT max(id) FROM slowly"))
    await cut_while(reading)
    assert reading.result() == 1
    for writing in ("SELECT fail_twice('x') FROM slowly", "INSERT INTO trips SELECT id FROM slowly"):
        await eventually(is_quiet)
        written = asyncio.create_task(pool.execute(writing))
        await cut_while(written)
        assert isinstance(written.exception(), Unavailable)

    async def is_there() -> bool:
        return bool(await other.fetchval("SELECT count(*) FROM trips") == 2)

    await eventually(is_there)  # it was committed all the same, which nobody could know
    await pool.close()
    await other.close()


async def test_a_transaction_that_collides_is_run_again_as_a_whole(database_url: str) -> None:
    pool = DatabasePool(dsn=database_url)
    await pool.execute("CREATE TABLE accounts (id INT PRIMARY KEY, balance INT)")
    await pool.execute("INSERT INTO accounts VALUES (1, 0), (2, 0)")
    ran: Counter[str] = Counter()

    async def count_up(transaction: Database) -> int:
        ran["count up"] += 1
        await transaction.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        balance = await transaction.fetchval("SELECT balance FROM accounts WHERE id = 1")
        await transaction.execute("UPDATE accounts SET balance = $1 WHERE id = 1", balance + 1)
        return int(balance)

    done = await asyncio.gather(*(pool.in_transaction(count_up) for _ in range(4)))
    assert sorted(done) == [0, 1, 2, 3]
    assert await pool.fetchval("SELECT balance FROM accounts WHERE id = 1") == 4
    assert ran["count up"] > 4, "they collided, or this shows nothing"

    both = asyncio.Barrier(2)

    async def take_both(transaction: Database, first: int, second: int) -> None:
        ran["take both"] += 1
        await transaction.execute("UPDATE accounts SET balance = balance + 1 WHERE id = $1", first)
        if ran["take both"] <= 2:
            await both.wait()
        await transaction.execute("UPDATE accounts SET balance = balance + 1 WHERE id = $1", second)

    await asyncio.gather(
        pool.in_transaction(lambda transaction: take_both(transaction, 1, 2)),
        pool.in_transaction(lambda transaction: take_both(transaction, 2, 1)),
    )
    assert ran["take both"] == 3, "one of them met a deadlock"
    assert await pool.fetch("SELECT balance FROM accounts ORDER BY id") == [{"balance": 6}, {"balance": 2}]
    await pool.close()


async def test_a_transaction_that_keeps_colliding_and_one_that_fails_otherwise_come_to_an_end(
    database_url: str,
) -> None:
    pool = DatabasePool(dsn=database_url)
    tries: list[str] = []

    def failing(sqlstate: str) -> Callable[[Database], Awaitable[None]]:
        async def fail(transaction: Database) -> None:
            tries.append(sqlstate)
            await transaction.execute(f"DO $$ BEGIN RAISE 'no' USING ERRCODE = '{sqlstate}'; END $$")

        return fail

    for sqlstate in ("40001", "57P01"):
        with pytest.raises(Unavailable):
            await pool.in_transaction(failing(sqlstate))
    with pytest.raises(ValueError, match="of its own"):
        await pool.in_transaction(lambda _: _raise(ValueError("of its own")))
    assert Counter(tries) == {"40001": 6, "57P01": 1}
    await pool.close()


async def _raise(error: Exception) -> None:
    raise error


async def write_although_read_only(transaction: Database) -> None:
    await transaction.execute("SET TRANSACTION READ ONLY")
    await transaction.execute("INSERT INTO trips VALUES (1)")


async def test_a_read_only_primary_is_asked_over_a_new_connection(database_url: str) -> None:
    pool = DatabasePool(dsn=database_url, size=1)
    await pool.execute("CREATE TABLE trips (id INT)")
    session = await pool.fetchval("SELECT pg_backend_pid()")
    async with pool.transaction() as transaction:
        with pytest.raises(Unavailable, match="read-only"):
            await transaction.in_transaction(write_although_read_only)
    assert await pool.fetchval("SELECT pg_backend_pid()") == session
    with pytest.raises(Unavailable, match="read-only"):
        await pool.in_transaction(write_although_read_only)
    assert await pool.fetchval("SELECT pg_backend_pid()") != session
    await pool.close()


async def test_a_jobs_query_that_takes_too_long_is_cancelled_and_named(database_url: str) -> None:
    pool = DatabasePool(dsn=database_url, statement_timeout=ms(100))
    query = "SELECT pg_sleep(30), $1::text"
    job = pool.asked_by(REPORT)
    with pytest.raises(QueryTimeout) as timeout:
        await job.fetchval(query, "ada@example.com")
    async with job.transaction() as transaction:
        with pytest.raises(QueryTimeout):
            await transaction.fetchval(query, "ada@example.com")
    with pytest.raises(QueryTimeout):
        _ = [row async for row in job.stream(query, "ada@example.com")]
    said = str(timeout.value)
    assert re.match(r"a query of make-report \(plugin reports\) was cancelled after \d\.\d s, longer than state", said)
    assert said.endswith(f"select pg_sleep(?), ?::text (fingerprint {statement_of(query).fingerprint})")
    with pytest.raises(Unavailable, match="longer than statement_timeout"):
        await pool.fetchval("SELECT pg_sleep(30)")
    await pool.close()


async def test_while_nobody_gets_an_answer_no_query_is_to_blame(database_url: str) -> None:
    pool = DatabasePool(dsn=database_url, size=1, statement_timeout=ms(100), pool_timeout=ms(100))
    async with pool.asked_by(REPORT).transaction() as transaction:
        with pytest.raises(Unavailable, match="longer than statement_timeout"):
            await transaction.fetchval("SELECT pg_sleep(30)")
    await pool.close()


def test_slow_queries_are_counted_by_fingerprint_and_kind_and_no_label_set_grows_for_ever() -> None:
    slow = SlowQueries(ms(1))
    with capture_logs() as logs:
        slow.note("SELECT 1", ms(1), OURSELVES)
        slow.note("SELECT 'secret'", ms(2), REPORT)
        slow.note("SELECT 2", ms(3), REPORT)
        for number in range(MOST_COUNTED + 10):
            slow.note(f"SELECT a{number}", ms(2), REPORT)
    assert slow.counts[SlowQuery(statement_of("SELECT 1").fingerprint, "make-report")] == 2
    assert slow.counts[SlowQuery(OTHER, OTHER)] == 11
    assert len(slow.counts) == MOST_COUNTED + 1
    assert logs[0] == {
        "event": "slow query",
        "log_level": "warning",
        "fingerprint": statement_of("SELECT 1").fingerprint,
        "statement": "select ?",
        "duration_ms": 2,
        "kind": "make-report",
        "plugin": "reports",
    }
