"""``skycap db report`` on a real PostgreSQL: what it finds, and what it says when it may not look."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from skycap.services.database import DatabasePool
from skycap.services.database_report import DatabaseReport, database_report
from skycap.services.migrations import migrate
from tests.support.commands import command
from tests.support.daemons import Site

if TYPE_CHECKING:
    from skycap.services.database import Connection

ROWS = 50_000

# Statistics of a session reach the others when it is idle for a while, or says so.
FLUSH = "SELECT pg_stat_force_next_flush()"


@pytest.fixture
async def admin(database_url: str) -> AsyncGenerator[Connection]:
    connection = await asyncpg.connect(database_url)
    await connection.execute("""
        CREATE TABLE rooms (id INTEGER PRIMARY KEY, city TEXT, note TEXT) WITH (autovacuum_enabled = off);
        INSERT INTO rooms SELECT n, 'city ' || n % 100, repeat('x', 100) FROM generate_series(1, 50000) AS n;
        CREATE INDEX rooms_note ON rooms (note, id);
        CREATE INDEX rooms_city ON rooms (city);
        CREATE INDEX rooms_city_again ON rooms (city, id);
    """)
    await connection.execute(FLUSH)
    await connection.execute("ANALYZE rooms")
    yield connection
    await connection.close()


async def look(database_url: str) -> DatabaseReport:
    pool = DatabasePool(dsn=database_url, size=1)
    try:
        return await database_report(pool)
    finally:
        await pool.close()


async def test_a_large_table_that_is_read_from_end_to_end_is_a_suspect(database_url: str, admin: Connection) -> None:
    await admin.execute("SELECT count(*) FROM rooms WHERE note = 'y'; SET enable_indexscan = off")
    await admin.execute("SET enable_bitmapscan = off; SET enable_indexonlyscan = off")
    await admin.execute("SELECT count(*) FROM rooms WHERE note LIKE 'y%'")
    await admin.execute(FLUSH)
    (found,) = (await look(database_url)).sequential_scans
    assert (found.table, found.rows) == ("public.rooms", ROWS)
    assert found.rows_per_scan >= ROWS / 2


async def test_an_index_that_nobody_uses_is_named_and_a_key_is_not(database_url: str, admin: Connection) -> None:
    await admin.execute(FLUSH)
    unused = {each.index: each.bytes for each in (await look(database_url)).unused_indexes}
    assert "rooms_note" in unused
    assert "rooms_pkey" not in unused


async def test_an_index_beside_which_another_does_the_same_is_named_once(database_url: str, admin: Connection) -> None:
    await admin.execute("CREATE INDEX rooms_key ON rooms (id); CREATE INDEX rooms_some ON rooms (city) WHERE id > 5")
    found = {each.index: each.beside for each in (await look(database_url)).duplicate_indexes}
    assert found == {"rooms_city": "rooms_city_again", "rooms_key": "rooms_pkey"}


@pytest.mark.parametrize(
    ("extension", "method"), [("SELECT 1", "estimate"), ("CREATE EXTENSION pgstattuple", "pgstattuple")]
)
async def test_wasted_space_is_measured_where_it_can_be_and_estimated_elsewhere(
    database_url: str, admin: Connection, extension: str, method: str
) -> None:
    assert (await look(database_url)).bloat == []
    await admin.execute(extension)
    await admin.execute("DELETE FROM rooms WHERE id % 5 > 0")
    await admin.execute("VACUUM (INDEX_CLEANUP OFF, ANALYZE) rooms")
    found = {each.relation: each for each in (await look(database_url)).bloat}
    rooms = found["public.rooms"]
    assert rooms.method == method
    assert 0.6 < rooms.wasted_bytes / rooms.bytes < 0.9
    assert found["public.rooms_note"].method == "estimate"


async def test_statements_are_shown_by_their_cost_without_their_values(database_url: str, admin: Connection) -> None:
    assert (await look(database_url)).hidden == [
        "slow statements: run CREATE EXTENSION pg_stat_statements in this database"
    ]
    await admin.execute("CREATE EXTENSION pg_stat_statements; SELECT pg_stat_statements_reset()")
    await admin.execute("CREATE ROLE guest PASSWORD 'secret'; DROP ROLE guest")
    for _ in range(3):
        await admin.execute("SELECT note FROM rooms WHERE city = 'city of someone' ORDER BY note")
    report = await look(database_url)
    slow = next(each for each in report.slow_statements if "ORDER BY note" in each.statement)
    assert (slow.statement, slow.calls) == ("SELECT note FROM rooms WHERE city = $1 ORDER BY note", 3)
    assert 0 < slow.mean_ms < slow.total_ms
    assert not any("PASSWORD" in each.statement for each in report.slow_statements)
    assert report.hidden == []


async def test_a_table_that_changed_much_is_overdue(database_url: str, admin: Connection) -> None:
    assert (await look(database_url)).stale_tables == []
    await admin.execute("UPDATE rooms SET note = 'z'")
    await admin.execute(FLUSH)
    (stale,) = (await look(database_url)).stale_tables
    assert (stale.table, stale.changed_rows, stale.vacuumed_at) == ("public.rooms", ROWS, None)
    assert stale.analyzed_at is not None


async def test_the_oldest_transaction_is_named(database_url: str, admin: Connection) -> None:
    forgotten = await asyncpg.connect(database_url, server_settings={"application_name": "forgotten"})
    await forgotten.execute("BEGIN")
    oldest = (await look(database_url)).oldest_transaction
    await forgotten.close()
    assert oldest is not None
    assert (oldest.application, oldest.state) == ("forgotten", "idle in transaction")


async def test_a_role_that_may_do_nothing_sees_what_it_may_and_is_told_the_rest(
    database_url: str, admin: Connection
) -> None:
    await migrate(admin)
    await admin.execute("CREATE ROLE visitor LOGIN")
    await admin.execute("CREATE EXTENSION pg_stat_statements SCHEMA skycap")
    try:
        report = await look(database_url.replace("skycap@", "visitor@"))
    finally:
        await admin.execute("DROP OWNED BY visitor; DROP ROLE visitor")
    assert [words.partition(":")[0] for words in report.hidden] == [
        "other roles' sessions and statements",
        "slow statements",
    ]
    assert "rooms_note" in {each.index for each in report.unused_indexes}
    assert "mail_ledger" in {each.table for each in report.own_tables}


async def test_the_report_is_printed_for_people_and_for_programs(
    database_url: str, admin: Connection, redis_url: str, tmp_path: Path
) -> None:
    site = Site(folder=tmp_path, redis_url=redis_url, database_url=database_url)
    printed = (await command("db", "report", "--config", site.config)).out
    assert "indexes that were never used" in printed
    assert "not seen: slow statements: run CREATE EXTENSION" in printed
    document = (await command("db", "report", "--json", "--config", site.config)).json
    assert document["duplicateIndexes"][0]["index"] == "rooms_city"
