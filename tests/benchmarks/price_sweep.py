"""The sweep of the price alerts: time, queries and memory, beside the backend's way of asking once for every alert.

.venv/bin/python -m tests.benchmarks.price_sweep --help
.venv/bin/python -m tests.benchmarks.price_sweep --alerts 1000000 --history 50000000 --entities 100000 --folder /var/tmp
"""

from __future__ import annotations

import asyncio
import resource
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import click

from skycap.context import Database
from skycap.demo.travel import create_travel_tables
from skycap.embedded import EmbeddedServers
from skycap.services.database import DatabasePool
from skycap.services.migrations import migrate
from skycap.testing import perform
from skycap_travel.price_sweep import CheckPriceAlerts, PriceSweepSettings, check_price_alerts
from tests.benchmarks.tables import number, table

T = TypeVar("T")

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
_MEBIBYTE_OF_KIBIBYTES = 1024

_USERS = """
    INSERT INTO users (id, email, "updatedAt")
    SELECT 'user-' || n, 'user-' || n || '@example.com', '2026-01-01' FROM generate_series(0, $1::bigint - 1) AS n
"""

# As time goes on, all entities get prices in turn: the rows of one are far apart, and the newest lie together.
_HISTORY = """
    INSERT INTO price_history (id, "entityType", "entityId", price, "createdAt")
    SELECT 'price-' || lpad(n::text, 12, '0'), (ARRAY['HOTEL', 'FLIGHT', 'TOUR'])[1 + n % $2 % 3],
           'entity-' || lpad((n % $2)::text, 9, '0'), 950 + n * 7919 % 100,
           TIMESTAMP '2026-11-28 11:00' - ($1 - n) * INTERVAL '1 millisecond'
      FROM generate_series(0, $1::bigint - 1) AS n
"""

# A target of 1 is never reached, one of a million always. Those in euros have no price to compare with, and cost most:
# all rows of their entity are looked at.
_ALERTS = """
    INSERT INTO price_alerts (id, "userId", "entityType", "entityId", "entityName", "targetPrice", "currentPrice",
        currency, "priceDropPercentage", "updatedAt")
    SELECT 'alert-' || md5(n::text), 'user-' || n % $2, (ARRAY['HOTEL', 'FLIGHT', 'TOUR'])[1 + entity % 3],
           'entity-' || lpad(entity::text, 9, '0'), 'Entity ' || entity,
           CASE WHEN n % 1000 < $4 THEN 1000000 ELSE 1 END, 1000,
           CASE WHEN n % 1000 >= 1000 - $5::bigint THEN 'EUR' ELSE 'TRY' END, 10, '2026-01-01'
      FROM generate_series(0, $1::bigint - 1) AS n
     CROSS JOIN LATERAL (SELECT n * 48271 % $3::bigint AS entity) AS of
"""

_INDEXES = """
    SELECT indexdef FROM pg_indexes
    WHERE tablename = 'price_history' AND schemaname = 'public' AND indexname <> 'price_history_pkey'
"""

_NEWEST = """
    SELECT price FROM price_history WHERE "entityType" = $1 AND "entityId" = $2 AND currency = $3
    ORDER BY "createdAt" DESC LIMIT 1
"""


@dataclass(frozen=True, kw_only=True)
class Size:
    """Of the tables; ``due`` and ``foreign`` are how many of a thousand alerts."""

    alerts: int
    history: int
    entities: int
    users: int
    due: int
    foreign: int


class CountedDatabase:
    """Counts the statements that go to the server."""

    def __init__(self, database: Database, counts: list[int] | None = None) -> None:
        self._database = database
        self._counts = counts if counts is not None else []

    @property
    def statements(self) -> int:
        return len(self._counts)

    @property
    def fresh(self) -> Database:
        return CountedDatabase(self._database.fresh, self._counts)

    async def fetch(self, query: str, *args: object) -> Sequence[Mapping[str, Any]]:
        self._counts.append(1)
        return await self._database.fetch(query, *args)

    async def fetchrow(self, query: str, *args: object) -> Mapping[str, Any] | None:
        self._counts.append(1)
        return await self._database.fetchrow(query, *args)

    async def fetchval(self, query: str, *args: object) -> Any:
        self._counts.append(1)
        return await self._database.fetchval(query, *args)

    async def execute(self, query: str, *args: object) -> str:
        self._counts.append(1)
        return await self._database.execute(query, *args)

    def stream(self, query: str, *args: object, batch: int = 1000) -> Any:
        raise NotImplementedError("the sweep streams nothing")

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Database]:
        self._counts += [1, 1]  # its begin and its end
        async with self._database.transaction() as transaction:
            yield CountedDatabase(transaction, self._counts)

    async def in_transaction(self, function: Callable[[Database], Awaitable[T]]) -> T:
        async with self.transaction() as transaction:
            return await function(transaction)


