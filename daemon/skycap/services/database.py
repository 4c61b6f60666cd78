"""DatabasePool: the travel database in asyncpg's words, connected when first used and again after it was away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

import asyncpg
import structlog

from skycap.context import Database, Log
from skycap.errors import Unavailable
from skycap.services.database_failures import ASYNCPG_FAILURES, READ_ONLY, reaching, sqlstate_of
from skycap.services.pooler import ADVICE, is_pooled
from skycap.services.queries import Queries, Terms
from skycap.services.slow_queries import Asker, SlowQueries

if TYPE_CHECKING:
    from skycap.services import database_failures

    Connection: TypeAlias = database_failures.Connection
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]

_log: Log = structlog.get_logger(__name__)

_PATIENCE = timedelta(seconds=5)
"""How much longer than statement_timeout we wait: the server's own limit is worth more, but a dead peer has none."""

_IDLE_IN_TRANSACTION = timedelta(minutes=1)
"""A transaction left open that long keeps rows locked and tables from being vacuumed; the server ends it."""

_WELL = timedelta(seconds=1)
"""A server that answers within that has not kept a query waiting for long."""


class _View(Queries):
    """The pool's connections on other terms, or with no cleaning up after them."""

    def __init__(
        self,
        lend: Callable[[], AbstractAsyncContextManager[Connection]],
        settings: Callable[[], str],
        terms: Terms,
    ) -> None:
        super().__init__(terms)
        self._lend = lend
        self._settings = settings

    def _connection(self) -> AbstractAsyncContextManager[Connection]:
        return self._lend()

    @property
    def _transaction_settings(self) -> str:
        return self._settings()


@dataclass(frozen=True, kw_only=True)
class PoolFigures:
    """How many connections there are now, and may be."""

    used: int
    idle: int
    most: int


