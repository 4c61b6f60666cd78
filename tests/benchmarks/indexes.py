"""The gain of ``skycap db indexes --apply``: the backend's busiest queries before and after, on a generated data set.

.venv/bin/python -m tests.benchmarks.indexes --help
"""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import asyncpg
import click

from skycap.demo.travel import create_travel_tables
from skycap.embedded import EmbeddedServers
from skycap.plugin import Plugin
from skycap.registry import Registry
from skycap.services.index_builder import IndexBuilder, Server
from skycap_travel.indexes import declare_indexes
from tests.benchmarks.tables import number, percentile, table

if TYPE_CHECKING:
    from skycap.services.database import Connection

CITIES = 80

# Of an entity's prices nine in ten are in lira, the others in euros: a lookup in euros has the others in its way.
_FILL = """
    INSERT INTO hotels (
        id, name, slug, description, city, region, address, stars, rating, "hotelType", "roomCount", "mainImage",
        "priceMin", "priceMax", "isActive", "updatedAt"
    )
    SELECT 'h' || n, 'Hotel ' || n, 'hotel-' || n, repeat('A quiet place by the sea. ', 20), 'City ' || n % {cities},
        'Region', 'Address ' || n, 1 + (n / {cities}) % 5, (random() * 10)::numeric(3, 1), 'RESORT', 100, 'image.jpg',
        100, 500, n % 20 > 0, now()
    FROM generate_series(1, {hotels}) AS n;

    INSERT INTO users (id, email, "updatedAt")
    SELECT 'u' || n, 'u' || n || '@example.com', now() FROM generate_series(1, {users}) AS n;

    INSERT INTO bookings (
        id, "userId", "bookingType", "totalAmount", "paymentMethod", "bookingReference", "metaData", "createdAt",
        "updatedAt"
    )
    SELECT 'b' || n, 'u' || 1 + floor(random() * {users})::int, 'HOTEL', 1000, 'CREDIT_CARD', 'BK-' || n,
        '{{"hotelName": "Hotel", "address": "Address"}}', now() - random() * INTERVAL '2 years', now()
    FROM generate_series(1, {bookings}) AS n;

    INSERT INTO price_history (id, "entityType", "entityId", price, currency, "createdAt")
    SELECT 'p' || n, 'HOTEL', 'h' || 1 + floor(random() * {entities})::int, 1000 + random() * 100,
        CASE WHEN random() < 0.9 THEN 'TRY' ELSE 'EUR' END, now() - random() * INTERVAL '2 years'
    FROM generate_series(1, {prices}) AS n;
    -- Some are sold in lira alone; who asks for euros has to be told so.
    UPDATE price_history SET currency = 'TRY' WHERE right("entityId", 1) IN ('0', '1', '2', '3', '4');
"""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How many rows there are."""

    hotels: int
    users: int
    bookings: int
    entities: int
    prices: int


@dataclass(frozen=True, kw_only=True)
class Query:
    """One of the backend's, and what it is asked with."""

    name: str
    sql: str
    parameters: Sequence[tuple[object, ...]]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """``plan`` names the nodes that read, ``blocks`` is what one execution touched."""

    milliseconds: float
    plan: str
    blocks: int


def queries(sizes: Sizes, count: int) -> list[Query]:
    chance = random.Random(7)  # noqa: S311 - the same questions before and after
    hotels = [(f"City {chance.randrange(CITIES)}", chance.randint(1, 5)) for _ in range(count)]
    users = [(f"u{chance.randint(1, sizes.users)}",) for _ in range(count)]
    entities = [f"h{chance.randint(1, sizes.entities)}" for _ in range(count)]
    price = """
        SELECT price, "createdAt" FROM price_history
        WHERE "entityType" = 'HOTEL' AND "entityId" = $1 AND currency = $2 ORDER BY "createdAt" DESC LIMIT 1
    """
    return [
        Query(
            name="hotels of a city with so many stars, best first",
            sql="""
                SELECT id, name, stars, rating, "priceMin", currency FROM hotels
                WHERE "isActive" AND city = $1 AND stars = $2 ORDER BY rating DESC LIMIT 20
            """,
            parameters=hotels,
        ),
        Query(
            name="a user's bookings, newest first",
            sql='SELECT * FROM bookings WHERE "userId" = $1 ORDER BY "createdAt" DESC LIMIT 20',
            parameters=users,
        ),
        Query(
            name="newest price in a currency that is rare there",
            sql=price,
            parameters=[(entity, "EUR") for entity in entities],
        ),
        Query(
            name="newest price in the entity's own currency",
            sql=price,
            parameters=[(entity, "TRY") for entity in entities],
        ),
    ]


