"""The outbox's surroundings: a backend that enqueues in SQL, relays, and the queues that they fill."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import asyncpg
from pydantic import field_validator

from skycap.engine.link import Link
from skycap.engine.policy import QueuePolicy
from skycap.engine.queue import Queue
from skycap.job import Job, JobState
from skycap.maintenance.outbox import Doorbell, OutboxRelay
from skycap.maintenance.outbox_jobs import OutboxJobs
from skycap.payload import Payload
from skycap.plugin import Plugin
from skycap.registry import Registry
from skycap.services.database import DatabasePool
from skycap.services.migrations import migrate
from skycap.services.outbox import Outbox
from skycap.unique import Unique

QUEUES = ("email", "slow", "default")


class SendNote(Payload, kind="send-note", queue="email", version=2, upgrades={1: lambda fields: fields}):
    """A job of the tests."""

    text: str = ""

    @field_validator("text")
    @classmethod
    def _breaks(cls, text: str) -> str:
        if text == "break":
            raise RuntimeError("somebody@example.com")
        return text


class Sweep(Payload, kind="sweep", queue="slow", unique=Unique(by=("what",))):
    """One of another queue."""

    what: str = ""


def registry() -> Registry:
    """Knows both kinds."""
    plugin = Plugin("outbox")

    @plugin.job()
    async def send_note(ctx: Any, payload: SendNote) -> None: ...

    @plugin.job()
    async def sweep(ctx: Any, payload: Sweep) -> None: ...

    known = Registry()
    known.add(plugin, name="outbox", origin="the test")
    return known


@dataclass(kw_only=True)
class Place:
    """A backend's connection, and what a relay is made of."""

    backend: asyncpg.Connection[Any]
    database: DatabasePool
    link: Link
    registry: Registry = field(default_factory=registry)

    @property
    def outbox(self) -> Outbox:
        return Outbox(self.database.stateless)

    async def enqueue(self, kind: str = "send-note", payload: str = "{}", **options: object) -> str:
        """What skycap.enqueue_v1 says of the job: its id."""
        named = "".join(f", {name} => ${number}" for number, name in enumerate(options, 3))
        # The names are those of the function's parameters.
        query = f"SELECT id FROM skycap.enqueue_v1($1, $2{named})"  # noqa: S608
        return str(await self.backend.fetchval(query, kind, payload, *options.values()))

    def relay(
        self,
        name: str = "relay-1",
        *,
        outbox: Outbox | None = None,
        link: Link | None = None,
        plugins: Registry | None = None,
        poll: timedelta = timedelta(milliseconds=50),
        batch: int = 500,
        doorbell: Doorbell | None = None,
    ) -> OutboxRelay:
        way = link or self.link
        return OutboxRelay(
            outbox or self.outbox,
            OutboxJobs(self.registry if plugins is None else plugins),
            lambda queue: Queue(queue, way),
            name=name,
            other_queue="default",
            poll=poll,
            keep=timedelta(days=7),
            batch=batch,
            doorbell=doorbell,
        )

    async def relay_all(self, relay: OutboxRelay | None = None) -> None:
        relay = relay or self.relay()
        # Where a look over all rows took long, on a busy machine, the next one waits 20 times as long.
        await self.database.execute("UPDATE skycap.outbox_batch SET rescan_at = clock_timestamp()")
        while await relay.relay_batch():
            pass

    def queue(self, name: str = "email") -> Queue:
        return Queue(name, self.link)

    async def bound(self, name: str, most: int) -> None:
        """Let no more than ``most`` jobs wait in a queue."""
        await Queue(name, self.link, policy=QueuePolicy(max_waiting=most)).configure()

    async def jobs(self, name: str = "email", state: JobState = JobState.AVAILABLE) -> list[Job]:
        return await self.queue(name).jobs(state, limit=10_000)

    async def texts(self) -> list[str]:
        """Of the notes, in the order in which they will run."""
        return [str(job.payload["text"]) for job in await self.jobs()]


@asynccontextmanager
async def place(redis_url: str, database_url: str) -> AsyncGenerator[Place]:
    async with AsyncExitStack() as stack:
        backend = await asyncpg.connect(database_url)
        stack.push_async_callback(backend.close)
        await migrate(backend)
        database = DatabasePool(dsn=database_url)
        stack.push_async_callback(database.close)
        link = Link.to(redis_url)
        stack.push_async_callback(link.close)
        yield Place(backend=backend, database=database, link=link)