class DatabasePool(Queries):
    """See skycap.context.Database. Nothing is connected before the first call.

    ``prepare`` is given the first connection before anybody else gets one (migrations), and is tried again by the
    next call when it fails. ``pool_timeout`` limits the wait for a connection when all ``size`` are in use.

    ``pooled`` says whether the address leads to a transaction pooler; None: find out. Behind one no prepared statement
    is kept, and the time limits, which it would lose, are set in each transaction; a single statement is one, too.
    Of a standby (``is_primary=False``) nothing is asked twice: there is another server to ask.
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
        slow_query: timedelta = timedelta(milliseconds=1000),
        slow_queries: SlowQueries | None = None,
        prepare: Callable[[Connection], Awaitable[object]] | None = None,
        pooled: bool | None = None,
        is_primary: bool = True,
    ) -> None:
        self.slow_queries = slow_queries or SlowQueries(slow_query)
        super().__init__(Terms(slow_queries=self.slow_queries, is_well=self._is_well, is_tried_again=is_primary))
        self._dsn = dsn
        self._size = size
        self._connect_timeout = connect_timeout
        self._pool_timeout = pool_timeout
        self._statement_timeout = statement_timeout
        self._lock_timeout = lock_timeout
        self._statement_cache_size = statement_cache_size
        self._prepare = prepare
        self._pooled = pooled
        self._is_primary = is_primary
        self._pool: Pool | None = None
        self._opening: asyncio.Task[Pool] | None = None
        self._is_closed = False
        self._touched: set[int] = set()
        """Backends whose session somebody may have changed: SET, LISTEN, advisory locks, cursors."""

    @property
    def connections(self) -> PoolFigures:
        pool = self._pool
        if pool is None:
            return PoolFigures(used=0, idle=0, most=self._size)
        idle = pool.get_idle_size()
        return PoolFigures(used=pool.get_size() - idle, idle=idle, most=self._size)

    @property
    def stateless(self) -> Database:
        """The same connections for statements that change nothing of a session.

        They are given back as they are; others cost a round trip that cleans up after them.
        """
        return _View(self._lent, lambda: self._transaction_settings, self._terms)

    def asked_by(self, asker: Asker) -> Queries:
        """The same for the handler of a job: what it asks too long is its failure, in its name."""
        terms = Terms(
            slow_queries=self.slow_queries,
            is_well=self._is_well,
            asker=asker,
            is_tried_again=self._terms.is_tried_again,
        )
        return _View(self._connection, lambda: self._transaction_settings, terms)

    async def ping(self) -> timedelta:
        """How long a round trip takes on a connection that is there; raises Unavailable."""
        async with self._connection() as connection:
            started = time.perf_counter()
            with reaching(connection):
                await connection.fetchval("SELECT 1")
            return timedelta(seconds=time.perf_counter() - started)

    async def leads_to_a_pooler(self) -> bool:
        """Whether sessions are lent by a pooler: as the address says, or else as is found out. Raises Unavailable."""
        if self._pooled is None:
            with reaching():
                self._pooled = await self._leads_to_a_pooler()
        return self._pooled

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
        except ASYNCPG_FAILURES as error:
            _log.warning("database connections were cut off", reason=type(error).__name__)
            pool.terminate()

    @property
    def _transaction_settings(self) -> str:
        if not self._pooled:
            return ""
        return "; ".join(f"SET LOCAL {name} = {value}" for name, value in self._time_limits().items())

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[Connection]:
        async with self._lent() as connection:
            self._touched.add(connection.get_server_pid())
            yield connection

    @asynccontextmanager
    async def _lent(self) -> AsyncGenerator[Connection]:
        pool = self._pool or await self._opened()
        with reaching():
            connection = await pool.acquire(timeout=self._pool_timeout.total_seconds())
        try:
            yield connection
        except Unavailable as error:
            if self._is_primary and sqlstate_of(error) == READ_ONLY:
                # It may be the primary no longer: the name, or the list of hosts, may lead to another server by now.
                await pool.expire_connections()
            raise
        finally:
            # What was asked has been answered. asyncpg itself ends a connection that cannot be used again.
            with suppress(*ASYNCPG_FAILURES):
                await pool.release(connection)

    async def _is_well(self) -> bool:
        try:
            async with asyncio.timeout(_WELL.total_seconds()):
                await self.ping()
        except (Unavailable, TimeoutError):
            return False
        return True

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
        with reaching():
            if self._pooled is None:
                self._pooled = await self._leads_to_a_pooler()
            limits = {} if self._pooled else self._time_limits()
            pool = await asyncpg.create_pool(
                self._dsn,
                min_size=0,
                max_size=self._size,
                timeout=self._connect_timeout.total_seconds(),
                command_timeout=(self._statement_timeout + _PATIENCE).total_seconds(),
                statement_cache_size=0 if self._pooled else self._statement_cache_size,
                server_settings={"application_name": "skycap", "timezone": "UTC", **limits},
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

    async def _leads_to_a_pooler(self) -> bool:
        connection = await asyncpg.connect(
            self._dsn,
            timeout=self._connect_timeout.total_seconds(),
            statement_cache_size=0,
            server_settings={"application_name": "skycap"},
        )
        try:
            found = await is_pooled(connection)
        finally:
            # Waits until the server has ended it: where few are allowed, the next one would find no room.
            await connection.close(timeout=self._connect_timeout.total_seconds())
        if found:
            _log.warning("the database is behind a pooler, so no prepared statement is kept", advice=ADVICE)
        return found

    async def _clean(self, connection: Connection) -> None:
        """Asyncpg calls it when a connection is given back; its own default cleans up always."""
        backend = connection.get_server_pid()
        if backend not in self._touched:
            return
        self._touched.discard(backend)
        query = connection.get_reset_query()
        # Behind a pooler it would clean up whatever session comes next.
        if query and not self._pooled:
            await connection.execute(query)

    def _time_limits(self) -> dict[str, str]:
        return {
            "statement_timeout": _milliseconds(self._statement_timeout),
            "lock_timeout": _milliseconds(self._lock_timeout),
            "idle_in_transaction_session_timeout": _milliseconds(_IDLE_IN_TRANSACTION),
        }


def _milliseconds(duration: timedelta) -> str:
    return str(round(duration / timedelta(milliseconds=1)))
