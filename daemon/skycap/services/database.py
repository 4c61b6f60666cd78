"""DatabasePool: the travel database in asyncpg's words, connected when first used and again after it was away."""

from __future__ import annotations

import asyncio
import os
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import structlog

from skycap.context import Database, Log
from skycap.errors import ConfigurationError, Unavailable

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]

_log: Log = structlog.get_logger(__name__)

_PATIENCE = timedelta(seconds=5)
"""How much longer than statement_timeout we wait: the server's own limit is worth more, but a dead peer has none."""

_IDLE_IN_TRANSACTION = timedelta(minutes=1)
"""A transaction left open that long keeps rows locked and tables from being vacuumed; the server ends it."""

_STATEMENT_SHOWN = 200

_ASYNCPG_FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)

_REASONS = {
    "08P01": "the server refused the protocol; PgBouncer needs ignore_startup_parameters = "
    "statement_timeout, lock_timeout, idle_in_transaction_session_timeout",
    "25006": "the server is read-only: a standby, or failing over",
    "3D000": "there is no database of this name",
    "40001": "transactions collided and this one was undone",
    "40P01": "a deadlock was resolved by undoing this transaction",
    "53100": "the server's disk is full",
    "53200": "the server is out of memory",
    "53300": "the server has no connection left",
    "55P03": "a lock was not free within lock_timeout",
    "57014": "the statement took longer than statement_timeout",
    "57P01": "the server is shutting down",
    "57P02": "the server crashed and starts again",
    "57P03": "the server is starting or recovering",
}
_CLASSES = {
    "08": "the connection was lost",
    "28": "the server refused the log-in",
    "53": "the server is short of something",
    "57P": "the server ended the connection",
}


class _Queries(ABC):
    """asyncpg's words on whatever connection is lent."""

    def __init__(self, slow_query: timedelta) -> None:
        self._slow_query = slow_query

    @abstractmethod
    def _connection(self) -> AbstractAsyncContextManager[Connection]: ...

    @property
    def fresh(self) -> Database:
        return self

    async def fetch(self, query: str, *args: object) -> list[dict[str, Any]]:
        async with self._running(query) as connection:
            return [dict(row.items()) for row in await connection.fetch(query, *args)]

    async def fetchrow(self, query: str, *args: object) -> dict[str, Any] | None:
        async with self._running(query) as connection:
            row = await connection.fetchrow(query, *args)
            return None if row is None else dict(row.items())

    async def fetchval(self, query: str, *args: object) -> Any:
        async with self._running(query) as connection:
            return await connection.fetchval(query, *args)

    async def execute(self, query: str, *args: object) -> str:
        async with self._running(query) as connection:
            return await connection.execute(query, *args)

    async def stream(self, query: str, *args: object, batch: int = 1000) -> AsyncGenerator[dict[str, Any]]:
        async with self._connection() as connection:
            with _reaching(connection):
                async with connection.transaction():
                    async for row in connection.cursor(query, *args, prefetch=batch):
                        yield dict(row.items())

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[DatabaseTransaction]:
        """The same words within one transaction, or one savepoint of it; an exception undoes it.

        When Unavailable comes out of its end, the commit may or may not have reached the server.
        """
        async with self._connection() as connection:
            transaction = connection.transaction()
            with _reaching(connection):
                await transaction.start()
            try:
                yield DatabaseTransaction(connection, self._slow_query)
            except BaseException:
                # A connection that is gone has been rolled back by its server; what went wrong is what is raised.
                with suppress(*_ASYNCPG_FAILURES):
                    await transaction.rollback()
                raise
            with _reaching(connection):
                await transaction.commit()

    @asynccontextmanager
    async def _running(self, query: str) -> AsyncGenerator[Connection]:
        async with self._connection() as connection:
            started = time.perf_counter()
            try:
                with _reaching(connection):
                    yield connection
            finally:
                self._report(query, timedelta(seconds=time.perf_counter() - started))

    def _report(self, query: str, duration: timedelta) -> None:
        if duration > self._slow_query:
            statement = " ".join(query.split())[:_STATEMENT_SHOWN]
            _log.warning("slow query", statement=statement, duration_ms=round(duration / timedelta(milliseconds=1)))


class DatabaseTransaction(_Queries):
    """A transaction that is under way; its own ``transaction()`` is a savepoint."""

    def __init__(self, connection: Connection, slow_query: timedelta) -> None:
        super().__init__(slow_query)
        self._lent = connection

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[Connection]:
        yield self._lent


class _Stateless(_Queries):
    """See DatabasePool.stateless."""

    def __init__(self, lend: Callable[[], AbstractAsyncContextManager[Connection]], slow_query: timedelta) -> None:
        super().__init__(slow_query)
        self._lend = lend

    def _connection(self) -> AbstractAsyncContextManager[Connection]:
        return self._lend()


