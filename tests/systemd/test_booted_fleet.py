"""Several daemons, hosts and versions on one Redis and one PostgreSQL, under systemd that is really booted.

SKYCAP_OTHER_WHEEL may name a wheel of another version to run beside this one; else it is this tree, numbered anew.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

from skycap import AsyncClient
from skycap.job import JobState
from tests.support.workers import PATIENCE, eventually
from tests.systemd.conftest import wheel_of
from tests.systemd.machine import DATABASE_URL, INNER_REDIS_URL, NEIGHBOUR, ROOT, SHARED, Machine, booted
from tests.systemd.plugins.runs import NoteNovelty, NoteRun

pytestmark = pytest.mark.timeout(240)

KEEP = "[queues.default]\nkeep_finished_count = 10000\n"
CONFIG = KEEP + '[http]\nbind = "unix:/run/skycap/{name}/http.sock"'
RUNS = "CREATE TABLE runs (job text, host text, daemon text, version text)"


@dataclass(frozen=True, kw_only=True)
class Run:
    """A job that was begun."""

    job: str
    host: str
    daemon: str
    version: str


@pytest.fixture
async def west(machine: Machine, database: str) -> AsyncIterator[Machine]:
    """The machine that has the servers; its daemons know the database, in which nothing has run yet."""
    await machine.run("hostname west")
    await machine.credential("database_url", database)
    await machine.psql("DROP TABLE IF EXISTS runs", RUNS, "ALTER TABLE runs OWNER TO fleet", database="travel")
    await machine.run("cd /etc/skycap && env CREDENTIALS_DIRECTORY=$PWD/credentials /opt/skycap/bin/skycap db migrate")
    yield machine
    await machine.run("rm /etc/skycap/credentials/database_url")


async def runs(machine: Machine) -> list[Run]:
    rows = await machine.psql("SELECT job, host, daemon, version FROM runs", database="travel")
    return [
        Run(job=job, host=host, daemon=daemon, version=number)
        for job, host, daemon, number in (row.split("|") for row in rows.splitlines())
    ]


async def enqueue_for_ever(client: AsyncClient, job_ids: list[str]) -> None:
    while True:
        enqueued = await client.enqueue_many([NoteRun() for _ in range(5)])
        job_ids += [each.job_id for each in enqueued]
        await asyncio.sleep(0.1)


@asynccontextmanager
async def under_load(client: AsyncClient) -> AsyncGenerator[list[str]]:
    """The ids of jobs that are being enqueued all the time, 50 a second; at the end all of them are done."""
    job_ids: list[str] = []
    load = asyncio.create_task(enqueue_for_ever(client, job_ids))
    try:
        yield job_ids
    finally:
        load.cancel()
        with suppress(asyncio.CancelledError):
            await load
    await all_are_done(client, job_ids)


async def states(client: AsyncClient, job_ids: list[str]) -> Counter[JobState | None]:
    jobs = [await client.queue("default").get(job_id) for job_id in job_ids]
    return Counter(job.state if job else None for job in jobs)


async def all_are_done(client: AsyncClient, job_ids: list[str]) -> None:
    async with asyncio.timeout(PATIENCE.total_seconds()):
        for job_id in job_ids:
            await client.wait(job_id, queue="default", timeout=PATIENCE)


async def test_a_rolling_restart_under_load_loses_and_doubles_nothing(west: Machine, client: AsyncClient) -> None:
    async with (
        west.daemon("1", config=CONFIG.format(name="1")) as one,
        west.daemon("2", config=CONFIG.format(name="2")) as two,
    ):
        before = [await west.show(unit) for unit in (one, two)]
        async with under_load(client) as job_ids:
            for unit in (one, two, one):
                so_far = len(job_ids)
                await west.run(f"systemctl restart {unit}")
                assert len(job_ids) > so_far, "there was no load"
        after = [await west.show(unit) for unit in (one, two)]
    began = await runs(west)
    assert await states(client, job_ids) == {JobState.COMPLETED: len(job_ids)}
    assert Counter(run.job for run in began) == Counter(job_ids), "begun not just once"
    assert {run.daemon for run in began} == {"1", "2"}
    assert all(was["MainPID"] != now["MainPID"] for was, now in zip(before, after, strict=True))
    assert [now["NRestarts"] for now in after] == ["0", "0"]


@pytest.fixture(scope="module")
def other_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = os.environ.get("SKYCAP_OTHER_WHEEL")
    return Path(given) if given else renumbered_wheel(tmp_path_factory.mktemp("other"))


def renumbered_wheel(folder: Path) -> Path:
    tree = folder / "tree"
    hidden = shutil.ignore_patterns(".*", "__pycache__", "tests")
    shutil.copytree(ROOT, tree, ignore=hidden)
    project = tree / "pyproject.toml"
    project.write_text(re.sub(r'^version = ".*"$', 'version = "99.0.0"', project.read_text(), flags=re.MULTILINE))
    return wheel_of(tree, folder)


@pytest.fixture(scope="module")
def neighbour(started: Machine, other_wheel: Path) -> Iterator[Machine]:
    """Another host, with another version, whose daemons use the first one's servers."""
    with booted(other_wheel, neighbour=started) as machine:
        asyncio.run(_settle_in(machine))
        yield machine


async def _settle_in(machine: Machine) -> None:
    await machine.run("hostname east")
    await machine.install()
    await machine.credential("redis_url", INNER_REDIS_URL.replace(SHARED, NEIGHBOUR))
    await machine.credential("database_url", DATABASE_URL.replace(SHARED, NEIGHBOUR))


async def test_hosts_of_two_versions_share_the_jobs_and_what_only_one_knows_waits_for_it(
    west: Machine, client: AsyncClient, neighbour: Machine
) -> None:
    async with west.daemon("ours", config=KEEP) as ours:
        novelty = (await client.enqueue(NoteNovelty())).job_id

        async def is_put_off() -> bool:
            job = await client.queue("default").get(novelty)
            return job is not None and job.state is JobState.SCHEDULED

        await eventually(is_put_off)
        async with neighbour.daemon("theirs", config=KEEP, drop_in="Environment=NOVEL=1"):

            async def have_both_run() -> bool:
                return {run.host for run in await runs(west) if run.job in job_ids} == {"east", "west"}

            async with under_load(client) as job_ids:
                await eventually(have_both_run)
            await west.run(f"systemctl stop {ours}")
            await all_are_done(client, [novelty])
    began = await runs(west)
    assert await states(client, [*job_ids, novelty]) == {JobState.COMPLETED: len(job_ids) + 1}
    assert Counter(run.job for run in began) == Counter([*job_ids, novelty])
    hosts = {(run.host, run.version) for run in began if run.job in job_ids}
    (other,) = {number for host, number in hosts if host == "east"}
    assert hosts == {("west", version("skycap")), ("east", other)}
    assert [run.host for run in began if run.job == novelty] == ["east"]
