"""JobContext: the Context that a handler gets from the daemon, made anew for each attempt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from skycap.client import AsyncClient
from skycap.context import Database, Log, Mailer, RunningJob
from skycap.errors import Unavailable
from skycap.job import Enqueued
from skycap.payload import Payload


@dataclass(frozen=True, kw_only=True)
class Services:
    """What the daemon offers to handlers; None where the installation has no such dependency."""

    client: AsyncClient
    database: Database | None = None
    mailer_for: Callable[[RunningJob, int, str], Mailer] | None = None
    """The mailer for a job, given its claim number and its plugin's name."""


class JobContext:
    """See skycap.context.Context."""

    def __init__(
        self, *, job: RunningJob, claim: int, plugin: str, settings: Any, services: Services, log: Log
    ) -> None:
        self.job = job
        self.settings = settings
        self.log = log
        self._claim = claim
        self._plugin = plugin
        self._services = services

    @property
    def db(self) -> Database:
        if self._services.database is None:
            raise Unavailable("database", "is not configured; set SKYCAP_DATABASE_URL")
        return self._services.database

    @property
    def mailer(self) -> Mailer:
        if self._services.mailer_for is None:
            raise Unavailable("mail", "is not configured; set SKYCAP_SMTP_URL and SKYCAP_DATABASE_URL")
        return self._services.mailer_for(self.job, self._claim, self._plugin)

    async def enqueue(self, payload: Payload, *, delay: timedelta | None = None) -> Enqueued:
        return await self._services.client.enqueue(payload, delay=delay)

    def now(self) -> datetime:
        return datetime.now(UTC)
