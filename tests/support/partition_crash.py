"""A backend that writes while its table is being partitioned, and that knows afterwards what the table must hold."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import asyncpg

NEWEST = datetime.fromisoformat("2026-11-28T12:00:00")

_FILL = """
    INSERT INTO price_history (id, "entityType", "entityId", price, metadata, "createdAt")
    SELECT 'p' || lpad(n::text, 8, '0'), 'HOTEL', 'h' || n % 20, n, jsonb_build_object('n', n),
           TIMESTAMP '2026-11-28 12:00' - n * INTERVAL '45 minutes'
    FROM generate_series(1, $1::integer) AS n
"""


async def fill(connection: asyncpg.Connection[asyncpg.Record], rows: int) -> None:
    await connection.execute(_FILL, rows)


@dataclass(kw_only=True)
class Writer:
    """Inserts, changes, moves between months and deletes rows of its own, in transactions of which some are undone.

    ``rows`` is what of them must be there: price and time by id.
    """

    database_url: str
    name: str
    chance: random.Random
    rows: dict[str, tuple[int, datetime]] = field(default_factory=dict[str, tuple[int, datetime]])
    written: int = 0
    _is_stopping: bool = False

    async def adopt(self, connection: asyncpg.Connection[asyncpg.Record], share: int, of: int) -> None:
        """Take every ``of``-th row of the table for its own."""
        found = await connection.fetch(
            'SELECT id, price::int AS price, "createdAt" AS at FROM price_history ORDER BY id'
        )
        self.rows |= {row["id"]: (row["price"], row["at"]) for row in found[share::of]}

    async def work(self) -> None:
        """Until it is told to stop, after the transaction that it is in."""
        connection = await asyncpg.connect(self.database_url)
        try:
            while not self._is_stopping:
                await self._transact(connection)
        finally:
            await connection.close()

    def stop(self) -> None:
        self._is_stopping = True

    async def _transact(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        rows = dict(self.rows)
        transaction = connection.transaction()
        await transaction.start()
        for _ in range(self.chance.randint(1, 3)):
            await self._change(connection, rows)
        if self.chance.random() < 0.2:
            await transaction.rollback()
            return
        await transaction.commit()
        self.rows = rows
        self.written += 1

    async def _change(
        self, connection: asyncpg.Connection[asyncpg.Record], rows: dict[str, tuple[int, datetime]]
    ) -> None:
        price = self.chance.randint(1, 10_000)
        at = NEWEST - timedelta(minutes=self.chance.randint(0, 100_000))
        verb = self.chance.choice(("insert", "update", "move", "delete")) if rows else "insert"
        if verb == "insert":
            row_id = f"{self.name}-{self.chance.getrandbits(60):x}"
            await connection.execute(
                """
                INSERT INTO price_history (id, "entityType", "entityId", price, "createdAt")
                VALUES ($1, 'HOTEL', 'h1', $2, $3)
                """,
                *(row_id, price, at),
            )
            rows[row_id] = (price, at)
            return
        row_id = self.chance.choice(list(rows))
        if verb == "delete":
            await connection.execute("DELETE FROM price_history WHERE id = $1", row_id)
            del rows[row_id]
        elif verb == "update":
            await connection.execute("UPDATE price_history SET price = $2 WHERE id = $1", row_id, price)
            rows[row_id] = (price, rows[row_id][1])
        else:
            await connection.execute(
                'UPDATE price_history SET price = $2, "createdAt" = $3 WHERE id = $1', row_id, price, at
            )
            rows[row_id] = (price, at)


@asynccontextmanager
async def writing(
    connection: asyncpg.Connection[asyncpg.Record], database_url: str, count: int
) -> AsyncGenerator[list[Writer]]:
    """So many writers at work on rows of their own, all of the table's among them, until the block ends."""
    writers = [
        Writer(database_url=database_url, name=f"w{number}", chance=random.Random(number))  # noqa: S311 - no secret
        for number in range(count)
    ]
    for number, writer in enumerate(writers):
        await writer.adopt(connection, number, count)
    async with asyncio.TaskGroup() as group:
        for writer in writers:
            group.create_task(writer.work())
        try:
            yield writers
        finally:
            for writer in writers:
                writer.stop()


async def contents(connection: asyncpg.Connection[asyncpg.Record], table: str) -> dict[str, tuple[int, datetime]]:
    rows = await connection.fetch(f'SELECT id, price::int AS price, "createdAt" AS at FROM {table}')  # noqa: S608
    found = {row["id"]: (row["price"], row["at"]) for row in rows}
    assert len(found) == len(rows), "an id is there twice"
    return found
