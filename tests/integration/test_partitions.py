"""A plain table becomes one of monthly partitions on a real PostgreSQL, while others write, and over kill -9."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

import asyncpg
import pytest

from skycap.demo.travel import create_travel_tables
from skycap.errors import ConfigurationError
from skycap.services.migrations import migrate
from skycap.services.partitions import Partitioning, Standing
from tests.support.daemons import CLEAN, Site, skycap
from tests.support.partition_crash import contents, fill, writing
from tests.support.workers import eventually

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
ROWS = 1_000

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
async def connection(database_url: str) -> AsyncGenerator[Connection]:
    connection = await asyncpg.connect(database_url)
    await create_travel_tables(connection)
    await migrate(connection)
    await fill(connection, ROWS)
    yield connection
    await connection.close()


def partitioning(connection: Connection, *, batch: int = 500, table: str = "price_history") -> Partitioning:
    return Partitioning(connection, table, batch=batch, pause=timedelta(0))


async def convert(connection: Connection, column: str = "createdAt", *, table: str = "price_history") -> Standing:
    steps = [step async for step in partitioning(connection, table=table).apply(column, now=NOW)]
    return steps[-1]


async def partitions_of(connection: Connection) -> list[str]:
    rows = await connection.fetch(
        """
        SELECT inhrelid::regclass::text AS name FROM pg_inherits
        WHERE inhparent = 'price_history'::regclass ORDER BY 1
        """
    )
    return [row["name"] for row in rows]


async def test_the_rows_are_the_same_and_lie_in_their_months(connection: Connection) -> None:
    before = await contents(connection, "price_history")
    standing = await convert(connection)
    assert (standing.step, standing.copied) == ("swapped", ROWS)
    assert await contents(connection, "price_history") == await contents(connection, "price_history_old") == before
    assert await partitions_of(connection) == [
        "price_history_default",
        *(f"price_history_p2026_{month:02}" for month in (10, 11, 12)),
        *("price_history_p2027_01", "price_history_p2027_02"),
    ]
    assert await connection.fetchval("SELECT count(*) FROM price_history_default") == 0
    wrong = """
        SELECT count(*) FROM price_history_p2026_10 WHERE date_trunc('month', "createdAt") <> '2026-10-01'
    """
    assert await connection.fetchval(wrong) == 0


async def test_columns_defaults_grants_owner_and_indexes_are_as_they_were(connection: Connection) -> None:
    await connection.execute("CREATE ROLE clerk")
    try:
        await connection.execute("GRANT SELECT, INSERT ON price_history TO clerk")
        before = await _nature(connection)
        await convert(connection)
        after = await _nature(connection)
    finally:
        await connection.execute("DROP OWNED BY clerk; DROP ROLE clerk")
    assert after["indexes"].pop("price_history_pkey") == '(id, "createdAt")'
    assert before["indexes"].pop("price_history_pkey") == "(id)"
    assert after == before
    plan = await connection.fetch(
        """
        EXPLAIN SELECT price FROM price_history WHERE "entityType" = 'HOTEL' AND "entityId" = 'h1'
        ORDER BY "createdAt" DESC LIMIT 1
        """
    )
    assert "Index Scan Backward" in "\n".join(row[0] for row in plan)


async def _nature(connection: Connection) -> dict[str, dict[str, str]]:
    columns = await connection.fetch(
        """
        SELECT column_name AS name, data_type || ' ' || is_nullable || ' ' || coalesce(column_default, '') AS nature
        FROM information_schema.columns WHERE table_name = 'price_history' ORDER BY ordinal_position
        """
    )
    grants = await connection.fetch(
        """
        SELECT grantee || ' ' || privilege_type AS name, is_grantable AS nature
        FROM information_schema.role_table_grants WHERE table_name = 'price_history' ORDER BY 1
        """
    )
    indexes = await connection.fetch(
        """
        SELECT indexname AS name, '(' || split_part(indexdef, '(', 2) AS nature
        FROM pg_indexes WHERE tablename = 'price_history' ORDER BY 1
        """
    )
    found = {"columns": columns, "grants": grants, "indexes": indexes}
    return {what: {row["name"]: row["nature"] for row in rows} for what, rows in found.items()}


async def test_what_others_write_meanwhile_is_there_afterwards_to_the_last_row(
    connection: Connection, database_url: str
) -> None:
    async with writing(connection, database_url, 3) as writers:
        steps = [step async for step in partitioning(connection, batch=20).apply("createdAt", now=NOW)]
        written = sum(writer.written for writer in writers)

        async def is_written_on() -> bool:
            return sum(writer.written for writer in writers) > written

        await eventually(is_written_on)
    assert steps[-1].step == "swapped"
    assert written > 20
    expected = {row_id: row for writer in writers for row_id, row in writer.rows.items()}
    assert await contents(connection, "price_history") == expected


async def test_killed_again_and_again_it_goes_on_and_the_rows_are_exact(
    connection: Connection, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    config = Site(folder=tmp_path, redis_url=redis_url, database_url=database_url).config
    command = ("db", "partition", "price_history", "--by", "createdAt", "--apply", "--batch", "20", "--config", config)
    async with writing(connection, database_url, 2) as writers:
        copied = -1
        for _ in range(3):
            copied = await _killed_after_more_than(copied, command, connection)
        done = await skycap(*command, "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json["step"] == "swapped"
    expected = {row_id: row for writer in writers for row_id, row in writer.rows.items()}
    assert await contents(connection, "price_history") == expected


async def _killed_after_more_than(copied: int, command: tuple[str | Path, ...], connection: Connection) -> int:
    """How many rows were copied when it was killed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "skycap", *map(str, command)), env=CLEAN, stdout=asyncio.subprocess.DEVNULL
    )
    now_copied = copied

    async def has_moved() -> bool:
        nonlocal now_copied
        found = await connection.fetchval("SELECT copied FROM skycap.partitionings")
        now_copied = copied if found is None else found
        return now_copied > copied

    await eventually(has_moved)
    os.kill(process.pid, 9)
    await process.wait()
    return now_copied


