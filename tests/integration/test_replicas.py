"""Reads from a real standby: which go there, how far behind it may be, and what happens when it dies and returns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiohttp import ClientSession
from structlog.testing import capture_logs
from structlog.typing import EventDict

from skycap import AsyncClient
from skycap.context import Database, RunningJob
from skycap.errors import QueryTimeout
from skycap.job import Job, JobState
from skycap.payload import Payload
from skycap.services.database import DatabasePool
from skycap.services.job_database import JobDatabases
from skycap.services.replicas import Replicas, ReplicaStanding
from tests.support.daemons import Site
from tests.support.postgres_servers import PostgresServer, postgres_server
from tests.support.servers import ms
from tests.support.workers import PATIENCE, eventually

MAX_LAG = ms(1500)

JOB = RunningJob(
    id="1", kind="make-report", queue="tests", attempt=1, max_attempts=3, enqueued_at=datetime(2026, 1, 1, tzinfo=UTC)
)


@dataclass(kw_only=True)
class Pair:
    primary: PostgresServer
    standby: PostgresServer
    replicas: Replicas
    databases: JobDatabases

    def job(self, attempt: int = 1) -> Database:
        """The database as another attempt sees it."""
        return self.databases.for_job(JOB._replace(attempt=attempt), "reports")

    async def is_used(self) -> bool:
        (standing,) = await self.replicas.standing()
        return standing.is_used

    async def is_out(self) -> bool:
        return not await self.is_used()

    async def standing(self) -> ReplicaStanding:
        (standing,) = await self.replicas.standing()
        return standing


async def is_on_standby(database: Database) -> bool:
    return bool(await database.fetchval("SELECT pg_is_in_recovery()"))


@asynccontextmanager
async def pair_of(primary: PostgresServer, standby: PostgresServer) -> AsyncGenerator[Pair]:
    pool = DatabasePool(dsn=primary.url)
    other = DatabasePool(dsn=standby.url, is_primary=False, statement_timeout=ms(500))
    replicas = Replicas(pool, {"replica-1": other}, max_lag=MAX_LAG)
    pair = Pair(primary=primary, standby=standby, replicas=replicas, databases=JobDatabases(pool, replicas))
    try:
        await eventually(pair.is_used)
        yield pair
    finally:
        await replicas.close()
        await pool.close()


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """A primary and its standby, for all tests here; each has an event loop of its own, and these outlive them."""
    runner, stack = asyncio.Runner(), AsyncExitStack()
    primary = runner.run(stack.enter_async_context(postgres_server()))
    standby = runner.run(stack.enter_async_context(primary.standby()))
    yield primary, standby
    runner.run(stack.aclose())
    runner.close()


@pytest.fixture
async def pair(both: tuple[PostgresServer, PostgresServer]) -> AsyncGenerator[Pair]:
    connection = await asyncpg.connect(both[0].url)
    await connection.execute("DROP TABLE IF EXISTS trips; CREATE TABLE trips (id INT)")
    await connection.execute(
        "CREATE OR REPLACE FUNCTION add_trip() RETURNS BOOLEAN LANGUAGE sql AS "
        "$$ INSERT INTO trips VALUES (7); SELECT pg_is_in_recovery() $$"
    )
    await connection.close()
    async with pair_of(*both) as pair:
        yield pair


async def test_reads_go_to_the_standby_until_the_job_writes(pair: Pair) -> None:
    job = pair.job()
    assert await is_on_standby(job)
    assert await job.fetch("SELECT pg_is_in_recovery() AS here") == [{"here": True}]
    assert [row async for row in job.stream("SELECT pg_is_in_recovery() AS here")] == [{"here": True}]
    assert not await is_on_standby(job.fresh)
    assert await is_on_standby(job), "who has asked for what is fresh has written nothing"
    await job.execute("INSERT INTO trips VALUES (1)")
    assert not await is_on_standby(job), "it reads what it wrote"
    assert await job.fetchval("SELECT count(*) FROM trips") == 1
    assert await is_on_standby(pair.job()), "another job may read there"


async def test_a_transaction_and_a_later_attempt_are_the_primarys(pair: Pair) -> None:
    job = pair.job()
    async with job.transaction() as transaction:
        assert not await is_on_standby(transaction)
    assert not await is_on_standby(job)
    assert not await pair.job().in_transaction(is_on_standby)
    assert not await is_on_standby(pair.job(attempt=2))


async def test_a_read_that_turns_out_to_write_is_the_primarys_from_then_on(pair: Pair) -> None:
    for number in (1, 2):
        job = pair.job()
        assert await job.fetchval("SELECT add_trip()") is False
        assert not await is_on_standby(job), "it has written"
        assert await job.fetchval("SELECT count(*) FROM trips") == number, "once each"
    assert await pair.is_used(), "the standby was right"


async def test_a_query_that_takes_too_long_there_is_named_and_not_asked_again(pair: Pair) -> None:
    with pytest.raises(QueryTimeout, match=r"a query of make-report \(plugin reports\) was cancelled after"):
        await pair.job().fetchval("SELECT pg_sleep(30)")
    assert await pair.is_used()


async def test_one_that_lags_dies_and_returns_is_left_out_meanwhile(pair: Pair) -> None:
    primary, standby = await asyncpg.connect(pair.primary.url), await asyncpg.connect(pair.standby.url)
    with capture_logs() as logs:
        await standby.execute("SELECT pg_wal_replay_pause()")
        await primary.execute("INSERT INTO trips VALUES (1)")
        await eventually(lambda: told(logs, 1))
        assert await pair.is_out()
        assert "lags behind by" in str((await pair.standing()).problem)
        assert not await is_on_standby(pair.job())
        await standby.execute("SELECT pg_wal_replay_resume()")
        await eventually(lambda: told(logs, 2))
        assert await pair.job().fetchval("SELECT count(*) FROM trips") == 1

        await pair.standby.stop()
        assert not await is_on_standby(pair.job()), "at once, not after the next look"
        assert not await pair.is_used()
        await pair.standby.start()
        await eventually(lambda: told(logs, 4))
        assert await is_on_standby(pair.job())
    assert [line["event"] for line in logs] == ["replica left out", "replica is read from"] * 2
    await primary.close()


async def told(logs: list[EventDict], number: int) -> bool:
    return len(logs) == number


async def test_an_idle_primary_lets_nobody_lag(pair: Pair) -> None:
    began = time.monotonic()

    async def longer_than_anybody_may_lag() -> bool:
        return time.monotonic() - began > MAX_LAG.total_seconds() * 1.5

    await eventually(longer_than_anybody_may_lag)
    assert await pair.is_used()


async def test_what_is_no_standby_is_left_out(both: tuple[PostgresServer, PostgresServer]) -> None:
    primary = DatabasePool(dsn=both[0].url)
    replicas = Replicas(primary, {"replica-1": DatabasePool(dsn=both[0].url)}, max_lag=MAX_LAG)
    (standing,) = await replicas.standing()
    assert (standing.is_used, standing.problem) == (False, "is no standby")
    await replicas.close()
    await primary.close()


PLUGIN = """
from skycap import Context, Payload, Plugin

