"""A worker whose Redis is in trouble: it goes on, uses up no attempt, and picks up by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from skycap.errors import Unavailable
from skycap.job import JobState
from tests.support.redis import redis_at
from tests.support.workers import LEASE, Bench, bench

PICKS_UP_WITHIN = 5.0


@asynccontextmanager
async def full_memory(redis: Any) -> AsyncGenerator[None]:
    await redis.config_set("maxmemory", 1)
    try:
        yield
    finally:
        await redis.config_set("maxmemory", 0)


@asynccontextmanager
async def read_only(redis: Any) -> AsyncGenerator[None]:
    await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        yield
    finally:
        await redis.execute_command("REPLICAOF", "NO", "ONE")


class Gate:
    """A handler that begins, and ends when it is let."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()

    async def __call__(self, _ctx: Any, _payload: Any) -> str:
        first = not self.begun.is_set()
        self.begun.set()
        if first:
            await self.may_end.wait()
        return "done"


@asynccontextmanager
async def one_running(redis_url: str) -> AsyncGenerator[tuple[Bench, Gate, str]]:
    gate = Gate()
    async with bench(redis_url, gate) as b, b.working():
        job_id = await b.put("running")
        await gate.begun.wait()
        yield b, gate, job_id


async def test_a_job_that_ends_while_redis_takes_no_writes_is_settled_when_it_does_again(redis_url: str) -> None:
    async with redis_at(redis_url) as redis, one_running(redis_url) as (b, gate, job_id):
        async with read_only(redis):
            with pytest.raises(Unavailable):
                await b.put("refused")
            gate.may_end.set()
        began = time.monotonic()
        job = await b.finished(job_id)
        assert time.monotonic() - began < PICKS_UP_WITHIN
        assert (job.state, job.attempt, job.result) == (JobState.COMPLETED, 1, "done")
        assert (await b.finished(await b.put("next"))).state is JobState.COMPLETED
        assert b.ran == ["running", "next"]


async def test_a_job_whose_lease_ran_out_while_redis_was_away_goes_on_and_runs_once(redis_url: str) -> None:
    gate = Gate()
    async with redis_at(redis_url) as redis, bench(redis_url, gate, attempts=1) as b, b.working(lease=LEASE) as worker:
        job_id = await b.put("running")
        await gate.begun.wait()
        (consumer,) = worker.consumers
        # What an outage that is longer than the lease leaves behind, before anybody has renewed anything.
        consumer._last_turn -= 60  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # an outage takes too long
        consumer._misses = 1  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        await redis.zadd(b.queue.keys.run, {job_id: 1})
        await b.finished(await b.put("next"))  # claimed by the first turn after the outage
        gate.may_end.set()
        job = await b.finished(job_id)
    assert (job.state, job.attempt, b.ran) == (JobState.COMPLETED, 1, ["running", "next"])


async def test_a_full_memory_refuses_new_jobs_and_settles_those_there_are(redis_url: str) -> None:
    async with redis_at(redis_url) as redis, one_running(redis_url) as (b, gate, job_id), full_memory(redis):
        with pytest.raises(Unavailable, match="OOM"):
            await b.put("refused")
        gate.may_end.set()
        job = await b.finished(job_id)
        assert (job.state, job.attempt) == (JobState.COMPLETED, 1)


async def test_after_redis_lost_all_its_data_new_jobs_run_within_two_seconds(redis_url: str) -> None:
    async with redis_at(redis_url) as redis, one_running(redis_url) as (b, gate, _):
        await redis.flushall()
        await redis.script_flush()
        gate.may_end.set()
        began = time.monotonic()
        job = await b.finished(await b.put("new"))
        assert time.monotonic() - began < 2
        assert (job.state, job.attempt) == (JobState.COMPLETED, 1)
        parts = await redis.hgetall(b.queue.keys.meta)
        assert b"base:keep_finished" in parts, "the queue's policy is there again"
