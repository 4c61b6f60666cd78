"""JobDatabase: the database as one attempt of a job sees it: reads from a replica, until the job has written."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, TypeVar

from skycap.context import Database, RunningJob
from skycap.errors import Unavailable
from skycap.services.database import DatabasePool
from skycap.services.database_failures import COLLIDED, READ_ONLY, TOO_LONG, sqlstate_of
from skycap.services.queries import Queries
from skycap.services.replicas import Replica, Replicas
from skycap.services.slow_queries import Asker
from skycap.services.statements import statement_of

T = TypeVar("T")

_MOST_REMEMBERED = 1000

_NOT_THE_REPLICA = COLLIDED | {"55P03", TOO_LONG}
"""The query stood in the way of what is replayed (40001), or of another: the next one may do well there."""


class JobDatabases:
    """Makes a JobDatabase for each attempt."""

    def __init__(self, primary: DatabasePool, replicas: Replicas | None = None) -> None:
        self._primary = primary
        self._replicas = replicas
        self._writing: set[str] = set()
        """Fingerprints of what looks like a read, and was refused by a standby as a write."""

    def for_job(self, job: RunningJob, plugin: str) -> Database:
        asker = Asker(plugin=plugin, kind=job.kind)
        primary = self._primary.asked_by(asker)
        # What an earlier attempt has written may not have reached a replica yet.
        if self._replicas is None or job.attempt > 1:
            return primary
        return JobDatabase(primary, self._replicas, asker=asker, writing=self._writing)


class JobDatabase:
    """See skycap.context.Database."""

    def __init__(self, primary: Queries, replicas: Replicas, *, asker: Asker, writing: set[str]) -> None:
        self._primary = primary
        self._replicas = replicas
        self._asker = asker
        self._writing = writing
        self._has_written = False

    @property
    def fresh(self) -> Database:
        return _Fresh(self)

    async def fetch(self, query: str, *args: object) -> list[dict[str, Any]]:
        return await self._ask(query, lambda database: database.fetch(query, *args))

    async def fetchrow(self, query: str, *args: object) -> dict[str, Any] | None:
        return await self._ask(query, lambda database: database.fetchrow(query, *args))

    async def fetchval(self, query: str, *args: object) -> Any:
        return await self._ask(query, lambda database: database.fetchval(query, *args))

    async def execute(self, query: str, *args: object) -> str:
        return await self._ask(query, lambda database: database.execute(query, *args))

    async def stream(self, query: str, *args: object, batch: int = 1000) -> AsyncGenerator[dict[str, Any]]:
        replica, has_begun = self._replica_for(query), False
        if replica is not None:
            try:
                async with aclosing(replica.pool.asked_by(self._asker).stream(query, *args, batch=batch)) as rows:
                    async for row in rows:
                        has_begun = True
                        yield row
            except Unavailable as error:
                self._distrust(replica, query, error)
                if has_begun:
                    raise
            else:
                return
        async with aclosing(self.primary_for(query).stream(query, *args, batch=batch)) as rows:
            async for row in rows:
                yield row

    def transaction(self) -> AbstractAsyncContextManager[Database]:
        self.writes()
        return self._primary.transaction()

    async def in_transaction(self, function: Callable[[Database], Awaitable[T]]) -> T:
        self.writes()
        return await self._primary.in_transaction(function)

    def writes(self) -> None:
        """From now on the primary answers this job's reads, too: no replica may have what the job has written."""
        self._has_written = True

    async def _ask(self, query: str, ask: Callable[[Queries], Awaitable[T]]) -> T:
        replica = self._replica_for(query)
        if replica is not None:
            try:
                return await ask(replica.pool.asked_by(self._asker))
            except Unavailable as error:  # nothing can have been written there
                self._distrust(replica, query, error)
        return await ask(self.primary_for(query))

    def primary_for(self, query: str) -> Queries:
        if not self._is_read(query):
            self.writes()
        return self._primary

    def _replica_for(self, query: str) -> Replica | None:
        return self._replicas.choose() if not self._has_written and self._is_read(query) else None

    def _is_read(self, query: str) -> bool:
        statement = statement_of(query)
        return statement.is_read and not (self._writing and statement.fingerprint in self._writing)

    def _distrust(self, replica: Replica, query: str, error: Unavailable) -> None:
        sqlstate = sqlstate_of(error)
        if sqlstate == READ_ONLY:
            if len(self._writing) < _MOST_REMEMBERED:
                self._writing.add(statement_of(query).fingerprint)
        elif sqlstate not in _NOT_THE_REPLICA:
            self._replicas.leave_out(replica, error)


class _Fresh:
    """The same job on the primary: what it writes counts."""

    def __init__(self, job: JobDatabase) -> None:
        self._job = job

    @property
    def fresh(self) -> Database:
        return self

    async def fetch(self, query: str, *args: object) -> list[dict[str, Any]]:
        return await self._job.primary_for(query).fetch(query, *args)

    async def fetchrow(self, query: str, *args: object) -> dict[str, Any] | None:
        return await self._job.primary_for(query).fetchrow(query, *args)

    async def fetchval(self, query: str, *args: object) -> Any:
        return await self._job.primary_for(query).fetchval(query, *args)

    async def execute(self, query: str, *args: object) -> str:
        return await self._job.primary_for(query).execute(query, *args)

    def stream(self, query: str, *args: object, batch: int = 1000) -> AsyncGenerator[dict[str, Any]]:
        return self._job.primary_for(query).stream(query, *args, batch=batch)

    def transaction(self) -> AbstractAsyncContextManager[Database]:
        return self._job.transaction()

    async def in_transaction(self, function: Callable[[Database], Awaitable[T]]) -> T:
        return await self._job.in_transaction(function)
