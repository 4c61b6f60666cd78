"""DatabasePool on a real PostgreSQL: when it connects, what counts as unreachable, and what it says then."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from structlog.testing import capture_logs

from skycap.errors import ConfigurationError, Unavailable
from skycap.services.database import DatabasePool
from skycap.services.statements import statement_of
from tests.support.servers import ms

if TYPE_CHECKING:
    from skycap.services.database import Connection

NOWHERE = "postgresql://somebody:secret@127.0.0.1:1/travel"


@asynccontextmanager
async def pool_on(dsn: str, **options: Any) -> AsyncGenerator[DatabasePool]:
    pool = DatabasePool(dsn=dsn, **options)
    try:
        yield pool
    finally:
        await pool.close()


@pytest.fixture
async def pool(database_url: str) -> AsyncGenerator[DatabasePool]:
    async with pool_on(database_url, statement_timeout=ms(10_000)) as pool:
        yield pool


async def test_the_words_are_those_of_asyncpg_and_rows_are_mappings(pool: DatabasePool) -> None:
    assert await pool.execute("CREATE TABLE trips (id INT, place TEXT)") == "CREATE TABLE"
    assert await pool.execute("INSERT INTO trips VALUES (1, 'Izmir'), (2, $1)", "Oslo") == "INSERT 0 2"
    assert await pool.fetch("SELECT * FROM trips ORDER BY id") == [
        {"id": 1, "place": "Izmir"},
        {"id": 2, "place": "Oslo"},
    ]
    row = await pool.fetchrow("SELECT * FROM trips WHERE id = $1", 2)
    assert isinstance(row, Mapping)
    assert list(row) == ["id", "place"]
    assert await pool.fetchrow("SELECT * FROM trips WHERE id = 3") is None
    assert await pool.fetchval("SELECT count(*) FROM trips") == 2


async def test_every_connection_has_time_limits_and_is_in_utc(database_url: str) -> None:
    async with pool_on(database_url, statement_timeout=ms(1500), lock_timeout=ms(250)) as pool:
        shown = {
            name: await pool.fetchval(f"SHOW {name}")
            for name in (
                *("application_name", "timezone", "statement_timeout"),
                *("lock_timeout", "idle_in_transaction_session_timeout"),
            )
        }
    assert shown == {
        "application_name": "skycap",
        "timezone": "UTC",
        "statement_timeout": "1500ms",
        "lock_timeout": "250ms",
        "idle_in_transaction_session_timeout": "1min",
    }


async def test_a_transaction_is_committed_as_a_whole_or_not_at_all(pool: DatabasePool) -> None:
    await pool.execute("CREATE TABLE trips (id INT)")
    async with pool.transaction() as transaction:
        await transaction.execute("INSERT INTO trips VALUES (1)")

    async def change_ones_mind() -> None:
        async with pool.transaction() as transaction:
            await transaction.execute("INSERT INTO trips VALUES (2)")
            raise ValueError("changed my mind")

    with pytest.raises(ValueError, match="changed my mind"):
        await change_ones_mind()
    assert await pool.fetch("SELECT id FROM trips") == [{"id": 1}]


async def test_a_transaction_within_a_transaction_is_a_savepoint(pool: DatabasePool) -> None:
    await pool.execute("CREATE TABLE trips (id INT PRIMARY KEY)")
    async with pool.transaction() as transaction:
        await transaction.execute("INSERT INTO trips VALUES (1)")
        with pytest.raises(asyncpg.UniqueViolationError):
            async with transaction.transaction() as savepoint:
                await savepoint.execute("INSERT INTO trips VALUES (2), (1)")
        await transaction.execute("INSERT INTO trips VALUES (3)")
    assert await pool.fetch("SELECT id FROM trips ORDER BY id") == [{"id": 1}, {"id": 3}]


async def test_what_a_handler_raises_inside_a_transaction_is_not_taken_for_the_databases(pool: DatabasePool) -> None:
    with pytest.raises(ConnectionRefusedError):
        async with pool.transaction():
            raise ConnectionRefusedError("somebody else's server")


async def test_nothing_is_connected_before_the_first_call() -> None:
    async with pool_on(NOWHERE) as pool:
        with pytest.raises(Unavailable, match=r"^database: ") as unreachable:
            await pool.fetchval("SELECT 1")
    assert str(unreachable.value) == "database: Connection refused"
    assert unreachable.value.__cause__ is not None


async def test_an_unusable_url_is_a_matter_of_configuration_and_is_not_quoted() -> None:
    async with pool_on("mysql://somebody:secret@host/travel") as pool:
        with pytest.raises(ConfigurationError, match="postgresql://") as wrong:
            await pool.fetchval("SELECT 1")
    assert "secret" not in str(wrong.value)


async def test_it_connects_as_soon_as_the_server_is_there(database_url: str, tmp_path: Path) -> None:
    sockets = Path(parse_qs(urlsplit(database_url).query)["host"][0])
    later = tmp_path / "s"
    async with pool_on(database_url.replace(str(sockets), str(later))) as pool:
        with pytest.raises(Unavailable, match="No such file"):
            await pool.fetchval("SELECT 1")
        later.symlink_to(sockets)
        assert await pool.fetchval("SELECT 1") == 1


@pytest.mark.parametrize(
    "sqlstate",
    [
        *("08000", "08006", "25006", "40001", "40P01", "53100", "53200", "53300"),
        *("55P03", "57014", "57P01", "57P02", "57P03"),
    ],
)
async def test_the_state_of_the_server_is_unavailable(pool: DatabasePool, sqlstate: str) -> None:
    with pytest.raises(Unavailable, match=rf"^database: .+ \({sqlstate}\)$") as unavailable:
        await pool.execute(f"DO $$ BEGIN RAISE 'at host db1 for user somebody' USING ERRCODE = '{sqlstate}'; END $$")
    assert "somebody" not in str(unavailable.value)


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("SELECT * FROM nothing", asyncpg.UndefinedTableError),
        ("SELECT 1/0", asyncpg.DivisionByZeroError),
        ("SELECT $1::int", asyncpg.DataError),
    ],
)
async def test_a_programming_error_stays_what_it_is(pool: DatabasePool, statement: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        await pool.execute(statement, *(["no number"] if "$1" in statement else []))


async def test_a_statement_and_a_lock_that_take_too_long_are_unavailable(database_url: str) -> None:
    async with pool_on(database_url, statement_timeout=ms(100), lock_timeout=ms(20)) as pool:
        with pytest.raises(Unavailable, match="longer than statement_timeout"):
            await pool.execute("SELECT pg_sleep(10)")
        await pool.execute("CREATE TABLE trips (id INT)")
        async with pool.transaction() as one:
            await one.execute("LOCK TABLE trips")
            with pytest.raises(Unavailable, match="lock was not free"):
                await pool.execute("SELECT * FROM trips")


async def test_a_role_that_has_no_connection_left_or_may_not_log_in_is_unavailable(database_url: str) -> None:
    async with pool_on(database_url) as owner:
        await owner.execute("CREATE ROLE narrow LOGIN CONNECTION LIMIT 1")
        try:
            async with pool_on(database_url.replace("skycap@", "narrow@")) as pool, pool.transaction():
                with pytest.raises(Unavailable, match=r"no connection left \(53300\)"):
                    await pool.fetchval("SELECT 1")
            async with pool_on(database_url.replace("skycap@", "nobody-here@")) as pool:
                with pytest.raises(Unavailable, match=r"refused the log-in \(28000\)") as refused:
                    await pool.fetchval("SELECT 1")
                assert "nobody-here" not in str(refused.value)
        finally:
            await owner.execute("DROP ROLE narrow")


async def test_a_connection_that_is_cut_is_unavailable_and_the_next_call_gets_another(pool: DatabasePool) -> None:
    cut = "SELECT pg_terminate_backend(pg_backend_pid())"
    with pytest.raises(Unavailable):
        await pool.execute(cut)

    async def go_on_after_the_cut() -> None:
        async with pool.transaction() as transaction:
            with pytest.raises(Unavailable):
                await transaction.execute(cut)
            await transaction.execute("SELECT 1")

    with pytest.raises(Unavailable):
        await go_on_after_the_cut()
    assert await pool.fetchval("SELECT 1") == 1


async def test_a_connection_whose_farewell_lies_unread_is_unavailable(pool: DatabasePool) -> None:
    async def ask_after_the_cut() -> None:
        async with pool.transaction() as transaction, pool.transaction() as other:
            pid = await transaction.fetchval("SELECT pg_backend_pid()")
            await other.execute("SELECT pg_terminate_backend($1)", pid)
            await transaction.fetchval("SELECT 1")

    for _ in range(20):  # whether it lies unread is the loop's choice
        with pytest.raises(Unavailable):
            await ask_after_the_cut()
    assert await pool.fetchval("SELECT 1") == 1


async def test_the_end_of_a_transaction_whose_connection_was_cut_is_unavailable(pool: DatabasePool) -> None:
    async def end_after_the_cut() -> None:
        async with pool.transaction() as transaction:
            pid = await transaction.fetchval("SELECT pg_backend_pid()")
            await pool.execute("SELECT pg_terminate_backend($1, 5000)", pid)

    with pytest.raises(Unavailable):
        await end_after_the_cut()
    assert await pool.fetchval("SELECT 1") == 1


async def test_waiting_for_a_free_connection_has_an_end(database_url: str) -> None:
    async with pool_on(database_url, size=1, pool_timeout=ms(50)) as pool, pool.transaction():
        with pytest.raises(Unavailable, match="no free connection"):
            await pool.fetchval("SELECT 1")


async def test_it_is_prepared_once_and_before_anybody_gets_a_connection(database_url: str) -> None:
    prepared: list[int] = []

    async def prepare(connection: Connection) -> None:
        await connection.execute("CREATE TABLE trips (id INT)")
        prepared.append(1)

    async with pool_on(database_url, prepare=prepare) as pool:
        counts = await asyncio.gather(*(pool.fetchval("SELECT count(*) FROM trips") for _ in range(20)))
    assert counts == [0] * 20
    assert prepared == [1]


async def test_a_preparation_that_fails_is_tried_again_by_the_next_call(database_url: str) -> None:
    problems: list[Exception] = [ConfigurationError("may not"), ConnectionResetError("cut")]

    async def prepare(_: Connection) -> None:
        if problems:
            raise problems.pop(0)

    async with pool_on(database_url, prepare=prepare) as pool:
        with pytest.raises(ConfigurationError, match="may not"):
            await pool.fetchval("SELECT 1")
        assert await pool.fetchval("SELECT 1") == 1


async def test_all_who_wait_for_a_silent_server_give_up_together() -> None:
    async def prepare(_: Connection) -> None:
        raise AssertionError("nobody answered")

    with socket.create_server(("127.0.0.1", 0)) as silent:
        dsn = f"postgresql://somebody@127.0.0.1:{silent.getsockname()[1]}/travel"
        async with pool_on(dsn, connect_timeout=ms(200), prepare=prepare) as pool:
            started = time.monotonic()
            results = await asyncio.gather(*(pool.fetchval("SELECT 1") for _ in range(20)), return_exceptions=True)
            took = time.monotonic() - started
    assert all(isinstance(result, Unavailable) for result in results)
    assert took < 1, "one after the other would be 4 s"


async def test_a_cancelled_first_caller_leaves_the_others_their_connection(database_url: str) -> None:
    may_go_on = asyncio.Event()

    async def prepare(_: Connection) -> None:
        await may_go_on.wait()

    async with pool_on(database_url, prepare=prepare) as pool, asyncio.TaskGroup() as tasks:
        first = tasks.create_task(pool.fetchval("SELECT 1"))
        second = tasks.create_task(pool.fetchval("SELECT 2"))
        await asyncio.sleep(0)
        first.cancel()
        may_go_on.set()
        assert await second == 2


async def test_a_slow_query_is_logged_without_its_values(database_url: str) -> None:
    async with pool_on(database_url, slow_query=ms(20)) as pool:
        with capture_logs() as logs:
            await pool.fetchval("SELECT 1")
            await pool.fetchval("SELECT\n    $1::text,\n    pg_sleep(0.03)" + " -- long" * 50, "ada@example.com")
    (line,) = [line for line in logs if line["event"] == "slow query"]
    assert line["log_level"] == "warning"
    assert line["statement"] == "select ?::text, pg_sleep(?)"
    assert (line["fingerprint"], line["kind"]) == (statement_of("SELECT $1::text, pg_sleep(1)").fingerprint, "skycap")
    assert 30 <= line["duration_ms"] < 5000
    assert "ada@" not in str(logs)


async def test_a_ping_measures_the_round_trip(pool: DatabasePool) -> None:
    assert ms(0) < await pool.ping() < ms(5000)
    async with pool_on(NOWHERE) as nowhere:
        with pytest.raises(Unavailable):
            await nowhere.ping()


async def test_after_closing_nothing_is_opened_again(database_url: str) -> None:
    pool = DatabasePool(dsn=database_url)
    await pool.fetchval("SELECT 1")
    await pool.close()
    await pool.close()
    with pytest.raises(Unavailable, match="stopping"):
        await pool.fetchval("SELECT 1")


async def test_closing_does_not_wait_for_ever_for_one_who_holds_a_connection(database_url: str) -> None:
    pool = DatabasePool(dsn=database_url)

    async def hold() -> None:
        async with pool.transaction() as transaction:
            await transaction.fetchval("SELECT 1")
            held.set()
            await asyncio.Event().wait()

    held = asyncio.Event()
    holder = asyncio.create_task(hold())
    await held.wait()
    with capture_logs() as logs:
        await pool.close(patience=ms(50))
    holder.cancel()
    await asyncio.wait([holder])
    assert [line["event"] for line in logs] == ["database connections were cut off"]


async def test_what_one_caller_sets_is_not_met_by_the_next(database_url: str) -> None:
    async with pool_on(database_url, size=1) as pool:
        await pool.execute("SET work_mem = '123kB'")
        assert await pool.fetchval("SHOW work_mem") != "123kB"
        await pool.execute("SET work_mem = '123kB'")
        assert await pool.stateless.fetchval("SHOW work_mem") != "123kB"


async def test_stateless_statements_save_the_round_trip_that_cleans_up(database_url: str) -> None:
    async with pool_on(database_url, size=1) as pool:
        await pool.stateless.execute("SET work_mem = '123kB'")  # which nobody should do, but it shows
        assert await pool.stateless.fetchval("SHOW work_mem") == "123kB"
        await pool.fetchval("SELECT 1")
        assert await pool.fetchval("SHOW work_mem") != "123kB"
