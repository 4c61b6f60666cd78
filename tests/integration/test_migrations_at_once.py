"""Migrations as processes meet them: ten at once, beside an older version, failing half way; and what they leave be."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import asyncpg
import pytest
from aiohttp import ClientSession

from skycap import AsyncClient
from skycap.demo.travel import add_sample_rows, create_travel_tables
from skycap.embedded.binaries import find_programs
from skycap.services import migrations
from skycap.services.migrations import migrate, pending
from tests.support.daemons import Site, skycap
from tests.support.workers import PATIENCE


@pytest.fixture
def site(redis_url: str, database_url: str, tmp_path: Path) -> Site:
    return Site(folder=tmp_path, redis_url=redis_url, database_url=database_url)


@pytest.mark.slow
async def test_of_ten_processes_that_migrate_at_once_one_applies_each_and_none_fails(
    site: Site, database_url: str
) -> None:
    config = site.config
    assert (await skycap("db", "migrate", "--check", "--config", config)).code == 1
    connection = await asyncpg.connect(database_url)
    missing = await pending(connection)
    done = await asyncio.gather(*(skycap("db", "migrate", "--config", config) for _ in range(10)))
    assert [(finished.code, finished.err) for finished in done] == [(0, "")] * 10
    applied = [line for finished in done for line in finished.out.splitlines() if line.startswith("applied: ")]
    assert sorted(applied) == [f"applied: {name}" for name in missing]
    assert (await skycap("db", "migrate", "--check", "--config", config)).code == 0
    await connection.close()


async def test_a_daemon_works_on_while_a_newer_version_migrates(
    site: Site, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = migrations._Migration(  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        name="9999_of_the_future.sql",
        sql="CREATE TABLE skycap.of_the_future (id INT); ALTER TABLE skycap.outbox ADD COLUMN of_the_future TEXT",
    )
    site.extra["outbox"] = {"poll_seconds": 0.1}
    connection = await asyncpg.connect(database_url)
    async with site.daemon() as daemon, AsyncClient(site.redis_url) as client:

        async def runs(text: str) -> None:
            await connection.execute("SELECT skycap.enqueue_v1('send-email', $1, job_id => $2)", _mail(text), text)
            async with asyncio.timeout(PATIENCE.total_seconds()):
                while await client.get(text, queue="email") is None:  # noqa: ASYNC110 - it comes by another process
                    await asyncio.sleep(0.01)

        await migrate(connection)
        await runs("before")
        known = migrations._migrations()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        monkeypatch.setattr(migrations, "_migrations", lambda: [*known, newer])
        assert await migrate(connection) == [newer.name]
        monkeypatch.undo()
        await runs("after")
        async with ClientSession(daemon.http_url) as http, http.get("/api/health/ready") as response:
            assert response.status == 200
    async with site.daemon():  # the older version starts beside it, too
        assert await pending(connection) == []
    await connection.close()


async def test_a_migration_that_fails_half_way_leaves_nothing_of_itself_and_keeps_those_before(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await asyncpg.connect(database_url)
    known = migrations._migrations()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    broken = migrations._Migration(  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        name="9999_broken.sql",
        sql="CREATE TABLE skycap.half (id INT); INSERT INTO skycap.half VALUES (1); SELECT 1/0",
    )
    monkeypatch.setattr(migrations, "_migrations", lambda: [*known, broken])
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(connection)
    assert await connection.fetchval("SELECT to_regclass('skycap.half') IS NULL")
    assert await connection.fetchval("SELECT count(*) FROM skycap.migrations") == len(known)
    assert await pending(connection) == [broken.name]
    await connection.close()


async def test_the_backends_tables_are_the_same_to_the_last_byte(site: Site, database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await create_travel_tables(connection)
    await add_sample_rows(connection)
    before = await asyncio.to_thread(_dump, database_url)
    assert "CREATE TABLE public.bookings" in before
    assert (await skycap("db", "migrate", "--config", site.config)).code == 0
    assert await connection.fetchval("SELECT count(*) FROM skycap.migrations") > 0
    assert await asyncio.to_thread(_dump, database_url) == before
    await connection.close()


def _dump(url: str) -> str:
    """All but skycap's own schema, without the random word that a newer pg_dump guards its output with."""
    programs = find_programs(redis=False, database=True).postgres
    assert programs is not None
    command: list[str | Path] = [programs / "pg_dump", "--dbname", url, "--exclude-schema", "skycap"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return "\n".join(line for line in text.splitlines() if "restrict " not in line)


def _mail(text: str) -> str:
    return json.dumps({"to": "ada@example.com", "subject": text, "html": "<p>Hello</p>"})
