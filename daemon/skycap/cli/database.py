"""A way to skycap's own tables, for commands."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from skycap.cli.failures import told_address
from skycap.errors import ConfigurationError

if TYPE_CHECKING:
    from skycap.services.database import Connection, DatabasePool
    from skycap.settings import Settings


@asynccontextmanager
async def connected_database(settings: Settings) -> AsyncGenerator[DatabasePool]:
    """Raises ConfigurationError when there is none, or when it lacks a migration; a command applies none."""
    from skycap.services.database import DatabasePool

    address = settings.database.direct or settings.require_database()
    database = DatabasePool(
        dsn=address.dsn,
        size=2,
        connect_timeout=timedelta(seconds=settings.database.connect_timeout_seconds),
        pooled=address.pgbouncer,
        prepare=_check_tables,
    )
    try:
        with told_address("database", address):
            yield database
    finally:
        await database.close()


async def _check_tables(connection: Connection) -> None:
    from skycap.services.migrations import pending

    missing = await pending(connection)
    if missing:
        raise ConfigurationError(
            f"the database lacks {', '.join(missing)} in schema skycap: run `skycap db migrate`, or start the daemon"
        )
