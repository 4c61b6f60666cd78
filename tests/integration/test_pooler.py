"""A real PgBouncer in transaction mode: found out by itself, and no promise of ours is lost behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import asyncpg
import pytest
from structlog.testing import capture_logs

from skycap.errors import Unavailable
from skycap.services.database import DatabasePool
from skycap.services.migrations import migrate, migrations_over
from skycap.services.notifications import Notifications
from tests.support.pgbouncer import pgbouncer
from tests.support.servers import ms
from tests.support.workers import PATIENCE, eventually


@pytest.fixture
async def pooled_url(database_url: str) -> AsyncGenerator[str]:
    async with pgbouncer(database_url) as url:
        yield url


async def test_it_is_found_out_and_said_once_how_to_write_it(pooled_url: str, database_url: str) -> None:
    with capture_logs() as logs:
        pool = DatabasePool(dsn=pooled_url, statement_cache_size=1000, connect_timeout=ms(20_000))
        await asyncio.gather(*(pool.fetchval("SELECT $1::int", number) for number in range(50)))
        await pool.close()
    (line,) = logs
    assert line["log_level"] == "warning"
    assert "pgbouncer=true" in line["advice"]
    assert "database.direct_url" in line["advice"]
    with capture_logs() as logs:
        pool = DatabasePool(dsn=database_url, statement_cache_size=1000)
        await pool.fetchval("SELECT 1")
        assert await pool.fetchval("SELECT count(*) FROM pg_prepared_statements") > 0, "a server's own keeps them"
        await pool.close()
    assert logs == []


async def test_many_connections_share_two_sessions_and_no_statement_is_mixed_up(pooled_url: str) -> None:
    pool = DatabasePool(dsn=pooled_url, size=10)

    async def ask(number: int) -> None:
        assert await pool.fetchval(f"SELECT $1::int + {number % 7}", number) == number + number % 7
        async with pool.transaction() as transaction:
            assert await transaction.fetchrow("SELECT $1::text AS a", str(number)) == {"a": str(number)}
        assert [row["n"] async for row in pool.stream("SELECT generate_series(1, $1::int) AS n", 5, batch=2)] == [
            *range(1, 6)
        ]

    await asyncio.gather(*(ask(number) for number in range(100)))
    assert await pool.fetchval("SELECT count(*) FROM pg_prepared_statements") == 0
    await pool.close()


async def test_the_time_limits_hold_although_the_pooler_takes_them_from_the_session(pooled_url: str) -> None:
    pool = DatabasePool(dsn=pooled_url, statement_timeout=ms(100), lock_timeout=ms(70))
    assert await pool.fetchval("SHOW lock_timeout") == "70ms"
    async with pool.transaction() as transaction:
        assert await transaction.fetchval("SHOW statement_timeout") == "100ms"
    for view in (pool, pool.stateless):
        with pytest.raises(Unavailable, match="longer than statement_timeout"):
            await view.fetchval("SELECT pg_sleep(10)")
    await pool.close()
    other = DatabasePool(dsn=pooled_url)
    assert await other.fetchval("SHOW lock_timeout") == "5s", "no limit stays with a session that is another's next"
    await other.close()


async def test_ten_daemons_migrate_through_it_and_by_the_direct_address(pooled_url: str, database_url: str) -> None:
    pools = [DatabasePool(dsn=pooled_url, prepare=migrate) for _ in range(9)]
    direct = migrations_over(database_url, connect_timeout=ms(5000))
    pools.append(DatabasePool(dsn=pooled_url, pooled=True, prepare=direct))
    counts = await asyncio.gather(*(pool.fetchval("SELECT count(*) FROM skycap.migrations") for pool in pools))
    assert len(set(counts)) == 1
    for pool in pools:
        await pool.close()


async def test_who_listens_through_it_is_told_and_does_not_wait_in_vain(pooled_url: str, database_url: str) -> None:
    with capture_logs() as logs:
        listening = asyncio.create_task(Notifications(pooled_url, "trips").hear(lambda: None))

        async def is_told() -> bool:
            return bool(logs)

        await eventually(is_told)
        listening.cancel()
    assert [line["event"] for line in logs] == ["notifications are not heard through a pooler"]
    heard = asyncio.Event()
    listening = asyncio.create_task(Notifications(database_url, "trips").hear(heard.set))
    await asyncio.wait_for(heard.wait(), PATIENCE.total_seconds())
    heard.clear()
    connection = await asyncpg.connect(database_url)
    await connection.execute("NOTIFY trips")
    await asyncio.wait_for(heard.wait(), PATIENCE.total_seconds())
    await connection.close()
    listening.cancel()