class DatabasePool(_Queries):
    """See skycap.context.Database. Nothing is connected before the first call.

    ``prepare`` is given the first connection before anybody else gets one (migrations), and is tried again by the
    next call when it fails. ``pool_timeout`` limits the wait for a connection when all ``size`` are in use.
    PgBouncer in transaction mode before 1.21 needs ``statement_cache_size=0``.
    """

    def __init__(
        self,
        *,
        dsn: str,
        size: int = 10,
        connect_timeout: timedelta = timedelta(seconds=5),
        pool_timeout: timedelta = timedelta(seconds=10),
        statement_timeout: timedelta = timedelta(seconds=30),
        lock_timeout: timedelta = timedelta(seconds=5),
        statement_cache_size: int = 100,
        slow_query: timedelta = timedelta(milliseconds=500),
        prepare: Callable[[Connection], Awaitable[object]] | None = None,
    ) -> None:
        super().__init__(slow_query)
        self._dsn = dsn
        self._size = size
        self._connect_timeout = connect_timeout
        self._pool_timeout = pool_timeout
        self._statement_timeout = statement_timeout
        self._lock_timeout = lock_timeout
        self._statement_cache_size = statement_cache_size
        self._prepare = prepare
        self._pool: Pool | None = None
        self._opening: asyncio.Task[Pool] | None = None
        self._is_closed = False
        self._touched: set[int] = set()
        """Backends whose session somebody may have changed: SET, LISTEN, advisory locks, cursors."""

    @property
    def stateless(self) -> Database:
        """The same connections for statements that change nothing of a session.

        They are given back as they are; others cost a round trip that cleans up after them.
        """
        return _Stateless(self._lent, self._slow_query)

    async def ping(self) -> timedelta:
        """How long a round trip takes on a connection that is there; raises Unavailable."""
        async with self._connection() as connection:
            started = time.perf_counter()
            with _reaching(connection):
                await connection.fetchval("SELECT 1")
            return timedelta(seconds=time.perf_counter() - started)

    async def close(self, *, patience: timedelta = _PATIENCE) -> None:
        """Close when all calls have ended, at the latest after ``patience``. Nothing can be asked afterwards."""
        self._is_closed = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(patience.total_seconds()):
                await pool.close()
        except _ASYNCPG_FAILURES as error:
            _log.warning("database connections were cut off", reason=type(error).__name__)
            pool.terminate()

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[Connection]:
        async with self._lent() as connection:
            self._touched.add(connection.get_server_pid())
            yield connection

    @asynccontextmanager
    async def _lent(self) -> AsyncGenerator[Connection]:
        pool = self._pool or await self._opened()
        with _reaching():
            connection = await pool.acquire(timeout=self._pool_timeout.total_seconds())
        try:
            yield connection
        finally:
            # What was asked has been answered. asyncpg itself ends a connection that cannot be used again.
            with suppress(*_ASYNCPG_FAILURES):
                await pool.release(connection)

    async def _opened(self) -> Pool:
        """All who wait share one attempt: while the server is away, they fail together and not one after another."""
        if self._is_closed:
            raise Unavailable("database", "is closed, since the daemon is stopping")
        if self._opening is None:
            self._opening = asyncio.create_task(self._open(), name="database: open")
            self._opening.add_done_callback(self._opening_ended)
        return await asyncio.shield(self._opening)

    def _opening_ended(self, opening: asyncio.Task[Pool]) -> None:
        self._opening = None
        if not opening.cancelled() and opening.exception() is None:
            self._pool = opening.result()

    async def _open(self) -> Pool:
        with _reaching():
            pool = await asyncpg.create_pool(
                self._dsn,
                min_size=0,
                max_size=self._size,
                timeout=self._connect_timeout.total_seconds(),
                command_timeout=(self._statement_timeout + _PATIENCE).total_seconds(),
                statement_cache_size=self._statement_cache_size,
                server_settings=self._server_settings(),
                reset=self._clean,
            )
            try:
                if self._prepare is not None:
                    async with pool.acquire(timeout=self._connect_timeout.total_seconds()) as connection:
                        await self._prepare(connection)
            except BaseException:
                pool.terminate()
                raise
        return pool

    async def _clean(self, connection: Connection) -> None:
        """Asyncpg calls it when a connection is given back; its own default cleans up always."""
        backend = connection.get_server_pid()
        if backend in self._touched:
            self._touched.discard(backend)
            query = connection.get_reset_query()
            if query:
                await connection.execute(query)

    def _server_settings(self) -> dict[str, str]:
        return {
            "application_name": "skycap",
            "timezone": "UTC",
            "statement_timeout": _milliseconds(self._statement_timeout),
            "lock_timeout": _milliseconds(self._lock_timeout),
            "idle_in_transaction_session_timeout": _milliseconds(_IDLE_IN_TRANSACTION),
        }


@contextmanager
def _reaching(connection: Connection | None = None) -> Generator[None]:
    """Raise Unavailable for whatever is the server's state or the network's; programming errors pass."""
    try:
        yield
    except asyncpg.ClientConfigurationError as error:
        raise ConfigurationError(
            "the database URL cannot be used: write postgresql://user:password@host:port/database"
        ) from error
    except asyncpg.PostgresError as error:
        reason = _reason(error.sqlstate or "")
        if reason is None:
            raise
        raise Unavailable("database", f"{reason} ({error.sqlstate})") from error
    except asyncpg.InterfaceError as error:
        if connection is None or not _is_gone(connection):
            raise
        raise Unavailable("database", _CLASSES["08"]) from error
    except asyncpg.InternalClientError as error:
        # What asyncpg says when the server has ended the connection and its farewell still lies in the socket.
        if connection is not None:
            connection.terminate()
        raise Unavailable("database", _CLASSES["08"]) from error
    except OSError as error:
        raise Unavailable("database", _network_reason(error)) from error


def _reason(sqlstate: str) -> str | None:
    if sqlstate in _REASONS:
        return _REASONS[sqlstate]
    return next((reason for start, reason in _CLASSES.items() if sqlstate.startswith(start)), None)


def _network_reason(error: OSError) -> str:
    """In words of our own: the error's own name the host."""
    if isinstance(error, TimeoutError):
        return "no answer, or no free connection, in time"
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return f"no connection ({type(error).__name__})"


def _is_gone(connection: Connection) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:  # the pool has taken it back, as it does with a connection that was lost
        return True


def _milliseconds(duration: timedelta) -> str:
    return str(round(duration / timedelta(milliseconds=1)))
