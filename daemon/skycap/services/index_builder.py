"""IndexBuilder: creates indexes while the backend goes on reading and writing, one at a time for the whole fleet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg

from skycap.backoff import Backoff
from skycap.errors import ConfigurationError, Unavailable
from skycap.index import Index, quoted
from skycap.services.indexes import IndexStanding, IndexState, standing

if TYPE_CHECKING:
    from skycap.services.database import Connection

_LOCK = int.from_bytes(b"skyindex", "big")

_LOOK_AGAIN = timedelta(milliseconds=500)

_BETWEEN_ATTEMPTS = Backoff(first=timedelta(seconds=1), factor=2, longest=timedelta(seconds=30), attempts=1)

_PASSING = (
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.QueryCanceledError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)
"""What may be over at the next attempt; an index that was not finished is then dropped and built anew."""

# Of other roles' sessions only who may read all statistics sees what they build.
_PROGRESS = """
    SELECT p.phase, p.blocks_total, p.blocks_done, p.tuples_total, p.tuples_done, p.lockers_total, p.lockers_done,
           p.current_locker_pid AS locker, a.application_name AS locker_name,
           extract(EPOCH FROM clock_timestamp() - a.xact_start)::float8 AS locker_seconds
    FROM pg_stat_progress_create_index AS p
    LEFT JOIN pg_stat_activity AS a ON a.pid = p.current_locker_pid
    JOIN pg_class AS c ON c.oid = p.index_relid
    WHERE p.datname = current_database() AND c.relname = $1
"""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What is going on with one index; ``fraction`` is how much of this phase is done, where that is known."""

    index: Index
    what: str
    fraction: float | None = None

    def __str__(self) -> str:
        percent = "" if self.fraction is None else f" {self.fraction:.0%}"
        return f"{self.index.name}: {self.what}{percent}"


@dataclass(frozen=True, kw_only=True)
class Server:
    """How to reach the server itself: through a transaction pooler no session would keep its lock."""

    dsn: str
    connect_timeout: timedelta = timedelta(seconds=5)
    schema: str | None = None

    @asynccontextmanager
    async def connected(self, **settings: str) -> AsyncGenerator[Connection]:
        """Raises Unavailable; statements take as long as they take."""
        settings |= {"application_name": "skycap db indexes", "statement_timeout": "0"}
        if self.schema is not None:
            settings["search_path"] = quoted(self.schema)
        try:
            connection = await asyncpg.connect(
                self.dsn,
                timeout=self.connect_timeout.total_seconds(),
                server_settings=settings,
                # A table's definition changes here while we look.
                statement_cache_size=0,
            )
        except (OSError, asyncpg.PostgresError) as error:
            raise Unavailable(
                "database", f"{type(error).__name__}; is it running, and is its address right?"
            ) from error
        try:
            yield connection
        finally:
            with suppress(*_PASSING):
                await connection.close(timeout=1)


