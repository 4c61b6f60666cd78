"""``skycap outbox`` and ``skycap db grant``, and the relay of a daemon as it is run."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import asyncpg
import pytest

from skycap import AsyncClient
from skycap.services.migrations import migrate
from tests.support.commands import command
from tests.support.daemons import Site
from tests.support.workers import PATIENCE, eventually

PLUGIN = """
from skycap import Payload, Plugin

plugin = Plugin("notes")


class Note(Payload, kind="take-note"):
    text: str = ""


@plugin.job()
async def take_note(ctx, payload: Note) -> str:
    return payload.text
"""


@pytest.fixture
def site(redis_url: str, database_url: str, tmp_path: Path, plugins_folder: Path) -> Site:
    (plugins_folder / "notes.py").write_text(PLUGIN)
    return Site(folder=tmp_path, redis_url=redis_url, database_url=database_url, plugins_dir=plugins_folder)


@pytest.fixture
async def backend(database_url: str) -> AsyncGenerator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def test_a_daemon_runs_what_was_enqueued_in_sql(
    site: Site, backend: asyncpg.Connection[asyncpg.Record], redis_url: str
) -> None:
    await migrate(backend)
    async with site.daemon(), AsyncClient(redis_url) as client:
        enqueue = "SELECT id FROM skycap.enqueue_v1('take-note', '{\"text\": \"hello\"}')"
        job_id = str(await backend.fetchval(enqueue))
        job = await client.wait(job_id, queue="default", timeout=PATIENCE)
        while job is None:  # not relayed yet
            job = await client.wait(job_id, queue="default", timeout=PATIENCE)
        assert job.result == "hello"


async def test_a_daemon_without_the_tables_says_how_to_make_them_and_goes_on(
    site: Site, backend: asyncpg.Connection[asyncpg.Record]
) -> None:
    site.extra["database"] = {"migrate": False}
    async with site.daemon():

        async def says_so() -> bool:
            return "run `skycap db migrate`" in site.log.read_text()

        await eventually(says_so)
        await migrate(backend)
        await backend.execute("SELECT skycap.enqueue_v1('take-note')")

        async def relays() -> bool:
            return bool(await backend.fetchval("SELECT relayed_at IS NOT NULL FROM skycap.outbox"))

        await eventually(relays)


async def test_the_outbox_shows_what_waits_and_what_did_not_fit(
    site: Site, backend: asyncpg.Connection[asyncpg.Record]
) -> None:
    await migrate(backend)
    await backend.execute(
        "SELECT skycap.enqueue_v1('take-note', job_id => 'a'), skycap.enqueue_v1('take-note', job_id => 'b')"
    )
    await backend.execute("UPDATE skycap.outbox SET relayed_at = now(), problem = 'nobody likes it' WHERE job_id = 'a'")
    found = (await command("outbox", "--json", "--config", site.config)).json
    assert found["waiting"] == 1
    assert 0 <= found["oldestAgeSeconds"] < 60
    assert [(each["jobId"], each["problem"]) for each in found["problems"]] == [("a", "nobody likes it")]
    shown = await command("outbox", "--config", site.config)
    assert "nobody likes it" in shown.out
    replayed = await command("outbox", "replay", "--since", "2026-01-01T00:00Z", "--config", site.config)
    assert replayed.out == "1 jobs wait in the outbox again\n"
    assert (await command("outbox", "--json", "--config", site.config)).json["waiting"] == 2


async def test_a_backends_role_is_granted_what_it_needs(
    site: Site, backend: asyncpg.Connection[asyncpg.Record], database_url: str
) -> None:
    await migrate(backend)
    await backend.execute('CREATE ROLE "back""end" LOGIN')
    try:
        shown = await command("db", "grant", 'back"end', "--show", "--config", site.config)
        may = """SELECT has_schema_privilege('back"end', 'skycap', 'USAGE')"""
        assert not await backend.fetchval(may)
        granted = await command("db", "grant", 'back"end', "--config", site.config)
        assert granted.out == shown.out
        assert await backend.fetchval(may)
    finally:
        await backend.execute('DROP OWNED BY "back""end"; DROP ROLE "back""end"')
    missing = await command("db", "grant", "nobody", "--config", site.config)
    assert (missing.code, missing.err) == (64, "there is no role nobody: create it first, as the backend's own")
