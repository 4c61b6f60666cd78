"""Migrations on a real PostgreSQL: applied once, by whoever comes first, and to the schema skycap alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import asyncpg
import pytest

from skycap.errors import ConfigurationError
from skycap.services.migrations import migrate, pending

FIRST = "0001_mail_ledger.sql"

RELATIONS_ELSEWHERE = """
    SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname NOT IN ('skycap', 'pg_toast')
    UNION ALL
    SELECT n.nspname, p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname <> 'skycap'
"""


@pytest.fixture
async def connection(database_url: str) -> AsyncGenerator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def stranger(
    database_url: str, connection: asyncpg.Connection[asyncpg.Record]
) -> AsyncGenerator[asyncpg.Connection[asyncpg.Record]]:
    """Connected with a role that may log in, and nothing else."""
    await connection.execute("CREATE ROLE stranger LOGIN")
    stranger = await asyncpg.connect(database_url.replace("skycap@", "stranger@"))
    yield stranger
    await stranger.close()
    await connection.execute("DROP OWNED BY stranger; DROP ROLE stranger")


async def test_what_is_missing_is_applied_in_order_and_once(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    missing = await pending(connection)
    assert missing[0] == FIRST
    assert missing == sorted(missing)
    assert await migrate(connection) == missing
    assert await migrate(connection) == []
    assert await pending(connection) == []
    assert await connection.fetchval("SELECT count(*) FROM skycap.mail_ledger") == 0


async def test_looking_changes_nothing(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    await pending(connection)
    assert await connection.fetchval("SELECT to_regnamespace('skycap') IS NULL")


async def test_of_five_daemons_that_start_at_once_one_applies_each(
    database_url: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    missing = await pending(connection)
    connections = [await asyncpg.connect(database_url) for _ in range(5)]
    applied = await asyncio.gather(*(migrate(connection) for connection in connections))
    for other in connections:
        await other.close()
    assert sorted(name for names in applied for name in names) == missing
    assert await connection.fetchval("SELECT count(*) FROM skycap.migrations") == len(missing)


async def test_a_database_that_is_newer_than_this_code_is_accepted(
    connection: asyncpg.Connection[asyncpg.Record],
) -> None:
    await migrate(connection)
    await connection.execute("INSERT INTO skycap.migrations (name, sha256) VALUES ('9999_of_the_future.sql', 'abc')")
    assert await pending(connection) == []
    assert await migrate(connection) == []


async def test_a_file_that_was_changed_after_it_was_applied_is_refused(
    connection: asyncpg.Connection[asyncpg.Record],
) -> None:
    await migrate(connection)
    await connection.execute("UPDATE skycap.migrations SET sha256 = 'another' WHERE name = $1", FIRST)
    for check in (migrate, pending):
        with pytest.raises(ConfigurationError, match=rf"^migration {FIRST} was changed after it was applied"):
            await check(connection)


async def test_a_migration_that_fails_leaves_nothing_behind(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    await connection.execute("CREATE SCHEMA skycap; CREATE TABLE skycap.mail_ledger (somebody_elses TEXT)")
    with pytest.raises(asyncpg.DuplicateTableError):
        await migrate(connection)
    assert await connection.fetchval("SELECT to_regclass('skycap.migrations') IS NULL")


async def test_nothing_outside_the_schema_skycap_is_touched(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    await connection.execute("CREATE TABLE public.bookings (id TEXT)")
    before = sorted(map(tuple, await connection.fetch(RELATIONS_ELSEWHERE)))
    await migrate(connection)
    after = sorted(map(tuple, await connection.fetch(RELATIONS_ELSEWHERE)))
    assert after == before


async def test_a_role_that_may_not_create_the_schema_is_told_what_to_grant(
    stranger: asyncpg.Connection[asyncpg.Record], connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    with pytest.raises(ConfigurationError, match="GRANT CREATE ON DATABASE") as refused:
        await migrate(stranger)
    assert "skycap db migrate" in str(refused.value)
    await connection.execute("GRANT CREATE ON DATABASE skycap TO stranger")
    assert FIRST in await migrate(stranger)


async def test_a_role_that_may_only_use_the_schema_can_run_when_nothing_is_missing(
    stranger: asyncpg.Connection[asyncpg.Record], connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    await migrate(connection)
    with pytest.raises(ConfigurationError, match="permission denied"):
        await migrate(stranger)
    await connection.execute("GRANT USAGE ON SCHEMA skycap TO stranger; GRANT SELECT ON skycap.migrations TO stranger")
    assert await migrate(stranger) == []
