"""Travel: the backend's tables and sample rows, for the demo and the tests; in production they are the backend's."""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Final, Protocol

SAMPLE_BOOKING_ID: Final = "cmq1bk0a7000108l4h3f1c9d2"
"""A confirmed hotel booking in Turkish lira, of a guest who reads Turkish."""

SAMPLE_USER_ID: Final = "cmq1us0a7000108l4a1yse0y1"
"""Its guest."""


class Connection(Protocol):
    """An asyncpg connection, or one from a pool."""

    async def execute(self, query: str, /) -> Any: ...


async def create_travel_tables(connection: Connection) -> None:
    """Create those of the tables and types that are missing, in one round trip."""
    await connection.execute(_sql("travel_tables.sql"))


async def add_sample_rows(connection: Connection) -> None:
    """Add those of the sample rows that are missing, in one round trip; a row that is there stays as it is."""
    await connection.execute(_sql("sample_rows.sql"))


def _sql(name: str) -> str:
    return (files("skycap.demo") / "sql" / name).read_text(encoding="utf-8")
