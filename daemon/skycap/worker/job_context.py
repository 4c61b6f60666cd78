"""JobContext: the Context that a handler gets from the daemon, made anew for each attempt."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from skycap.breaker import Breakers
from skycap.cache import Cache
from skycap.client import AsyncClient
from skycap.context import Database, Log, Mailer, QueueCounts, RunningJob
from skycap.errors import Unavailable
from skycap.http_client import HttpClient
from skycap.job import Enqueued
from skycap.payload import Payload
from skycap.worker.threads import refuse_to_wait

if TYPE_CHECKING:
    from skycap.engine.queue import Claim

T = TypeVar("T")

_LONGEST_LINE = 1000


@dataclass(frozen=True, kw_only=True)
class Services:
    """What the daemon offers to handlers; None where the installation has no such dependency."""

    client: AsyncClient
    database_for: Callable[[RunningJob, str], Database] | None = None
    """The database as a job sees it, given its plugin's name."""
    mailer_for: Callable[[RunningJob, int, str], Mailer] | None = None
    """The mailer for a job, given its claim number and its plugin's name."""
    cache: Cache | None = None
    breakers: Breakers | None = None
    http: HttpClient | None = None
    queues: Sequence[str] = ()


class JobContext:
    """See skycap.context.Context."""

    __slots__ = ("_claim", "_database", "_plugin", "_services", "job", "log", "settings")

    def __init__(
        self, *, job: RunningJob, claim: Claim, plugin: str, settings: Any, services: Services, log: Log
    ) -> None:
        self.job = job
        self.settings = settings
        self.log = log
        self._claim = claim
        self._plugin = plugin
        self._services = services
        self._database: Database | None = None

    @property
    def db(self) -> Database:
        if self._services.database_for is None:
            raise Unavailable("database", "is not configured; set SKYCAP_DATABASE_URL")
        if self._database is None:  # one for the whole attempt: it remembers whether the job has written
            self._database = self._services.database_for(self.job, self._plugin)
        return self._database

    @property
    def mailer(self) -> Mailer:
        if self._services.mailer_for is None:
            raise Unavailable("mail", "is not configured; set SKYCAP_SMTP_URL and SKYCAP_DATABASE_URL")
        return self._services.mailer_for(self.job, self._claim.number, self._plugin)

    @property
    def cache(self) -> Cache:
        return _here(self._services.cache, "cache")

    @property
    def breakers(self) -> Breakers:
        return _here(self._services.breakers, "breakers")

    @property
    def http(self) -> HttpClient:
        return _here(self._services.http, "http")

    async def enqueue(self, payload: Payload, **options: Any) -> Enqueued:
        return await self._services.client.enqueue(payload, **options)

    async def queues(self) -> Mapping[str, QueueCounts]:
        found = {name: await self._services.client.queue(name).counts() for name in self._services.queues}
        return {
            name: QueueCounts(
                available=counts.available,
                later=counts.later,
                running=counts.running,
                discarded=counts.discarded,
                is_paused=counts.is_paused,
            )
            for name, counts in found.items()
        }

    async def progress(self, fraction: float, note: str = "") -> None:
        if not 0 <= fraction <= 1:
            raise ValueError(f"progress {fraction}: give a fraction from 0 to 1")
        at = round(self.now().timestamp() * 1000)
        await self._report("progress", json.dumps({"fraction": fraction, "note": note[:_LONGEST_LINE], "at": at}))

    async def note(self, line: str) -> None:
        await self._report("log", line[:_LONGEST_LINE])

    def run(self, awaitable: Awaitable[Any]) -> NoReturn:
        refuse_to_wait(awaitable)

    async def _report(self, what: str, text: str) -> None:
        await self._services.client.queue(self.job.queue).report(self._claim, what, text)

    def now(self) -> datetime:
        return datetime.now(UTC)


def _here(service: T | None, name: str) -> T:
    if service is None:
        raise Unavailable(name, "is not here: this worker was made without it")
    return service
