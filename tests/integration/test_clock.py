"""Schedules on a real Valkey: each tick once, whoever ticks, and nothing missed for good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from apscheduler.triggers.interval import IntervalTrigger  # pyright: ignore[reportMissingTypeStubs]  # it has none

from skycap import AsyncClient
from skycap.engine.queue import Queue
from skycap.job import JobState
from skycap.maintenance.clock import Clock
from skycap.schedule import Schedule
from tests.support.workers import Note, eventually

EVERY_MINUTE = Schedule(name="sweep", crontab="* * * * *", zone="UTC", payload=Note(text="sweep"), plugin="tests")


@pytest.fixture
async def queue(redis_url: str) -> AsyncGenerator[Queue]:
    async with AsyncClient(redis_url) as client:
        yield client.queue("tests")


def clock(queue: Queue, *, every: timedelta | None = None) -> Clock:
    made = Clock([EVERY_MINUTE], {"tests": queue})
    if every is not None:
        # A crontab knows no seconds, and a test has no minutes.
        anchor = datetime(1970, 1, 1, tzinfo=UTC)
        made.triggers["sweep"] = cast("Any", IntervalTrigger)(
            seconds=every.total_seconds(), start_date=anchor, timezone=UTC
        )
    return made


@asynccontextmanager
async def ticking(*clocks: Clock) -> AsyncGenerator[None]:
    tasks = [asyncio.create_task(each.run()) for each in clocks]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def enqueued(queue: Queue) -> list[str]:
    return [job.id for job in await queue.jobs(JobState.AVAILABLE, limit=1000)]


async def test_three_clocks_enqueue_each_tick_once(queue: Queue) -> None:
    period = timedelta(milliseconds=200)

    async def six_ticks() -> bool:
        return len(await enqueued(queue)) >= 6

    async with ticking(*(clock(queue, every=period) for _ in range(3))):
        await eventually(six_ticks)
    ticks = sorted(int(job_id.removeprefix("sweep-")) for job_id in await enqueued(queue))
    assert len(set(ticks)) == len(ticks)
    assert {tick % 200 for tick in ticks} == {0}


async def test_a_tick_is_enqueued_once_and_an_older_one_never_after_it(queue: Queue) -> None:
    now = datetime.now(UTC)
    one, other = clock(queue), clock(queue)
    assert await one.enqueue_tick("sweep", now) is True
    assert await other.enqueue_tick("sweep", now) is False
    assert await other.enqueue_tick("sweep", now - timedelta(minutes=1)) is False
    assert await other.enqueue_tick("sweep", now + timedelta(minutes=1)) is True
    assert len(await enqueued(queue)) == 2


async def test_what_was_missed_while_no_daemon_ran_becomes_one_job(queue: Queue) -> None:
    now = datetime.now(UTC)
    await clock(queue).enqueue_tick("sweep", now - timedelta(hours=5))

    async def caught_up() -> bool:
        return len(await enqueued(queue)) > 1

    async with ticking(clock(queue)):
        await eventually(caught_up)
    newest = max(int(job_id.removeprefix("sweep-")) for job_id in await enqueued(queue))
    assert now - timedelta(minutes=2) <= datetime.fromtimestamp(newest / 1000, UTC)
    assert len(await enqueued(queue)) <= 3, "the one of before, the one that stands for all, and perhaps a new minute"


async def test_a_new_schedule_does_not_tick_for_the_past(queue: Queue) -> None:
    """Its last time, the first of this month, is one that a schedule which had ticked before would catch up with."""
    monthly = Schedule(name="monthly", crontab="0 0 1 * *", zone="UTC", payload=Note(), plugin="tests")
    both = Clock([monthly, EVERY_MINUTE], {"tests": queue})
    both.triggers |= clock(queue, every=timedelta(milliseconds=200)).triggers

    async def ticks() -> bool:
        return bool(await enqueued(queue))

    async with ticking(both):
        await eventually(ticks)
    assert [job_id for job_id in await enqueued(queue) if job_id.startswith("monthly")] == []
