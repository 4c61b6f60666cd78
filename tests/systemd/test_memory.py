"""A daemon whose plugin leaks is started again before the kernel ends it in mid-job."""

from __future__ import annotations

from pathlib import Path

import pytest

from skycap import AsyncClient
from skycap.job import Job, JobState
from skycap.observe.cgroup import memory_limit
from tests.support.daemons import Site
from tests.support.workers import PATIENCE, eventually
from tests.systemd.notified import NotifiedDaemon, notified
from tests.systemd.test_notify import Misbehave

JOBS = 10
"""Each leaks 40 MiB."""


@pytest.fixture
def site(redis_url: str, tmp_path: Path) -> Site:
    return Site(
        folder=tmp_path, redis_url=redis_url, plugins_dir=Path(__file__).parent / "plugins", load_plugins=("trouble",)
    )


async def test_it_drains_and_is_started_again_and_no_job_is_lost(site: Site) -> None:
    site.extra["worker"] = {"max_memory": "300MiB"}
    site.extra["queues.default"] = {"concurrency": 2}
    async with AsyncClient(site.redis_url) as client:
        queue = client.queue("default")
        leaking = [(await client.enqueue(Misbehave(how="leak"))).job_id for _ in range(JOBS)]
        heard: list[str] = []
        codes: list[int] = []

        async def are_done() -> bool:
            return (await queue.counts()).available + (await queue.counts()).running == 0

        while not await are_done():
            async with notified(site, trouble="hurried") as daemon:
                await daemon.hears("READY")

                async def has_ended(daemon: NotifiedDaemon = daemon) -> bool:
                    return daemon.process.returncode is not None or await are_done()

                await eventually(has_ended)
                codes.append(await (daemon.stop() if daemon.process.returncode is None else daemon.ended()))
                heard += [said["STATUS"] for said in daemon.heard if "STOPPING" in said]
        jobs = [await queue.get(job_id) for job_id in leaking]
    assert codes.count(75) > 0, "it was never over its limit"
    assert set(codes) <= {75, 0}
    assert any(status.startswith("memory used up, ") for status in heard)
    assert len(codes) < JOBS / 2, "it is started again for each job"
    assert [(job.state, job.attempt) for job in jobs if job] == [(JobState.COMPLETED, 1)] * JOBS


async def test_a_limit_below_what_it_needs_to_start_is_named_and_ignored(site: Site) -> None:
    site.extra["worker"] = {"max_memory": "64MiB"}
    async with notified(site, trouble="hurried") as daemon, AsyncClient(site.redis_url) as client:
        await client.wait((await client.enqueue(Misbehave(how="do_nothing"))).job_id, queue="default", timeout=PATIENCE)
        assert await daemon.stop() == 0
    assert daemon.log.read_text().count("memory limit ignored") == 1


async def test_a_handler_that_asks_for_too_much_fails_alone(site: Site) -> None:
    async with notified(site) as daemon, AsyncClient(site.redis_url) as client:
        queue = client.queue("default")
        job_id = (await client.enqueue(Misbehave(how="ask_for_too_much"))).job_id

        async def job() -> Job:
            found = await queue.get(job_id)
            assert found is not None
            return found

        async def has_failed() -> bool:
            return (await job()).state is JobState.RETRYABLE

        await eventually(has_failed)
        assert "MemoryError" in (await job()).errors[0].error
        assert await daemon.stop() == 0


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"memory.max": "1000\n", "memory.high": "max\n"}, 1000),
        ({"memory.max": "1000\n", "memory.high": "800\n"}, 800),
        ({"memory.max": "max\n", "memory.high": "max\n"}, None),
        ({}, None),
    ],
)
def test_the_limit_of_the_control_group_is_the_lower_one(
    tmp_path: Path, files: dict[str, str], limit: int | None
) -> None:
    (tmp_path / "system.slice").mkdir()
    for name, content in files.items():
        (tmp_path / "system.slice" / name).write_text(content)
    group = tmp_path / "cgroup"
    group.write_text("0::/system.slice\n")
    assert memory_limit(group, tmp_path) == limit


def test_no_control_group_is_no_limit(tmp_path: Path) -> None:
    assert memory_limit(tmp_path / "none", tmp_path) is None
