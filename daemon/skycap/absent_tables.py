"""AbsentTables: the kinds of jobs that are off, since the backend does not have a table that they need."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from skycap.errors import Unavailable

if TYPE_CHECKING:
    from skycap.context import Database, Log
    from skycap.job_type import JobType

_log: Log = structlog.get_logger("skycap.tables")

_LOOK_AGAIN = timedelta(minutes=1)
"""A table that the backend's next release brings is noticed without a restart."""
_DATABASE_AWAY = timedelta(seconds=5)

_ABSENT = "SELECT name FROM unnest($1::text[]) AS name WHERE to_regclass(name) IS NULL"


class AbsentTables:
    """Which of the tables that job types name are not there. Nothing is off before somebody has looked."""

    def __init__(self, job_types: Iterable[JobType], database: Database | None) -> None:
        self._needed = {job_type.kind: job_type.tables for job_type in job_types if job_type.tables}
        self._database = database
        self._off: dict[str, str] = {}

    def why_off(self, kind: str) -> str | None:
        """Why no job of the kind is run; None when it is."""
        return self._off.get(kind)

    async def watch(self) -> None:
        """Look until cancelled, first as soon as the database answers."""
        while True:
            try:
                await self.look()
            except Unavailable:
                await asyncio.sleep(_DATABASE_AWAY.total_seconds())
            else:
                await asyncio.sleep(_LOOK_AGAIN.total_seconds())

    async def look(self) -> None:
        """Say once which kinds are off, and when they are on again. Raises Unavailable."""
        if self._database is None or not self._needed:
            return
        names = sorted({table for tables in self._needed.values() for table in tables})
        absent = {row["name"] for row in await self._database.fetch(_ABSENT, names)}
        off = {
            kind: f"the database has no table {', '.join(missing)}"
            for kind, tables in self._needed.items()
            if (missing := [table for table in tables if table in absent])
        }
        for kind, reason in off.items():
            if self._off.get(kind) != reason:
                _log.warning("jobs of this kind are off", kind=kind, reason=reason)
        for kind in self._off.keys() - off.keys():
            _log.info("jobs of this kind are on again", kind=kind)
        self._off = off
