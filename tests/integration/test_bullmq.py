"""The forwarder from BullMQ's queues, with real npm packages of it, that is killed and stopped at any moment."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from skycap import AsyncClient
from tests.support.daemons import Site
from tests.support.node import NodeSite
from tests.support.redis import redis_at
from tests.support.redis_servers import free_port
from tests.support.workers import eventually

PLUGIN = """
from pathlib import Path
from skycap import Context, Payload, Plugin
plugin = Plugin("diary")
class WriteLine(Payload, kind="write-line", queue="processing", priority=5):
    number: int
@plugin.job()
async def write_line(ctx: Context, payload: WriteLine) -> None:
    with Path({path!r}).open("a") as diary:
        diary.write(f"{{payload.number}}\\n")
"""

JOBS = 500


@dataclass(kw_only=True)
class Bridge:
    """A backend's BullMQ on skycap's own Redis, and a site whose jobs write their numbers into a diary."""

    node: NodeSite
    redis_url: str
    site: Site

    @property
    def diary(self) -> list[int]:
        """The numbers of the jobs that ran, one for each time."""
        file = self.site.folder / "diary"
        return [int(line) for line in file.read_text().splitlines()] if file.exists() else []

    async def produce(self, *jobs: dict[str, Any], queue: str = "processing") -> dict[str, Any]:
        """What stands where afterwards."""
        done = await self.node.run("bullmq-queue.mjs", self.redis_url, queue, json.dumps(jobs))
        assert done.code == 0, done.err
        found: dict[str, Any] = json.loads(done.out)
        return found

    @asynccontextmanager
    async def forwarder(self, skycap_url: str) -> AsyncGenerator[asyncio.subprocess.Process]:
        process = await self.node.start(
            "forward-bullmq.mjs", SKYCAP_URL=skycap_url, BULLMQ_REDIS_URL=self.redis_url, BULLMQ_LOCK_SECONDS="1"
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def count(self, state: str) -> int:
        async with redis_at(self.redis_url) as redis:
            return int(await redis.zcard(f"bull:processing:{state}"))

    async def until(self, state: str, number: int) -> None:
        async def is_so() -> bool:
            return await self.count(state) >= number

        await eventually(is_so)

    async def until_nothing_waits(self) -> None:
        """So that a job that was enqueued twice has run twice."""
        async with AsyncClient(self.redis_url) as client:

            async def is_so() -> bool:
                counts = await client.queue("processing").counts()
                return counts.available + counts.running + counts.later == 0

            await eventually(is_so)

    async def until_run(self, number: int) -> None:
        async def is_done() -> bool:
            return len(self.diary) >= number

        await eventually(is_done)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> NodeSite:
    return NodeSite.make(tmp_path_factory.mktemp("node"))


@pytest.fixture(params=[5, 6], ids=["bullmq5", "bullmq6"])
def bridge(
    request: pytest.FixtureRequest, node: NodeSite, redis_url: str, plugins_folder: Path, tmp_path: Path
) -> Bridge:
    (plugins_folder / "diary.py").write_text(PLUGIN.format(path=str(tmp_path / "diary")))
    own = {"http": {"bind": f"127.0.0.1:{free_port()}"}}
    site = Site(folder=tmp_path, redis_url=redis_url, plugins_dir=plugins_folder, extra=own)
    backend = NodeSite(folder=node.backend(tmp_path / "backend", bullmq=f"bullmq{'' if request.param == 5 else 6}"))
    return Bridge(node=backend, redis_url=redis_url, site=site)


def line(number: int, **opts: object) -> dict[str, Any]:
    return {"name": "write-line", "data": {"number": number}, "opts": opts}


async def test_every_job_is_run_once_however_often_the_forwarder_is_killed(bridge: Bridge) -> None:
    # That none is run twice must not hang on the finished ones' being remembered.
    bridge.site.extra["queues.processing"] = {"keep_finished_count": 0}
    await bridge.produce(*(line(number, delay=number % 7 * 100) for number in range(JOBS)))
    kills = 0
    async with bridge.site.daemon() as daemon:
        while (before := await bridge.count("completed")) < JOBS:
            async with bridge.forwarder(daemon.http_url):
                await bridge.until("completed", min(before + JOBS // 5, JOBS))
            kills += 1
        await bridge.until_nothing_waits()
    assert sorted(bridge.diary) == list(range(JOBS))
    assert kills >= 3
    found = await bridge.produce()
    assert found["stalled"] > 0, "each kill found no job in hand"
    assert len(set(found["results"])) == JOBS


async def test_no_attempt_is_lost_while_skycap_is_away(bridge: Bridge) -> None:
    await bridge.produce(line(1, attempts=1), line(2, attempts=1, priority=7))
    url = f"http://{bridge.site.extra['http']['bind']}"
    async with bridge.forwarder(url) as process:
        assert process.stderr is not None
        assert b"cannot be reached" in await process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    found = await bridge.produce()
    assert (found["counts"]["active"], found["counts"]["failed"], found["attempts"]) == (0, 0, 0)
    async with bridge.forwarder(url) as process:
        assert process.stderr is not None
        assert b"cannot be reached" in await process.stderr.readline()
        async with bridge.site.daemon():
            await bridge.until_run(2)
            assert await process.stderr.readline() == b"skycap takes jobs again\n"
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    assert sorted(bridge.diary) == [1, 2]
    ids = (await bridge.produce())["results"]
    async with AsyncClient(bridge.redis_url) as client:
        jobs = [job for job_id in ids if (job := await client.queue("processing").get(job_id))]
    assert sorted((job.payload["number"], job.priority, job.tags) for job in jobs) == [
        (1, 5, ("bullmq-processing",)),
        (2, 7, ("bullmq-processing",)),
    ]


async def test_what_skycap_refuses_fails_at_once_with_the_reason(bridge: Bridge) -> None:
    wrong = {"name": "write-line", "data": {"number": "a secret"}, "opts": {}}
    unknown: dict[str, Any] = {"name": "write-nothing", "data": {}, "opts": {}}
    odd = {"name": "write-line", "data": {"number": 8}, "opts": {"jobId": "ö/ß"}}
    await bridge.produce(wrong, unknown, line(7), odd)
    async with bridge.site.daemon() as daemon, bridge.forwarder(daemon.http_url):
        await bridge.until_run(2)
        await bridge.until("failed", 2)
    assert sorted(bridge.diary) == [7, 8]
    found = await bridge.produce()
    reasons = {name: (reason, attempts) for name, reason, attempts in found["reasons"]}
    assert reasons.keys() == {"write-line", "write-nothing"}
    assert "payload.number" in reasons["write-line"][0]
    assert "a secret" not in reasons["write-line"][0]
    assert "write-nothing" in reasons["write-nothing"][0]
    assert {attempts for _, attempts in reasons.values()} == {1}


async def test_repeated_jobs_are_forwarded_when_they_are_due(bridge: Bridge) -> None:
    async with bridge.site.daemon() as daemon, bridge.forwarder(daemon.http_url):
        await bridge.produce({"name": "write-line", "data": {"number": 3}, "every": {"every": 200, "limit": 3}})
        await bridge.until_run(3)
    assert bridge.diary == [3] * 3
