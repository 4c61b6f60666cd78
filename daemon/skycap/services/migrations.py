"""Migrations: brings the schema ``skycap`` up to this code; nothing outside that schema is touched.

The numbered files in ``sql/`` are applied in order, each in a transaction of its own. A database that is newer than
this code is fine: in a rolling upgrade the old daemon works on beside the new one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.resources import files
from typing import TYPE_CHECKING

import asyncpg

from skycap.errors import ConfigurationError

if TYPE_CHECKING:
    from skycap.context import Database
    from skycap.services.database import Connection

_LOCK = int.from_bytes(b"skycap", "big")

_LONGEST = timedelta(hours=1)
"""Of one migration; without it, asyncpg would apply the time limit of the connection, which is meant for jobs."""

# lock_timeout also limits the wait for another daemon's migration. statement_timeout is meant for jobs, not for these.
_SETTINGS = """
    SET LOCAL search_path = skycap, pg_catalog;
    SET LOCAL lock_timeout = '10s';
    SET LOCAL statement_timeout = 0;
"""
_FOUNDATION = """
    CREATE SCHEMA IF NOT EXISTS skycap;
    CREATE TABLE IF NOT EXISTS skycap.migrations (
        name       TEXT PRIMARY KEY,
        sha256     TEXT NOT NULL,
        applied_at TIMESTAMPTZ NOT NULL DEFAULT now()
    );
"""
# to_regclass would do, were it not for its cache: whoever has waited for the lock would still find no such schema.
_IS_FOUNDED = "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = 'skycap' AND tablename = 'migrations')"


@dataclass(frozen=True, kw_only=True)
class _Migration:
    name: str
    sql: str = field(repr=False)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


async def migrate(connection: Connection) -> list[str]:
    """Apply what is missing and return its names, in order.

    Several daemons may do so at once: each migration is applied by one of them. Raises ConfigurationError when the role
    may not, or when a file was changed after it was applied.
    """
    missing = set(await pending(connection))
    with _permitted():
        return [
            migration.name
            for migration in _migrations()
            if migration.name in missing and await _apply(connection, migration)
        ]


def migrations_over(dsn: str, *, connect_timeout: timedelta) -> Callable[[Connection], Awaitable[list[str]]]:
    """``migrate`` for the connections of a pool that leads through a pooler: by the server's own address, ``dsn``."""

    async def migrate_directly(_: Connection) -> list[str]:
        connection = await asyncpg.connect(dsn, timeout=connect_timeout.total_seconds())
        try:
            return await migrate(connection)
        finally:
            connection.terminate()

    return migrate_directly


async def pending(connection: Connection | Database) -> list[str]:
    """The names of those that ``migrate`` would apply. Needs no more than reading ``skycap.migrations``."""
    with _permitted():
        applied = await _applied(connection)
    for migration in _migrations():
        recorded = applied.get(migration.name, migration.sha256)
        if recorded != migration.sha256:
            raise ConfigurationError(
                f"migration {migration.name} was changed after it was applied: its sha256 is {migration.sha256[:12]}, "
                f"skycap.migrations has {recorded[:12]}; install an unchanged skycap (a change belongs in a new file)"
            )
    return [migration.name for migration in _migrations() if migration.name not in applied]


async def _apply(connection: Connection, migration: _Migration) -> bool:
    """Whether it was applied by us, and not by somebody else meanwhile."""
    async with connection.transaction():
        await connection.execute(_SETTINGS)
        # Held until the transaction ends, so that it also works through PgBouncer. No migration may use CREATE INDEX
        # CONCURRENTLY (nor can it, in a transaction): it would wait for those who wait for this lock.
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        if migration.name in await _applied(connection):
            return False
        if not await connection.fetchval(_IS_FOUNDED):
            await connection.execute(_FOUNDATION)
        await connection.execute(migration.sql, timeout=_LONGEST.total_seconds())
        await connection.execute(
            "INSERT INTO skycap.migrations (name, sha256) VALUES ($1, $2)", migration.name, migration.sha256
        )
        return True


async def _applied(connection: Connection | Database) -> dict[str, str]:
    if not await connection.fetchval(_IS_FOUNDED):
        return {}
    rows = await connection.fetch("SELECT name, sha256 FROM skycap.migrations")
    return {row["name"]: row["sha256"] for row in rows}


def _migrations() -> list[_Migration]:
    found = files("skycap.services").joinpath("sql").iterdir()
    scripts = [_Migration(name=file.name, sql=file.read_text("utf-8")) for file in found if file.name.endswith(".sql")]
    return sorted(scripts, key=lambda migration: migration.name)


@contextmanager
def _permitted() -> Generator[None]:
    try:
        yield
    except asyncpg.InsufficientPrivilegeError as error:
        raise ConfigurationError(
            f"the database role may not set up the schema skycap ({error.args[0]}): as an owner, "
            "run `GRANT CREATE ON DATABASE … TO …` (those of its URL), or `skycap db migrate` with an owner's URL"
        ) from error
