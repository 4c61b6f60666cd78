"""Queries: asyncpg's words on whatever connection is lent, with what is slow noted and what was undone asked again."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from skycap.context import Database
from skycap.errors import QueryTimeout, Unavailable
from skycap.services.database_failures import (
    ASYNCPG_FAILURES,
    COLLIDED,
    TOO_LONG,
    has_waited,
    reaching,
    sqlstate_of,
    was_undone,
)
from skycap.services.slow_queries import OURSELVES, Asker, SlowQueries
from skycap.services.statements import statement_of

if TYPE_CHECKING:
    from skycap.services.database_failures import Connection

T = TypeVar("T")

_WAITS_SECONDS = (0.05, 0.15, 0.4)
"""Before each further try of a statement."""

_NO_TRY_AFTER_SECONDS = 1.0
"""A job waits longer for its turn again, and keeps its attempt meanwhile: what takes longer is better left to that."""

_cursors = itertools.count(1)

_COLLISION_WAITS_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.4)
"""Before each further run of a transaction that collided."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How queries are asked: for whom, and what is known of the server."""

    slow_queries: SlowQueries
    is_well: Callable[[], Awaitable[bool]]
    """Whether the server answers others at once."""
    asker: Asker | None = None
    """The job whose handler asks; None: the daemon itself, whose queries are short."""
    is_tried_again: bool = True


