"""Daemons that are killed, stopped, cut off and robbed of their data under load: no accepted job is lost."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop
from redis import Redis

from skycap import AsyncClient
from skycap.engine.link import Link
from skycap.errors import Unavailable
from skycap.job import Job, JobState
from tests.support.crash import Fleet, Load, Verdict, cut_all_connections, until_settled
from tests.support.diary import LEASE_SECONDS, CrashSite, Gated, SyncWork, Work, environment_without_uvloop
from tests.support.redis import redis_at
from tests.support.workers import PATIENCE, eventually

RECOVERY_SECONDS = LEASE_SECONDS + 4
"""A lease, the two seconds between two looks at an idle queue, and two more for a busy machine."""


@pytest.fixture
def site(redis_url: str, tmp_path: Path) -> CrashSite:
    return CrashSite(folder=tmp_path, redis_url=redis_url)


async def test_killed_and_cut_off_under_load_no_job_is_lost(site: CrashSite) -> None:
    await _kill_under_load(site, random.Random(1), kills=3, longest_pause=0.6)  # noqa: S311 - the same each time


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_killed_a_hundred_times_no_job_is_lost(site: CrashSite) -> None:
    seed = random.randrange(2**32)  # noqa: S311 - another course each time
    print(f"seed {seed}")  # noqa: T201 - with it, the run can be repeated
    await _kill_under_load(site, random.Random(seed), kills=100, longest_pause=2)  # noqa: S311 - no secret


async def _kill_under_load(site: CrashSite, chance: random.Random, *, kills: int, longest_pause: float) -> None:
    async with AsyncClient(site.redis_url) as client:
        load = Load(client=client, chance=chance, jobs_per_second=150)
        async with Fleet(site=site, chance=chance).running(3) as fleet:
            async with load.applied():
                for number in range(kills):
                    await _after(longest_pause * chance.random(), load)
                    if number % 2:
                        await cut_all_connections(site.redis_url)
                    await fleet.kill_one()
            await until_settled(client)
        discarded = (await client.queue("default").counts()).discarded
    verdict = Verdict.of(load, site.diary(), fleet.kills)
    print(f"{kills} kills: {verdict}, discarded {discarded}")  # noqa: T201 - with -s it says how it went
    assert verdict.acknowledged > 20 * kills
    assert (verdict.lost, verdict.unexpected, discarded) == (frozenset(), frozenset(), 0)
    assert verdict.unexplained == frozenset(), "ended twice without a kill"
    assert verdict.recovery_seconds < RECOVERY_SECONDS


async def _after(seconds: float, load: Load) -> None:
    """At a moment that is random, but not before there is work to be in the middle of."""
    began, had = time.monotonic(), len(load.acknowledged)

    async def worth_it() -> bool:
        return time.monotonic() - began >= seconds and len(load.acknowledged) > had + 20

    await eventually(worth_it)


async def test_a_stopped_worker_that_wakes_up_cannot_settle_what_was_taken_over(site: CrashSite) -> None:
    async with AsyncClient(site.redis_url) as client, Fleet(site=site).running(2):
        queue = client.queue("default")
        job_id = (await client.enqueue(Gated())).job_id
        sleeper = (await site.started(job_id)).pid
        os.kill(sleeper, signal.SIGSTOP)
        other = (await site.started(job_id, times=2)).pid
        site.let_end(sleeper)
        os.kill(sleeper, signal.SIGCONT)

        async def it_noticed() -> bool:
            log = site.site.log.read_text()
            return "lease lost" in log or "the lease was lost" in log

        await eventually(it_noticed)
        running = await queue.get(job_id)
        assert running is not None
        assert (running.state, running.result) == (JobState.RUNNING, None)
        site.let_end(other)
        job = await _finished(client, job_id)
        assert other != sleeper
        assert (job.state, job.result) == (JobState.COMPLETED, other)
    async with redis_at(site.redis_url) as redis:
        assert await redis.hget(queue.keys.meta, "completed") == b"1"


async def test_a_job_three_times_as_long_as_its_lease_runs_once(site: CrashSite) -> None:
    seconds = 3 * LEASE_SECONDS
    async with AsyncClient(site.redis_url) as client, site.daemon():
        added = await client.enqueue_many([Work(seconds=seconds), SyncWork(seconds=seconds)])
        for job_id in (one.job_id for one in added):
            job = await _finished(client, job_id)
            assert (job.state, job.attempt) == (JobState.COMPLETED, 1)
            assert len(site.entries("start", job_id)) == len(site.entries("end", job_id)) == 1


async def test_when_redis_loses_all_its_data_under_load_new_jobs_run_within_two_seconds(site: CrashSite) -> None:
    async with AsyncClient(site.redis_url) as client, site.daemon():
        load = Load(client=client, chance=random.Random(2), jobs_per_second=150)  # noqa: S311 - no secret
        async with load.applied():
            await _after(0.2, load)
            async with redis_at(site.redis_url) as redis:
                await redis.flushall()
            lost_at = time.monotonic()
            job_id = (await client.enqueue(Work())).job_id
            assert (await site.started(job_id)).at - lost_at < 2
        await until_settled(client)
        assert (await client.queue("default").counts()).discarded == 0


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_an_idle_daemon_ends_at_once(site: CrashSite, loop: str, tmp_path: Path) -> None:
    environ = {} if loop == "uvloop" else environment_without_uvloop(tmp_path)
    async with AsyncClient(site.redis_url) as client, site.daemon(environ) as daemon:
        job = await _finished(client, (await client.enqueue(Work())).job_id)
        assert str(job.result).partition(".")[0] == loop
        told_at = time.monotonic()
        assert await daemon.stop() == 0
        assert time.monotonic() - told_at < 1.5


@pytest.mark.parametrize("loop_factory", [uvloop.Loop, asyncio.SelectorEventLoop])
def test_whoever_asks_just_when_redis_hangs_up_is_told_that_it_is_away(
    redis_url: str, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        refused = [runner.run(_ask_after_hanging_up(redis_url, turns)) for turns in range(6)]
    assert True in refused


async def _ask_after_hanging_up(redis_url: str, turns: int) -> bool:
    """Whether Redis was away, so many turns of the event loop after it ended the connection."""
    link = Link.to(redis_url)
    await link.command("PING")
    with cast("Any", Redis).from_url(redis_url) as admin:  # it blocks the event loop, which must not see the end before
        admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    for _ in range(turns):
        await asyncio.sleep(0)
    try:
        await link.command("PING")
    except Unavailable:
        return True
    finally:
        await link.close()
    return False


async def _finished(client: AsyncClient, job_id: str) -> Job:
    job = await client.wait(job_id, queue="default", timeout=timedelta(seconds=PATIENCE.total_seconds()))
    assert job is not None
    return job