async def test_aborted_the_table_is_as_it_was(connection: Connection) -> None:
    work = partitioning(connection)
    steps = work.apply("createdAt", now=NOW)
    await anext(steps)
    await anext(steps)
    await steps.aclose()
    await work.abort()
    assert await work.standing() is None
    left = await connection.fetch("SELECT relname FROM pg_class WHERE relname LIKE 'price_history_p%2%'")
    assert left == []
    assert await connection.fetchval("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'skycap%'") == 0
    assert (await convert(connection)).step == "swapped"


async def test_the_old_table_stays_until_it_is_dropped_and_then_it_cannot_be_undone(connection: Connection) -> None:
    with pytest.raises(ConfigurationError, match="has not been partitioned"):
        await partitioning(connection).drop_old()
    await convert(connection)
    with pytest.raises(ConfigurationError, match="cannot be undone"):
        await partitioning(connection).abort()
    await partitioning(connection).drop_old()
    assert await connection.fetchval("SELECT to_regclass('price_history_old') IS NULL")
    with pytest.raises(ConfigurationError, match="is partitioned already"):
        await convert(connection)


async def test_rows_that_differ_are_never_swapped(connection: Connection) -> None:
    work = partitioning(connection, batch=ROWS)
    steps = work.apply("createdAt", now=NOW)
    await anext(steps)
    await anext(steps)
    await connection.execute("UPDATE price_history_partitioned SET price = 1 WHERE id = 'p00000007'")
    with pytest.raises(ConfigurationError, match="nothing was swapped"):
        [step async for step in steps]
    assert await connection.fetchval("SELECT relkind::text FROM pg_class WHERE oid = 'price_history'::regclass") == "r"


HISTORY = ("price_history", "createdAt")
NO_CHANGE = "SELECT 1"
REFUSED = [
    ("nothing", "createdAt", NO_CHANGE, "there is no table nothing"),
    (
        "users",
        "createdAt",
        NO_CHANGE,
        "is referred to by foreign keys of bookings, notifications, price_alerts: a partitioned",
    ),
    ("price_history", "created", NO_CHANGE, "has no column created; it has id, entityType"),
    ("price_history", "entityId", NO_CHANGE, "column entityId is a text; give a timestamp"),
    ("price_history", "travelDate", NO_CHANGE, "column travelDate may be NULL"),
    (*HISTORY, "CREATE VIEW newest AS SELECT * FROM price_history", "is read by newest"),
    (*HISTORY, "CREATE UNIQUE INDEX one ON price_history (price)", "has the unique indexes one"),
    (*HISTORY, "ALTER TABLE price_history DROP CONSTRAINT price_history_pkey", "has no primary key"),
    (*HISTORY, "ALTER TABLE price_history ENABLE ROW LEVEL SECURITY", "has row level security"),
    (*HISTORY, "UPDATE price_history SET \"createdAt\" = '1026-01-01' WHERE id = 'p00000001'", "dates that are wrong"),
]


async def test_what_cannot_be_partitioned_is_refused_with_the_reason(connection: Connection) -> None:
    for table, column, statement, problem in REFUSED:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(statement)
        with pytest.raises(ConfigurationError, match=problem):
            await partitioning(connection, table=table).plan(column, now=NOW)
        await transaction.rollback()


async def test_the_command_plans_says_what_changes_for_the_backend_and_tells_the_status(
    connection: Connection, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    config = Site(folder=tmp_path, redis_url=redis_url, database_url=database_url).config
    command = ("db", "partition", "price_history", "--config", config)
    plan = await skycap(*command, "--by", "createdAt")
    assert plan.code == 0, plan.err
    assert "@@id([id, createdAt])" in plan.out
    assert "price_history_default" in plan.out
    assert (await skycap(*command, "--status")).code == 1
    missing = await skycap(*command)
    assert (missing.code, "--by createdAt" in missing.err) == (64, True)
    assert (await skycap(*command, "--by", "createdAt", "--apply")).code == 0
    status = await skycap(*command, "--status", "--json")
    assert (status.code, status.json["step"], status.json["copied"]) == (0, "swapped", ROWS)
    assert (await skycap(*command, "--drop-old")).code == 0