class Queries(ABC):
    """See skycap.context.Database."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms

    @abstractmethod
    def _connection(self) -> AbstractAsyncContextManager[Connection]: ...

    @property
    def _transaction_settings(self) -> str:
        """SET LOCAL statements, for a transaction whose session lacks our time limits; "" when it has them."""
        return ""

    @property
    def fresh(self) -> Database:
        return self

    async def fetch(self, query: str, *args: object) -> list[dict[str, Any]]:
        return [dict(row.items()) for row in await self._ask(query, lambda on: on.fetch(query, *args))]

    async def fetchrow(self, query: str, *args: object) -> dict[str, Any] | None:
        row = await self._ask(query, lambda on: on.fetchrow(query, *args))
        return None if row is None else dict(row.items())

    async def fetchval(self, query: str, *args: object) -> Any:
        return await self._ask(query, lambda on: on.fetchval(query, *args))

    async def execute(self, query: str, *args: object) -> str:
        return await self._ask(query, lambda on: on.execute(query, *args))

    async def stream(self, query: str, *args: object, batch: int = 1000) -> AsyncGenerator[dict[str, Any]]:
        """In a transaction of its own, which ends with the generator: the rows are those of one moment.

        statement_timeout holds for each batch, not for all of them; a consumer may take up to a minute for one.
        """
        async with self._connection() as connection:
            transaction = await self._begun(connection)
            try:
                fetch = await self._opened_cursor(connection, query, args, batch)
                while rows := await self._timed(query, connection, fetch):
                    for row in rows:
                        yield dict(row.items())
            except BaseException:
                await _roll_back(transaction)
                raise
            with reaching(connection):
                await transaction.commit()

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[DatabaseTransaction]:
        """The same words within one transaction, or one savepoint of it; an exception undoes it.

        When Unavailable comes out of its end, the commit may or may not have reached the server.
        """
        async with self._connection() as connection:
            transaction = await self._begun(connection)
            try:
                yield DatabaseTransaction(connection, self._terms, settings=self._transaction_settings)
            except BaseException:
                await _roll_back(transaction)
                raise
            with reaching(connection):
                await transaction.commit()

    async def in_transaction(self, function: Callable[[Database], Awaitable[T]]) -> T:
        for seconds in _COLLISION_WAITS_SECONDS:
            try:
                return await self._in_one_transaction(function)
            except Unavailable as error:
                if sqlstate_of(error) not in COLLIDED:
                    raise
            await _wait_about(seconds)
        return await self._in_one_transaction(function)

    async def _in_one_transaction(self, function: Callable[[Database], Awaitable[T]]) -> T:
        async with self.transaction() as transaction:
            return await function(transaction)

    async def _ask(self, query: str, ask: Callable[[Connection], Awaitable[T]]) -> T:
        """Ask again, a few times, what was surely not done, or does nothing that could be done twice."""
        began = time.monotonic()
        for seconds in _WAITS_SECONDS if self._terms.is_tried_again else ():
            is_asked = False
            try:
                async with self._connection() as connection:
                    is_asked = True
                    return await self._ask_once(query, connection, ask)
            except Unavailable as error:
                is_late = time.monotonic() - began + seconds > _NO_TRY_AFTER_SECONDS
                if is_late or not _may_be_repeated(query, error, is_asked=is_asked):
                    raise
            await _wait_about(seconds)
        async with self._connection() as connection:
            return await self._ask_once(query, connection, ask)

    async def _ask_once(self, query: str, connection: Connection, ask: Callable[[Connection], Awaitable[T]]) -> T:
        if not self._transaction_settings:
            return await self._timed(query, connection, ask)
        transaction = await self._begun(connection)
        try:
            result = await self._timed(query, connection, ask)
        except BaseException:
            await _roll_back(transaction)
            raise
        with reaching(connection):
            await transaction.commit()
        return result

    async def _begun(self, connection: Connection) -> Any:
        transaction = connection.transaction()
        with reaching(connection):
            await transaction.start()
            if self._transaction_settings:
                await connection.execute(self._transaction_settings)
        return transaction

    async def _opened_cursor(
        self, connection: Connection, query: str, args: tuple[object, ...], batch: int
    ) -> Callable[[Connection], Awaitable[list[Any]]]:
        """What fetches the next batch."""
        with reaching(connection):
            if not self._transaction_settings:
                cursor = await connection.cursor(query, *args)
                return lambda _: cursor.fetch(batch)
            # asyncpg's own cursor would leave a prepared statement behind in a session that is somebody else's next.
            # All rows are wanted, and not the first tenth of them soon.
            name = f"skycap_{next(_cursors)}"
            await connection.execute("SET LOCAL cursor_tuple_fraction = 1")
            await connection.execute(f"DECLARE {name} NO SCROLL CURSOR FOR {query}", *args)
            return lambda on: on.fetch(f"FETCH {int(batch)} FROM {name}")

    async def _timed(self, query: str, connection: Connection, ask: Callable[[Connection], Awaitable[T]]) -> T:
        began = time.perf_counter()
        try:
            with reaching(connection):
                return await ask(connection)
        except Unavailable as error:
            if self._terms.asker is None or sqlstate_of(error) != TOO_LONG or not await self._terms.is_well():
                raise
            took = timedelta(seconds=time.perf_counter() - began)
            raise _too_long(query, took, self._terms.asker) from error
        finally:
            duration = timedelta(seconds=time.perf_counter() - began)
            self._terms.slow_queries.note(query, duration, self._terms.asker or OURSELVES)


class DatabaseTransaction(Queries):
    """A transaction that is under way; its own ``transaction()`` is a savepoint."""

    def __init__(self, connection: Connection, terms: Terms, *, settings: str) -> None:
        super().__init__(terms)
        self._lent = connection
        self._settings = settings

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[Connection]:
        yield self._lent

    @property
    def _transaction_settings(self) -> str:
        return self._settings

    async def in_transaction(self, function: Callable[[Database], Awaitable[T]]) -> T:
        # Who collided has lost all of the transaction, not this part of it: only its beginning can run it again.
        return await self._in_one_transaction(function)

    async def _ask(self, query: str, ask: Callable[[Connection], Awaitable[T]]) -> T:
        # What went before is lost with the statement that failed.
        return await self._timed(query, self._lent, ask)


def _may_be_repeated(query: str, error: Unavailable, *, is_asked: bool) -> bool:
    if has_waited(error) or sqlstate_of(error) == TOO_LONG:
        return False
    if not is_asked:  # by whom there is no connection: not because of a wrong password, or a database that is not there
        return sqlstate_of(error) is None or was_undone(error)
    statement = statement_of(query)
    return statement.is_repeatable or (statement.is_one_commit and was_undone(error))


def _too_long(query: str, took: timedelta, asker: Asker) -> QueryTimeout:
    statement = statement_of(query)
    return QueryTimeout(
        plugin=asker.plugin, kind=asker.kind, took=took, fingerprint=statement.fingerprint, statement=statement.text
    )


async def _roll_back(transaction: Any) -> None:
    # A connection that is gone has been rolled back by its server; what went wrong is what is raised.
    with suppress(*ASYNCPG_FAILURES):
        await transaction.rollback()


async def _wait_about(seconds: float) -> None:
    """With jitter: those who failed together should not come back together."""
    await asyncio.sleep(seconds * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
