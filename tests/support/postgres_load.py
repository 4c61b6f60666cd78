"""Jobs that read and write in PostgreSQL while it is in trouble, and what became of each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from skycap import AsyncClient
from skycap.job import JobState, new_id
from skycap.payload import Payload
from tests.support.daemons import Site
from tests.support.postgres_servers import PostgresServer
from tests.support.workers import eventually

SETTINGS = ("max_connections=20",)

PLUGIN = """
from skycap import Context, Payload, Plugin

plugin = Plugin("seats")

class TakeSeat(Payload, kind="take-seat", queue="processing"):
    flight: int

@plugin.job()
async def take_seat(ctx: Context, payload: TakeSeat) -> None:
    if await ctx.db.fetchval("SELECT count(*) FROM taken WHERE job_id = $1", ctx.job.id):
        return

    async def take(tx):
        await tx.execute("INSERT INTO taken (job_id, attempt) VALUES ($1, $2)", ctx.job.id, ctx.job.attempt)
        await tx.execute("UPDATE flights SET seats = seats + 1 WHERE id = $1", payload.flight)

    await ctx.db.in_transaction(take)
"""
TABLES = """
    CREATE TABLE taken (job_id TEXT PRIMARY KEY, attempt INT NOT NULL, at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp());
    CREATE TABLE flights (id INT PRIMARY KEY, seats INT NOT NULL DEFAULT 0);
    INSERT INTO flights SELECT generate_series(0, 7);
    CREATE FUNCTION dawdle() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.5); RETURN NEW; END $$;
"""  # noqa: E501 - one line a table


class TakeSeat(Payload, kind="take-seat", queue="processing"):
    """What the plugin's handler does once for each job."""

    flight: int


Fault = Callable[[PostgresServer, float], Awaitable[None]]


async def stopped(server: PostgresServer, seconds: float) -> None:
    await server.stop()
    await asyncio.sleep(seconds)
    await server.start()


async def crashed(server: PostgresServer, seconds: float) -> None:
    await server.crash()
    await asyncio.sleep(seconds)
    await server.start()


async def read_only(server: PostgresServer, seconds: float) -> None:
    await server.set("default_transaction_read_only", "on")
    await asyncio.sleep(seconds)
    await server.set("default_transaction_read_only", None)


async def out_of_connections(server: PostgresServer, seconds: float) -> None:
    async with AsyncExitStack() as taken:
        first = await taken.enter_async_context(_connected(server))
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'skycap'"
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            await first.fetch(others)
            with suppress(asyncpg.TooManyConnectionsError):
                while True:
                    await taken.enter_async_context(_connected(server))
            await asyncio.sleep(0.1)


async def slow(server: PostgresServer, seconds: float) -> None:
    async with _connected(server) as connection:
        await connection.execute("CREATE TRIGGER slow BEFORE UPDATE ON flights FOR EACH ROW EXECUTE FUNCTION dawdle()")
        await asyncio.sleep(seconds)
        await connection.execute("DROP TRIGGER slow ON flights")


FAULTS: dict[str, Fault] = {
    "stopped (fast)": stopped,
    "crashed (immediate)": crashed,
    "read-only": read_only,
    "out of connections": out_of_connections,
    "slow": slow,
}


@asynccontextmanager
async def _connected(server: PostgresServer) -> AsyncGenerator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(server.url)
    try:
        yield connection
    finally:
        connection.terminate()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """In the words of Jepsen's total-queue checker, and how long after the fault the first job was done again."""

    fault: str
    acknowledged: int
    ok: int
    lost: int
    duplicated: int
    unexpected: int
    recovered: int
    dead: int
    attempts_used: int
    recovery_seconds: float

    def __str__(self) -> str:
        return (
            f"{self.fault:<20} acked {self.acknowledged:>5} ok {self.ok:>5} lost {self.lost} "
            f"duplicated {self.duplicated} unexpected {self.unexpected} recovered {self.recovered} "
            f"dead {self.dead} attempts used {self.attempts_used} | recovery {self.recovery_seconds:.2f} s"
        )

    @property
    def is_valid(self) -> bool:
        return not (self.lost or self.duplicated or self.unexpected or self.dead or self.attempts_used)


@dataclass(kw_only=True)
class Flights:
    """A daemon under load, on a PostgreSQL of its own."""

    server: PostgresServer
    client: AsyncClient
    attempted: set[str] = field(default_factory=set[str])
    acknowledged: set[str] = field(default_factory=set[str])

    async def under(self, name: str, *, seconds: float) -> Verdict:
        """What became of the jobs that were enqueued before, during and after a fault."""
        before = set(self.acknowledged)
        load = asyncio.create_task(self._enqueue_on_and_on(), name="load")
        await eventually(lambda: self._is_more_done_than(len(before)))
        await FAULTS[name](self.server, seconds)
        ended = time.monotonic()
        done = await self._done()
        await eventually(lambda: self._is_more_done_than(done))
        recovery_seconds = time.monotonic() - ended
        load.cancel()
        await asyncio.wait([load])
        await eventually(self._is_settled)
        return await self._verdict(name, before, recovery_seconds)

    async def _enqueue_on_and_on(self) -> None:
        while True:
            job_id = new_id()
            self.attempted.add(job_id)
            await self.client.enqueue(TakeSeat(flight=len(self.acknowledged) % 8), job_id=job_id)
            self.acknowledged.add(job_id)
            await asyncio.sleep(0.03)

    async def _done(self) -> int:
        async with _connected(self.server) as connection:
            return int(await connection.fetchval("SELECT count(*) FROM taken"))

    async def _is_more_done_than(self, number: int) -> bool:
        return await self._done() > number

    async def _is_settled(self) -> bool:
        counts = await self.client.queue("processing").counts()
        return counts.available + counts.later + counts.running == 0

    async def _verdict(self, fault: str, before: set[str], recovery_seconds: float) -> Verdict:
        async with _connected(self.server) as connection:
            rows = await connection.fetch("SELECT job_id, attempt FROM taken")
            seats = await connection.fetchval("SELECT sum(seats) FROM flights")
        taken = {row["job_id"]: row["attempt"] for row in rows}
        return Verdict(
            fault=fault,
            acknowledged=len(self.acknowledged - before),
            ok=len(taken.keys() & (self.acknowledged - before)),
            lost=len(self.acknowledged - taken.keys()),
            duplicated=seats - len(taken),
            unexpected=len(taken.keys() - self.attempted),
            recovered=len(taken.keys() - self.acknowledged),
            dead=len(await self.client.queue("processing").jobs(JobState.DISCARDED)),
            attempts_used=sum(attempt > 1 for attempt in taken.values()),
            recovery_seconds=recovery_seconds,
        )


@asynccontextmanager
async def flights(server: PostgresServer, redis_url: str, folder: Path) -> AsyncGenerator[Flights]:
    plugins = folder / "plugins"
    plugins.mkdir()
    (plugins / "seats.py").write_text(PLUGIN)
    async with _connected(server) as connection:
        await connection.execute(TABLES)
    site = Site(folder=folder, redis_url=redis_url, database_url=server.url, plugins_dir=plugins)
    async with site.daemon(), AsyncClient(redis_url) as client:
        yield Flights(server=server, client=client)