class IndexBuilder:
    """Builds by CREATE INDEX CONCURRENTLY on one connection, and watches from a second one.

    ``lock_timeout`` limits each wait for other transactions; a build that met one of them is tried again, ``attempts``
    times in all. Killed, the command leaves the server building; cut off in the midst of it, an invalid index stays.
    The next command waits for the one, and builds the other anew. ``tell`` is called with what is going on.
    """

    def __init__(
        self, server: Server, *, lock_timeout: timedelta, attempts: int, tell: Callable[[Step], None] = lambda _: None
    ) -> None:
        self._server = server
        self._lock_timeout = lock_timeout
        self._attempts = attempts
        self._tell = tell

    async def build(self, index: Index) -> IndexStanding:
        """How it stands at the end: PRESENT, or why not.

        Raises Unavailable when the last attempt failed, and ConfigurationError for a role that does not own the table.
        """
        for attempt in range(1, self._attempts + 1):
            try:
                return await self._try(index)
            except (Unavailable, *_PASSING) as error:
                if attempt == self._attempts:
                    raise Unavailable("database", f"{index.name}: {_reason(error)}; give the command again") from error
                self._tell(Step(index=index, what=f"attempt {attempt} failed ({_reason(error)})"))
                await asyncio.sleep(_BETWEEN_ATTEMPTS.wait(attempt).total_seconds())
        raise AssertionError("unreachable: attempts is at least 1")

    async def _try(self, index: Index) -> IndexStanding:
        limit = f"{round(self._lock_timeout / timedelta(milliseconds=1))}ms"
        async with self._server.connected(lock_timeout=limit) as builder, self._server.connected() as watcher:
            await self._our_turn(builder, watcher, index)
            found = await standing(builder, index)
            while found.state is IndexState.BUILDING:
                await self._show_progress(watcher, index, otherwise="another session builds it")
                await asyncio.sleep(_LOOK_AGAIN.total_seconds())
                found = await standing(builder, index)
            if found.state in {IndexState.MISSING, IndexState.INVALID}:
                await self._create(builder, watcher, index, is_broken=found.state is IndexState.INVALID)
                found = await standing(builder, index)
            return found

    async def _our_turn(self, builder: Connection, watcher: Connection, index: Index) -> None:
        """The lock is the session's that builds: it is held until the server is done, even if this process is killed.

        To wait for it in the server would be a transaction, for whose end the one who holds it would wait.
        """
        while not await builder.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
            await self._show_progress(watcher, index, otherwise="another skycap is building")
            await asyncio.sleep(_LOOK_AGAIN.total_seconds())

    async def _create(self, builder: Connection, watcher: Connection, index: Index, *, is_broken: bool) -> None:
        try:
            if is_broken:
                self._tell(Step(index=index, what="drops what an earlier build left behind"))
                await self._watched(
                    builder.execute(f"DROP INDEX CONCURRENTLY {await _path(builder, index)}"), watcher, index
                )
            self._tell(Step(index=index, what=f"is created on {index.table}"))
            await self._watched(builder.execute(index.statement), watcher, index)
            if index.is_on_expression:
                await self._watched(builder.execute(f"ANALYZE {quoted(index.table)}"), watcher, index)
        except asyncpg.InsufficientPrivilegeError as error:
            raise ConfigurationError(
                f"{index.name}: the database role may not create it ({error.args[0]}); run what `skycap db indexes "
                "--show` prints as the owner of the table"
            ) from error

    async def _watched(self, statement: Any, watcher: Connection, index: Index) -> None:
        running = asyncio.ensure_future(statement)
        try:
            while not running.done():
                await asyncio.wait([running], timeout=_LOOK_AGAIN.total_seconds())
                if not running.done():
                    await self._show_progress(watcher, index, otherwise="builds")
        finally:
            running.cancel()  # to an end that was reached, it does nothing
            with suppress(asyncio.CancelledError):
                await running

    async def _show_progress(self, watcher: Connection, index: Index, *, otherwise: str) -> None:
        row = await watcher.fetchrow(_PROGRESS, index.name)
        self._tell(Step(index=index, what=otherwise) if row is None else _step(index, row))


async def _path(connection: Connection, index: Index) -> str:
    """The index in its table's schema, wherever the search path leads."""
    schema = await connection.fetchval(
        "SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = to_regclass($1)", quoted(index.table)
    )
    return f"{schema}.{index.name}"


def _step(index: Index, row: asyncpg.Record) -> Step:
    if row["locker"]:
        seconds = round(row["locker_seconds"] or 0)
        name = f" ({row['locker_name']})" if row["locker_name"] else ""
        return Step(index=index, what=f"{row['phase']}: session {row['locker']}{name}, {seconds} s old, is in the way")
    for what in ("tuples", "blocks", "lockers"):
        if row[f"{what}_total"]:
            return Step(index=index, what=row["phase"], fraction=row[f"{what}_done"] / row[f"{what}_total"])
    return Step(index=index, what=row["phase"])


def _reason(error: BaseException) -> str:
    """In words of our own where the server's may name data; its SQLSTATE tells the rest."""
    if isinstance(error, asyncpg.LockNotAvailableError):
        return "another transaction was in the way for longer than the lock timeout"
    if isinstance(error, asyncpg.PostgresError):
        return f"{type(error).__name__} {error.sqlstate}"
    return str(error) if isinstance(error, Unavailable) else f"the connection was lost ({type(error).__name__})"
