"""A kind whose table the backend does not have is off: it is said once, and nothing fails on and on."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from skycap import AsyncClient, Context, JobState, Payload, Plugin
from skycap.absent_tables import AbsentTables
from skycap.services.database import DatabasePool
from tests.support.daemons import Site
from tests.support.workers import PATIENCE, eventually


class SweepYachts(Payload, kind="sweep-yachts"):
    """Handled by PLUGIN."""


PLUGIN = """
from skycap import Context, Payload, Plugin

plugin = Plugin("yachts")


class SweepYachts(Payload, kind="sweep-yachts"):
    pass


@plugin.job(tables=("yachts", "users"))
async def sweep_yachts(ctx: Context, payload: SweepYachts) -> int:
    return await ctx.db.fetchval("SELECT count(*) FROM yachts")

"""


@pytest.fixture
async def pool(database_url: str) -> AsyncGenerator[DatabasePool]:
    pool = DatabasePool(dsn=database_url)
    yield pool
    await pool.close()


async def test_what_is_off_is_said_once_and_so_is_that_it_is_on_again(pool: DatabasePool) -> None:
    plugin = Plugin("yachts")

    @plugin.job(tables=("users", '"Yachts"'))
    async def sweep_yachts(ctx: Context, payload: SweepYachts) -> None: ...

    tables = AbsentTables([sweep_yachts], pool)
    await pool.execute("CREATE TABLE users (id TEXT)")
    with capture_logs() as lines:
        assert tables.why_off("sweep-yachts") is None
        await tables.look()
        await tables.look()
        assert tables.why_off("sweep-yachts") == 'the database has no table "Yachts"'
        assert tables.why_off("send-email") is None
        await pool.execute('CREATE TABLE "Yachts" (id TEXT)')
        await tables.look()
        assert tables.why_off("sweep-yachts") is None
    assert [(line["event"], line["kind"]) for line in lines] == [
        ("jobs of this kind are off", "sweep-yachts"),
        ("jobs of this kind are on again", "sweep-yachts"),
    ]


async def test_a_daemon_says_at_its_start_what_is_off_and_does_not_run_it(
    redis_url: str, database_url: str, tmp_path: Path, plugins_folder: Path
) -> None:
    (plugins_folder / "yachts.py").write_text(PLUGIN)
    site = Site(folder=tmp_path, redis_url=redis_url, database_url=database_url, plugins_dir=plugins_folder)

    async def is_said() -> bool:
        return site.log.read_text().count('"kind": "sweep-yachts", "reason": "the database has no table') == 1

    async with site.daemon(), AsyncClient(redis_url) as client:
        await eventually(is_said)
        job = await client.wait((await client.enqueue(SweepYachts())).job_id, timeout=PATIENCE)
    assert job is not None
    assert (job.state, job.reason) == (JobState.CANCELLED, "the database has no table yachts, users")