plugin = Plugin("figures")

class MakeReport(Payload, kind="make-report", queue="processing"):
    query: str

@plugin.job()
async def make_report(ctx: Context, payload: MakeReport) -> bool:
    return await ctx.db.fetchval(payload.query)
"""


class MakeReport(Payload, kind="make-report", queue="processing"):
    """What the plugin handles."""

    query: str


async def test_a_daemon_reads_from_its_replica_shows_it_and_names_a_query_that_takes_too_long(
    both: tuple[PostgresServer, PostgresServer], redis_url: str, plugins_folder: Path, tmp_path: Path
) -> None:
    (plugins_folder / "figures.py").write_text(PLUGIN)
    database = {"replica_urls": [both[1].url], "statement_timeout_seconds": 0.3, "slow_query_ms": 100}
    site = Site(
        folder=tmp_path,
        redis_url=redis_url,
        database_url=both[0].url,
        plugins_dir=plugins_folder,
        extra={"database": database, "jobs.make-report": {"attempts": 1}},
    )
    async with (
        site.daemon() as daemon,
        AsyncClient(redis_url) as client,
        ClientSession(daemon.http_url) as http,
    ):

        async def replica() -> dict[str, Any]:
            async with http.get("/api/system/health") as response:
                (replica,) = (await response.json())["database"]["replicas"]
                return dict(replica)

        async def is_used() -> bool:
            return bool((await replica())["used"])

        async def ended(query: str) -> Job:
            enqueued = await client.enqueue(MakeReport(query=query))
            job = await client.wait(enqueued.job_id, queue="processing", timeout=PATIENCE)
            assert job is not None
            return job

        await eventually(is_used)
        shown = await replica()
        assert (shown["name"], shown["connected"], shown["problem"]) == ("replica-1", True, None)
        assert shown["responseTime"].endswith("ms")
        assert shown["lagSeconds"] < 10
        assert (await ended("SELECT pg_is_in_recovery()")).result is True

        job = await ended("SELECT 'ada@example.com' IS NULL OR pg_sleep(30) IS NULL")
        assert job.state is JobState.DISCARDED
        (failure,) = job.errors
        assert "a query of make-report (plugin figures) was cancelled after" in failure.error
        assert "ada@" not in failure.error
        fingerprint = failure.error.partition("(fingerprint ")[2].rstrip(")")
        async with http.get("/metrics") as response:
            metrics = await response.text()
        line = f'skycap_db_slow_queries_total{{fingerprint="{fingerprint}",job_type="make-report"}} 1.0'
        assert line in metrics.splitlines()
        assert "ada@" not in site.log.read_text()