async def fill(connection: asyncpg.Connection[asyncpg.Record], size: Size) -> None:
    """Without logging, and with indexes that are made afterwards: for tens of millions of rows."""
    await create_travel_tables(connection)
    await migrate(connection)
    await connection.execute("SET maintenance_work_mem = '512MB'")
    indexes = [row["indexdef"] for row in await connection.fetch(_INDEXES)]
    await connection.execute("ALTER TABLE price_history SET UNLOGGED, DROP CONSTRAINT price_history_pkey")
    for index in indexes:
        name = index.split(" INDEX ")[1].split(" ON ")[0]
        await connection.execute(f"DROP INDEX {name}")
    await connection.execute(_USERS, size.users, timeout=None)
    await connection.execute(_HISTORY, size.history, size.entities, timeout=None)
    await connection.execute(_ALERTS, size.alerts, size.users, size.entities, size.due, size.foreign, timeout=None)
    await connection.execute("ALTER TABLE price_history ADD PRIMARY KEY (id)", timeout=None)
    for index in indexes:
        await connection.execute(index, timeout=None)
    await connection.execute("VACUUM (ANALYZE) price_history, price_alerts, users", timeout=None)


async def one_by_one(pool: DatabasePool, sample: int) -> float:
    """Seconds for each alert, when each is asked about by itself; nothing is written, which is left to the sweep."""
    alerts = await pool.fetch(
        """
        SELECT "entityType", "entityId", currency, "targetPrice" FROM price_alerts WHERE status = 'ACTIVE'
        ORDER BY md5(id) LIMIT $1
        """,
        sample,
    )
    began = time.perf_counter()
    for alert in alerts:
        await pool.fetchval(_NEWEST, alert["entityType"], alert["entityId"], alert["currency"])
    return (time.perf_counter() - began) / len(alerts)


async def sweep(pool: DatabasePool, size: Size, page: int) -> tuple[float, CountedDatabase]:
    database = CountedDatabase(pool)
    began = time.perf_counter()
    done = await perform(
        check_price_alerts, CheckPriceAlerts(), settings=PriceSweepSettings(page=page), db=database, now=NOW
    )
    seconds = time.perf_counter() - began
    expected = sum(n % 1000 < size.due for n in range(size.alerts % 1000)) + size.alerts // 1000 * size.due
    if done.result is None or (done.result["seen"], done.result["notified"]) != (size.alerts, expected):
        raise SystemExit(f"the sweep found {done}, and not {expected} of {size.alerts}")
    return seconds, database


async def measure(size: Size, *, page: int, sample: int, folder: Path | None) -> None:
    with tempfile.TemporaryDirectory(prefix="skycap-sweep-", dir=folder) as data:
        async with EmbeddedServers(Path(data)) as servers:
            connection = await asyncpg.connect(servers.database_url, command_timeout=None)
            began = time.perf_counter()
            await fill(connection, size)
            await connection.close()
            click.echo(f"{size.alerts:,} alerts, {size.history:,} prices of {size.entities:,} entities; ", nl=False)
            click.echo(f"filled in {time.perf_counter() - began:.0f} s")
            pool = DatabasePool(dsn=servers.database_url, size=2, statement_timeout=timedelta(minutes=5))
            each = await one_by_one(pool, min(sample, size.alerts))
            before = _memory()
            first, counted = await sweep(pool, size, page)
            again, _ = await _swept_again(pool, size, page)
            await pool.close()
    rows = [
        ("one query for each alert", number(each * size.alerts), f"{size.alerts:,}", number(each * 1e6), "1.00"),
        (
            "the sweep",
            *(number(first), f"{counted.statements:,}", number(first / size.alerts * 1e6)),
            number(each * size.alerts / first),
        ),
        (
            "the same with nothing due",
            *(number(again), "", number(again / size.alerts * 1e6), number(each * size.alerts / again)),
        ),
    ]
    click.echo(table(("", "seconds", "queries", "µs an alert", "times as fast"), rows))
    click.echo(f"memory of this process: {before} MiB before, {_memory()} MiB at most")


async def _swept_again(pool: DatabasePool, size: Size, page: int) -> tuple[float, CountedDatabase]:
    """What was due is triggered; the others are looked at once more."""
    database = CountedDatabase(pool)
    began = time.perf_counter()
    await perform(check_price_alerts, CheckPriceAlerts(), settings=PriceSweepSettings(page=page), db=database, now=NOW)
    return time.perf_counter() - began, database


def _memory() -> int:
    """The most that this process has ever had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // _MEBIBYTE_OF_KIBIBYTES


@click.command(context_settings={"show_default": True})
@click.option("--alerts", default=20_000)
@click.option("--history", default=200_000, help="Rows of price_history.")
@click.option("--entities", default=2_000, help="That the alerts and prices are about.")
@click.option("--users", default=10_000)
@click.option("--due", default=10, help="Of a thousand alerts.")
@click.option("--foreign", default=10, help="Of a thousand alerts: in a currency in which there are no prices.")
@click.option("--page", default=4_000, help="Alerts that the sweep looks at with one query.")
@click.option("--sample", default=2_000, help="Alerts that are asked about one by one.")
@click.option("--folder", type=click.Path(path_type=Path, exists=True), help="Where the servers keep their data.")
def main(**options: Any) -> None:
    """Measure the sweep, with servers of its own. 50,000,000 prices take some 15 GB."""
    page, sample, folder = options.pop("page"), options.pop("sample"), options.pop("folder")
    asyncio.run(measure(Size(**options), page=page, sample=sample, folder=folder))


if __name__ == "__main__":
    main()
