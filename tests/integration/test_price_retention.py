"""Partitions made ahead and old prices taken away, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import pytest

from skycap import JobState
from skycap.services.partitions import Partitioning
from skycap.testing import Performed, perform
from skycap_travel.price_retention import PriceRetentionSettings, TendPriceHistory, tend_price_history
from tests.support.partition_crash import fill
from tests.support.price_alerts import NOW, Prices, prices_at

ROWS = 4_000
"""Forty-five minutes apart: back to 26 July."""


@pytest.fixture
async def prices(database_url: str) -> AsyncGenerator[Prices]:
    async with prices_at(database_url) as tables:
        await fill(tables.connection, ROWS)
        yield tables


async def tend(prices: Prices, **settings: Any) -> Performed:
    done = await perform(
        tend_price_history,
        TendPriceHistory(),
        settings=PriceRetentionSettings(pause_ms=0, **settings),
        db=prices.pool,
        now=NOW,
    )
    assert done.state is JobState.COMPLETED, done.outcome
    return done


async def convert(prices: Prices) -> None:
    work = Partitioning(prices.connection, "price_history", batch=ROWS, pause=timedelta(0))
    async for _ in work.apply("createdAt", now=NOW):
        pass


async def partitions(prices: Prices) -> list[str]:
    rows = await prices.connection.fetch(
        """
        SELECT substr(inhrelid::regclass::text, 15) AS name FROM pg_inherits
        WHERE inhparent = 'price_history'::regclass ORDER BY 1
        """
    )
    return [row["name"] for row in rows]


async def test_without_a_retention_nothing_is_taken_away(prices: Prices) -> None:
    assert (await tend(prices)).result == {"deleted": 0}
    await convert(prices)
    assert (await tend(prices)).result == {"made": 0, "detached": 0}
    assert await prices.connection.fetchval("SELECT count(*) FROM price_history") == ROWS


async def test_old_rows_of_a_plain_table_are_deleted_in_batches(prices: Prices) -> None:
    done = await tend(prices, keep_months=2, batch=100)
    left = await prices.connection.fetchrow('SELECT count(*) AS rows, min("createdAt") AS oldest FROM price_history')
    assert left is not None
    assert done.result == {"deleted": ROWS - left["rows"]}
    assert f"{left['oldest']:%Y-%m-%d}" == "2026-09-01"
    assert len(done.notes) == done.result["deleted"] // 100


async def test_partitions_are_made_ahead_once(prices: Prices) -> None:
    await convert(prices)
    assert (await tend(prices, months_ahead=5)).result == {"made": 2, "detached": 0}
    assert (await tend(prices, months_ahead=5)).result == {"made": 0, "detached": 0}
    assert (await partitions(prices))[-4:] == ["p2027_01", "p2027_02", "p2027_03", "p2027_04"]
    indexes = "SELECT count(*) FROM pg_indexes WHERE tablename = $1"
    made = await prices.connection.fetchval(indexes, "price_history_p2027_04")
    assert made == await prices.connection.fetchval(indexes, "price_history_p2026_11") == 4


@pytest.mark.parametrize("has_default", [True, False])
async def test_old_partitions_are_detached_and_kept_unless_they_are_to_be_dropped(
    prices: Prices, has_default: bool
) -> None:
    await convert(prices)
    if not has_default:
        await prices.connection.execute("DROP TABLE price_history_default")
    assert (await tend(prices, keep_months=3)).result == {"made": 0, "detached": 1}
    assert await prices.connection.fetchval("SELECT count(*) > 0 FROM price_history_p2026_07")
    assert "p2026_07" not in await partitions(prices)
    assert (await tend(prices, keep_months=2, drop_detached=True)).result == {"made": 0, "detached": 1}
    assert await prices.connection.fetchval("SELECT to_regclass('price_history_p2026_08') IS NULL")
    assert await prices.connection.fetchval('SELECT min("createdAt")::date::text FROM price_history') == "2026-09-01"


async def test_a_table_that_is_partitioned_otherwise_or_missing_is_left_alone(prices: Prices) -> None:
    await prices.connection.execute("DROP TABLE price_history")
    settings = PriceRetentionSettings(keep_months=1)
    done = await perform(tend_price_history, TendPriceHistory(), settings=settings, db=prices.pool, now=NOW)
    assert done.state is JobState.CANCELLED
    assert "no table price_history" in str(done.outcome)
    await prices.connection.execute("CREATE TABLE price_history (id TEXT) PARTITION BY HASH (id)")
    done = await perform(tend_price_history, TendPriceHistory(), settings=settings, db=prices.pool, now=NOW)
    assert done.state is JobState.CANCELLED
    assert "HASH (id)" in str(done.outcome)