async def _measure(connection: Connection, query: Query) -> Measured:
    statement = await connection.prepare(query.sql)
    took: list[float] = []
    for parameters in query.parameters:
        began = time.perf_counter()
        await statement.fetch(*parameters)
        took.append((time.perf_counter() - began) * 1000)
    explained = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query.sql}", *query.parameters[0])
    plan = json.loads(explained)[0]["Plan"]
    return Measured(
        milliseconds=percentile(took, 0.5),
        plan=", ".join(_readers(plan)),
        blocks=plan["Shared Hit Blocks"] + plan["Shared Read Blocks"],
    )


def _readers(node: Mapping[str, Any]) -> Iterator[str]:
    if "Scan" in node["Node Type"] or node["Node Type"] == "Sort":
        yield node["Node Type"] + (f" on {node['Index Name']}" if "Index Name" in node else "")
    for inner in cast("list[Mapping[str, Any]]", node.get("Plans", [])):
        yield from _readers(inner)


async def _run(sizes: Sizes, count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        servers = EmbeddedServers(Path(folder))
        await servers.start()
        connection = await asyncpg.connect(servers.database_url)
        try:
            await _compare(connection, servers.database_url, sizes, count)
        finally:
            await connection.close()
            await servers.stop()


async def _compare(connection: Connection, database_url: str, sizes: Sizes, count: int) -> None:
    await create_travel_tables(connection)
    await connection.execute(_FILL.format(cities=CITIES, **vars(sizes)))
    await connection.execute("VACUUM (ANALYZE)")
    asked = queries(sizes, count)
    before = [await _measure(connection, query) for query in asked]
    began = time.perf_counter()
    await _apply(database_url)
    seconds = time.perf_counter() - began
    await connection.execute("VACUUM (ANALYZE)")
    after = [await _measure(connection, query) for query in asked]
    _print(asked, before, after)
    click.echo(f"\nThe indexes were built in {seconds:.1f} s.")


async def _apply(database_url: str) -> None:
    registry = Registry()
    plugin = Plugin("travel")
    declare_indexes(plugin)
    registry.add(plugin, name="travel", origin="the benchmark")
    builder = IndexBuilder(Server(dsn=database_url), lock_timeout=timedelta(minutes=1), attempts=1)
    for index in registry.indexes():
        await builder.build(index)


def _print(asked: Sequence[Query], before: Sequence[Measured], after: Sequence[Measured]) -> None:
    pairs = list(zip(asked, before, after, strict=True))
    rows = [
        (
            *(query.name, number(old.milliseconds), number(new.milliseconds)),
            *(f"{1 - new.milliseconds / old.milliseconds:.0%}", f"{old.blocks:,}", f"{new.blocks:,}"),
        )
        for query, old, new in pairs
    ]
    click.echo(table(("p50 of", "ms before", "ms after", "less", "blocks before", "after"), rows))
    for query, old, new in pairs:
        click.echo(f"\n{query.name}\n  before: {old.plan}\n  after:  {new.plan}")


@click.command(context_settings={"show_default": True})
@click.option("--hotels", default=50_000)
@click.option("--users", default=20_000)
@click.option("--bookings", default=500_000)
@click.option("--entities", default=2_000, help="With prices.")
@click.option("--prices", default=2_000_000)
@click.option("--count", default=300, help="How often each query is asked, with other parameters each time.")
def main(count: int, **sizes: int) -> None:
    """Print p50, plans and touched blocks of each query before and after."""
    asyncio.run(_run(Sizes(**sizes), count))


if __name__ == "__main__":
    main()
