"""SampleDatabase: answers a handler's queries with the rows of a sample."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from skycap.context import Database
from skycap.errors import PermanentError
from skycap.sample import Rows, Sample

T = TypeVar("T")

_SHOWN_CHARACTERS = 80


class SampleDatabase:
    """See skycap.context.Database. A query is known by its text, whatever its arguments and its blanks are.

    What is executed changes nothing, and is one row's worth. Raises PermanentError for a query without rows.
    """

    def __init__(self, sample: Sample) -> None:
        self._name = sample.name
        self._rows = {_words(query): rows for query, rows in sample.rows.items()}

    @property
    def fresh(self) -> SampleDatabase:
        return self

    async def stream(self, query: str, *_arguments: object, batch: int = 1000) -> AsyncIterator[Mapping[str, Any]]:
        del batch
        for row in self._found(query):
            yield row

    async def fetch(self, query: str, *_arguments: object) -> Sequence[Mapping[str, Any]]:
        return self._found(query)

    async def fetchrow(self, query: str, *_arguments: object) -> Mapping[str, Any] | None:
        return next(iter(self._found(query)), None)

    async def fetchval(self, query: str, *_arguments: object) -> Any:
        row = next(iter(self._found(query)), None)
        return None if row is None else next(iter(row.values()))

    async def execute(self, query: str, *_arguments: object) -> str:
        command = _words(query).partition(" ")[0].upper()
        return f"{command} 0 1" if command == "INSERT" else f"{command} 1"

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[SampleDatabase]:
        yield self

    async def in_transaction(self, function: Callable[[Database], Awaitable[T]]) -> T:
        return await function(self)

    def _found(self, query: str) -> Rows:
        words = _words(query)
        if words not in self._rows:
            raise PermanentError(f"the sample {self._name} has no rows for the query {words[:_SHOWN_CHARACTERS]}…")
        return self._rows[words]


def _words(query: str) -> str:
    return " ".join(query.split())
