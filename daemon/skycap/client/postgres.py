"""PostgresTransport: enqueues through the outbox, each call in a transaction of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

import asyncpg

from skycap.client.base import Order
from skycap.client.outbox import ASYNCPG, answers, documents_of, translated
from skycap.errors import ConfigurationError, Refused, Unavailable
from skycap.job import Enqueued, Job, JobState
from skycap.settings.database import DatabaseAddress

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_LIMIT = timedelta(seconds=10)


class PostgresTransport:
    """See Transport. Its role may call one function and read nothing, so a job cannot be looked at from here."""

    def __init__(self, url: str) -> None:
        try:
            self._dsn = DatabaseAddress.accept(url).dsn
        except ValueError as error:
            raise ConfigurationError(f"the client's address {error}") from None
        self._connection: Connection[Record] | None = None
        self._turn = asyncio.Lock()

    async def add(self, orders: Sequence[Order]) -> list[Enqueued]:
        documents = documents_of(orders)
        async with self._turn:
            try:
                async with asyncio.timeout(_LIMIT.total_seconds()):
                    rows = await (await self._connected()).fetch(ASYNCPG, documents)
            except asyncpg.PostgresError as error:
                known = translated(error)
                raise known or Unavailable("database", f"it refused ({error.sqlstate})") from error
            except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
                # The last one is what asyncpg says when the server's farewell lies unread in the socket.
                await self.close()
                raise Unavailable("database", f"no answer ({type(error).__name__})") from error
        return answers(rows, orders)

    async def get(self, job_id: str, *, queue: str | None) -> Job | None:
        del job_id, queue
        _refuse()

    async def wait(self, job_id: str, *, queue: str | None, timeout: timedelta) -> Job | None:
        del job_id, queue, timeout
        _refuse()

    async def cancel(self, job_id: str, *, queue: str | None) -> JobState | None:
        del job_id, queue
        _refuse()

    async def retry(self, job_id: str, *, queue: str | None) -> JobState | None:
        del job_id, queue
        _refuse()

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _connected(self) -> Connection[Record]:
        if self._connection is None or self._connection.is_closed():
            # Behind a transaction pooler no prepared statement survives.
            self._connection = await asyncpg.connect(self._dsn, statement_cache_size=0)
        return self._connection


def _refuse() -> NoReturn:
    raise Refused(
        "over PostgreSQL a job can only be enqueued; to look at it, cancel or retry it, "
        "give the client a redis:// or https:// address"
    )
