"""kill -9 of relays and of PostgreSQL while backends commit and roll back: each row is exactly one job, run once."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from skycap.embedded import EmbeddedServers
from skycap.services.migrations import migrate
from tests.support.daemons import Site
from tests.support.outbox_crash import PLUGIN, Backend, Verdict, crash, fleet
from tests.support.workers import eventually

RELAYS = 2
BACKENDS = 6


async def test_ten_kills_lose_no_row_and_double_none(redis_url: str, tmp_path: Path) -> None:
    await judge(redis_url, tmp_path, kills=10, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_two_hundred_kills_lose_no_row_and_double_none(redis_url: str, tmp_path: Path) -> None:
    seed = random.randrange(2**32)  # noqa: S311 - another course each time
    print(f"seed {seed}")  # noqa: T201 - with it, the run can be repeated
    await judge(redis_url, tmp_path, kills=200, seed=seed)


async def judge(redis_url: str, folder: Path, *, kills: int, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - no secret
    done = {"relays killed": 0, "relays stopped and woken": 0, "PostgreSQL crashes": 0}
    async with (
        own_postgres(folder / "postgres") as servers,
        installation(redis_url, servers.database_url, folder) as site,
    ):
        backends = [
            Backend(database_url=servers.database_url, chance=chance, name=f"backend-{number}")
            for number in range(BACKENDS)
        ]
        config = site.config
        config.write_text(f'load_plugins = ["runs"]\n{config.read_text()}')
        async with fleet(config, RELAYS) as relays:
            working = [asyncio.create_task(backend.work()) for backend in backends]
            try:
                for _ in range(kills):
                    await _after(chance.random() / 4, folder)
                    what = chance.choices(list(done), weights=(7, 2, 2))[0]
                    done[what] += 1
                    if what == "relays killed":
                        await relays.kill_one(chance)
                    elif what == "relays stopped and woken":
                        await relays.stop_one(chance)
                    else:
                        await crash(servers, folder / "postgres")
                    if chance.random() < 0.3:
                        relays.wake_one()
            finally:
                for task in working:
                    task.cancel()
                ends = await asyncio.gather(*working, return_exceptions=True)
            assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends
            while relays.stopped:
                relays.wake_one()
            connection = await asyncpg.connect(servers.database_url)
            try:
                await _until_all_run(connection, folder)
                rows = [row["job_id"] for row in await connection.fetch("SELECT job_id FROM skycap.outbox")]
            finally:
                await connection.close()
    verdict = Verdict.of(backends, rows, _runs(folder))
    print(_table(done, verdict))  # noqa: T201 - with -s it says how it went
    assert verdict.committed > 20 * kills
    assert (verdict.lost, verdict.repeated, verdict.undone, verdict.forgotten) == (
        frozenset(),
        frozenset(),
        frozenset(),
        frozenset(),
    )


@asynccontextmanager
async def own_postgres(folder: Path) -> AsyncGenerator[EmbeddedServers]:
    async with EmbeddedServers(folder, redis=False) as servers:
        connection = await asyncpg.connect(servers.database_url)
        await migrate(connection)
        await connection.close()
        yield servers


@asynccontextmanager
async def installation(redis_url: str, database_url: str, folder: Path) -> AsyncGenerator[Site]:
    """A daemon that runs the jobs, and is not killed: a job that it has begun would rightly run again."""
    plugins = folder / "plugins"
    plugins.mkdir()
    (plugins / "runs.py").write_text(PLUGIN.format(folder=str(folder)))
    worker = folder / "worker"
    worker.mkdir()
    # Redis forgets a job as soon as it has run: what comes a second time is not known by its id.
    forgetful = {"queues.default": {"keep_finished_seconds": 0, "keep_finished_count": 0}}
    only = Site(folder=worker, redis_url=redis_url, plugins_dir=plugins, extra=forgetful)
    async with only.daemon():
        yield Site(
            folder=folder,
            redis_url=redis_url,
            database_url=database_url,
            plugins_dir=plugins,
            extra={**forgetful, "outbox": {"batch": 50, "poll_seconds": 0.2}},
        )


async def _after(seconds: float, folder: Path) -> None:
    """At a moment that is random, since nobody tells when a batch is half done; but not before relays are at work."""
    began, had = time.monotonic(), len(_runs(folder))

    async def worth_it() -> bool:
        return time.monotonic() - began >= seconds and len(_runs(folder)) > had + 20

    await eventually(worth_it)


async def _until_all_run(connection: asyncpg.Connection[asyncpg.Record], folder: Path) -> None:
    """However many there are, as long as it goes on."""
    while not await _all_run(connection, folder):
        had = len(_runs(folder))

        async def goes_on(had: int = had) -> bool:
            return len(_runs(folder)) > had or await _all_run(connection, folder)

        await eventually(goes_on)


async def _all_run(connection: asyncpg.Connection[asyncpg.Record], folder: Path) -> bool:
    """Whether nothing waits, and as many have run as there are; a moment later none may have been added."""
    waiting = await connection.fetchval("SELECT count(*) FROM skycap.outbox WHERE relayed_at IS NULL")
    total = await connection.fetchval("SELECT count(*) FROM skycap.outbox")
    return bool(waiting == 0 and len(set(_runs(folder))) >= total)


def _runs(folder: Path) -> list[str]:
    path = folder / "runs"
    return path.read_text().split() if path.exists() else []


def _table(done: dict[str, int], verdict: Verdict) -> str:
    figures = {
        **done,
        "rows committed": verdict.committed,
        "rows rolled back": verdict.rolled_back,
        "lost": len(verdict.lost),
        "run more than once": len(verdict.repeated),
        "rolled back, and run": len(verdict.undone),
        "promised, and not there": len(verdict.forgotten),
    }
    return "\n".join(f"{name:24} {figure:>7}" for name, figure in figures.items())
