"""Schedules on a real Valkey: each tick once, whoever ticks, and nothing missed for good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import Any

import pytest

from skycap import AsyncClient
from skycap.engine.queue import Queue
from skycap.engine.schedule_book import Became, ScheduleBook
from skycap.errors import ConfigurationError
from skycap.job import JobState
from skycap.maintenance.clock import Clock
from skycap.maintenance.schedules import Schedules, ScheduleStatus
from skycap.maintenance.ticks import jitter_of
from skycap.schedule import Schedule
from tests.support.clocked import ClockedLink
from tests.support.redis import redis_at
from tests.support.workers import Note, bench, eventually

EVERY_MINUTE = Schedule(
    name="sweep", crontab="* * * * *", zone="UTC", payload=Note(text="sweep"), plugin="tests", overlap="allow"
)
QUICK = replace(EVERY_MINUTE, crontab=None, every=timedelta(milliseconds=200))
MINUTE = timedelta(minutes=1)

TICK_BEFORE = """
local CRON = P .. 'cron'
if tonumber(ARGV[2]) <= (tonumber(redis.call('HGET', CRON, ARGV[1])) or 0) then
  return 0
end
redis.call('HSET', CRON, ARGV[1], ARGV[2])
if redis.call('EXISTS', job(ARGV[3])) == 1 then
  return 0
end
redis.call('HSET', job(ARGV[3]), 'kind', ARGV[4], 'envelope', ARGV[5], 'priority', ARGV[6], 'enqueued', STAMP)
to_ready(ARGV[3])
ring()
flush()
return 1
"""
"""The script as it was, of daemons that may run beside ours during an upgrade."""

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
async def queue(redis_url: str) -> AsyncGenerator[Queue]:
    async with AsyncClient(redis_url) as client:
        yield client.queue("tests")


class Stage:
    """Schedules on a Valkey whose time the test decides."""

    def __init__(self, link: ClockedLink) -> None:
        self.link = link
        self.queue = Queue("tests", link)
        self.book = ScheduleBook(self.queue)
        self.now = NOON

    def clock(self, *schedules: Schedule) -> Clock:
        return Clock(schedules, {"tests": self.queue})

    async def pass_time(self, duration: timedelta) -> None:
        await self.link.pass_time(duration)
        self.now += duration

    async def turn(self, *schedules: Schedule) -> list[Became]:
        """One look of a daemon's clock; what became of the ticks that were new."""
        before = len(await self.book.decided("sweep"))
        async with ticking(self.clock(*schedules)):
            await eventually(lambda: self._has_looked(schedules))
        return [became for _, became in (await self.book.decided("sweep"))[before:]]

    async def _has_looked(self, schedules: Sequence[Schedule]) -> bool:
        names = [schedule.name for schedule in schedules]
        last = (await self.book.known(names)).last
        clock = self.clock(*schedules)
        return all(
            (tick := clock.schedules[name].ticks.next_after(last[name])) is None or tick > self.now for name in names
        )

    async def job(self, tick: datetime) -> Any:
        return await self.queue.get(id_of(tick))


@pytest.fixture
async def stage(redis_url: str) -> AsyncGenerator[Stage]:
    link = ClockedLink.to(redis_url)
    await link.start(round(NOON.timestamp() * 1000))
    yield Stage(link)
    await link.close()


def id_of(tick: datetime) -> str:
    return f"sweep-{round(tick.timestamp() * 1000)}"


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
    async def six_ticks() -> bool:
        return len(await enqueued(queue)) >= 6

    async with ticking(*(Clock([QUICK], {"tests": queue}) for _ in range(3))):
        await eventually(six_ticks)
    ticks = sorted(int(job_id.removeprefix("sweep-")) for job_id in await enqueued(queue))
    assert len(set(ticks)) == len(ticks)
    assert {tick % 200 for tick in ticks} == {0}


async def test_a_tick_is_decided_once_and_an_older_one_never_after_it(stage: Stage) -> None:
    one, other = stage.clock(EVERY_MINUTE), stage.clock(EVERY_MINUTE)
    assert await one.decide("sweep", NOON) is Became.ENQUEUED
    assert await other.decide("sweep", NOON) is Became.KNOWN
    assert await other.decide("sweep", NOON - MINUTE) is Became.KNOWN
    await stage.pass_time(MINUTE)
    assert await other.decide("sweep", NOON + MINUTE) is Became.ENQUEUED
    assert len(await enqueued(stage.queue)) == 2


async def test_no_daemon_can_tick_before_the_time_of_redis(stage: Stage) -> None:
    assert await stage.clock(EVERY_MINUTE).decide("sweep", NOON + timedelta(milliseconds=1)) is Became.EARLY
    assert await enqueued(stage.queue) == []
    assert await stage.book.decided("sweep") == []


async def test_a_new_schedule_does_not_tick_for_the_past_but_catches_up_with_what_comes(stage: Stage) -> None:
    daily = replace(EVERY_MINUTE, crontab="0 6 * * *")
    assert await stage.turn(daily) == []
    await stage.pass_time(timedelta(days=1))
    assert await stage.turn(daily) == [Became.ENQUEUED]
    assert await enqueued(stage.queue) == [id_of(NOON + timedelta(hours=18))]


@pytest.mark.parametrize(("catch_up", "jobs"), [("latest", 1), ("all", 300)])
async def test_what_was_missed_while_no_daemon_ran_is_caught_up_with_as_the_schedule_says(
    stage: Stage, catch_up: Any, jobs: int
) -> None:
    schedule = replace(EVERY_MINUTE, catch_up=catch_up)
    await stage.turn(schedule)
    await stage.pass_time(timedelta(hours=5))
    await stage.turn(schedule)
    hour_five = [id_of(NOON + timedelta(hours=5) - minutes * MINUTE) for minutes in reversed(range(jobs))]
    assert await enqueued(stage.queue) == hour_five


async def test_all_that_was_missed_has_a_bound(stage: Stage) -> None:
    schedule = replace(EVERY_MINUTE, catch_up="all")
    await stage.turn(schedule)
    await stage.pass_time(timedelta(days=3))
    await stage.turn(schedule)
    ids = await enqueued(stage.queue)
    assert (len(ids), ids[-1]) == (1000, id_of(NOON + timedelta(days=3)))


async def test_what_is_over_a_minute_late_is_skipped_and_said_to_be_missed(stage: Stage) -> None:
    hourly = replace(EVERY_MINUTE, crontab="0 * * * *", catch_up="skip")
    await stage.turn(hourly)
    await stage.pass_time(timedelta(hours=2, minutes=1, milliseconds=1))
    assert await stage.turn(hourly) == [Became.MISSED]
    await stage.pass_time(timedelta(minutes=59, seconds=59, milliseconds=999))
    assert await stage.turn(hourly) == [Became.ENQUEUED]
    assert await enqueued(stage.queue) == [id_of(NOON + timedelta(hours=3))]


async def test_a_tick_is_skipped_while_the_job_of_an_earlier_one_has_not_ended(stage: Stage) -> None:
    sweep = replace(EVERY_MINUTE, overlap="skip")
    clock = stage.clock(sweep)
    assert await clock.decide("sweep", NOON) is Became.ENQUEUED
    for _ in range(2):
        await stage.pass_time(MINUTE)
        assert await clock.decide("sweep", stage.now) is Became.OVERLAP
    await stage.queue.cancel(id_of(NOON))
    await stage.pass_time(MINUTE)
    assert await clock.decide("sweep", stage.now) is Became.ENQUEUED
    assert await stage.book.decided("sweep") == [
        (NOON, Became.ENQUEUED),
        (NOON + MINUTE, Became.OVERLAP),
        (NOON + 2 * MINUTE, Became.OVERLAP),
        (NOON + 3 * MINUTE, Became.ENQUEUED),
    ]


async def test_a_run_that_somebody_asked_for_is_not_overlapped_either(stage: Stage) -> None:
    clock = stage.clock(replace(EVERY_MINUTE, overlap="skip"))
    job_id = await Schedules(clock).run("sweep")
    assert await clock.decide("sweep", NOON) is Became.OVERLAP
    await stage.queue.cancel(job_id)
    await stage.pass_time(MINUTE)
    assert await clock.decide("sweep", stage.now) is Became.ENQUEUED


async def test_a_daemon_of_the_version_before_and_one_of_this_tick_once_between_them(stage: Stage) -> None:
    clock = stage.clock(replace(EVERY_MINUTE, overlap="skip"))
    assert await _tick_as_before(stage, NOON) == 1
    assert await clock.decide("sweep", NOON) is Became.KNOWN
    await stage.pass_time(MINUTE)
    assert await clock.decide("sweep", stage.now) is Became.OVERLAP
    assert await _tick_as_before(stage, stage.now) == 0
    await stage.queue.cancel(id_of(NOON))
    await stage.pass_time(MINUTE)
    assert await clock.decide("sweep", stage.now) is Became.ENQUEUED
    assert await _tick_as_before(stage, stage.now) == 0
    assert await enqueued(stage.queue) == [id_of(stage.now)]


async def _tick_as_before(stage: Stage, tick: datetime) -> Any:
    """1 when this enqueued it."""
    folder = resources.files("skycap.engine") / "lua"
    parts = [(folder / f"{part}.lua").read_text() for part in ("queue", "lines")]
    words = ("sweep", round(tick.timestamp() * 1000), id_of(tick), "take-note", "{}", 10)
    return await stage.link.command("EVAL", "\n".join([*parts, TICK_BEFORE]), 1, stage.queue.keys.prefix, *words)


async def test_jobs_start_after_their_tick_by_the_same_chance_on_every_host(stage: Stage) -> None:
    sweep = replace(EVERY_MINUTE, jitter=timedelta(hours=1))
    waits = {jitter_of(sweep, minute * 60_000) for minute in range(1000)}
    assert len(waits) > 990
    assert timedelta(0) <= min(waits) < timedelta(minutes=2) < timedelta(minutes=58) < max(waits) < timedelta(hours=1)
    assert await stage.clock(sweep).decide("sweep", NOON) is Became.ENQUEUED
    assert await stage.clock(sweep).decide("sweep", NOON) is Became.KNOWN
    job = await stage.job(NOON)
    wait = jitter_of(sweep, round(NOON.timestamp() * 1000))
    assert (job.state, job.due_at) == (JobState.SCHEDULED, NOON + timedelta(milliseconds=round(wait / MINUTE * 60_000)))


async def test_a_paused_schedule_ticks_for_nobody_and_is_not_caught_up_with(stage: Stage) -> None:
    clock = stage.clock(EVERY_MINUTE)
    await Schedules(clock).pause("sweep")
    assert await stage.turn(EVERY_MINUTE) == []
    await stage.pass_time(MINUTE)
    assert await stage.turn(EVERY_MINUTE) == [Became.PAUSED]
    await Schedules(clock).resume("sweep")
    assert await stage.turn(EVERY_MINUTE) == []
    await stage.pass_time(MINUTE)
    assert await stage.turn(EVERY_MINUTE) == [Became.ENQUEUED]


async def test_a_pause_for_a_time_ends_by_itself(stage: Stage) -> None:
    known = Schedules(stage.clock(EVERY_MINUTE))
    await known.pause("sweep", 10 * MINUTE)
    (status,) = await known.list()
    assert (status.standing, status.record.paused_until) == ("paused", NOON + 10 * MINUTE)
    await stage.pass_time(10 * MINUTE)
    (status,) = await known.list()
    assert (status.standing, status.record.paused_until) == ("on", None)
    assert await stage.turn(EVERY_MINUTE) == []
    await stage.pass_time(MINUTE)
    assert await stage.turn(EVERY_MINUTE) == [Became.ENQUEUED]


async def test_a_schedule_that_is_switched_off_does_not_tick_yet_can_be_run(stage: Stage) -> None:
    off = replace(EVERY_MINUTE, enabled=False)
    known = Schedules(stage.clock(off))
    async with ticking(stage.clock(off)):
        await stage.pass_time(MINUTE)
        assert await known.run_tick("sweep") == (stage.now, Became.ENQUEUED)
    assert [each.standing for each in await known.list()] == ["off"]


async def test_a_timer_and_the_clock_do_not_double_a_tick(stage: Stage) -> None:
    daily = replace(EVERY_MINUTE, crontab="0 2 * * *")
    await stage.turn(daily)
    await stage.pass_time(timedelta(hours=14, seconds=1))
    tick = NOON + timedelta(hours=14)
    known = Schedules(stage.clock(daily))
    assert await known.run_tick("sweep") == (tick, Became.ENQUEUED)
    assert await known.run_tick("sweep") == (tick, Became.KNOWN)
    assert await stage.turn(daily) == []
    assert await enqueued(stage.queue) == [id_of(tick)]


async def test_what_happens_once_happens_once(stage: Stage) -> None:
    once = replace(EVERY_MINUTE, crontab=None, at=datetime(2026, 11, 23, 16), zone="Europe/Istanbul")  # noqa: DTZ001
    await stage.turn(once)
    await stage.pass_time(timedelta(hours=1))
    assert await stage.turn(once) == [Became.ENQUEUED]
    await stage.pass_time(timedelta(days=400))
    assert await stage.turn(once) == []
    (status,) = await Schedules(stage.clock(once)).list()
    assert (status.record.last_tick, status.next_tick) == (NOON + timedelta(hours=1), None)


async def test_how_a_tick_ended_is_known_when_its_job_is_gone(redis_url: str) -> None:
    async with bench(redis_url) as b:
        known = Schedules(Clock([replace(EVERY_MINUTE, overlap="skip")], {"tests": b.queue}))

        async def status() -> ScheduleStatus:
            (only,) = await known.list()
            return only

        never = await status()
        assert (never.outcome, never.record.last_tick) == (None, None)
        decided = await known.run_tick("sweep")
        assert decided is not None
        assert (await status()).outcome == "available"
        async with b.working():
            await b.finished(id_of(decided[0]))
            run_id = await known.run("sweep")
            await b.finished(run_id)
        async with redis_at(redis_url) as redis:
            await redis.delete(b.queue.keys.job(id_of(decided[0])), b.queue.keys.job(run_id))
        ended = await status()
        assert (ended.outcome, ended.record.last_tick, ended.record.run_state) == ("completed", decided[0], "completed")
        assert ended.document()["outcome"] == "completed"
        assert b.ran == ["sweep", "sweep"]


async def test_a_payload_that_no_queue_takes_is_refused_at_the_start(queue: Queue) -> None:
    big = replace(EVERY_MINUTE, payload=Note(text="x" * 2_000_000))
    with pytest.raises(ConfigurationError, match="schedule sweep: "):
        Clock([big], {"tests": queue})


async def test_while_its_kind_is_off_a_schedule_does_not_tick_and_then_catches_up(stage: Stage) -> None:
    off: set[str] = {"take-note"}
    clock = Clock([EVERY_MINUTE], {"tests": stage.queue}, why_off=lambda kind: "no table" if kind in off else None)
    await stage.turn(EVERY_MINUTE)  # the fleet has begun
    before = await enqueued(stage.queue)
    await stage.pass_time(3 * MINUTE)
    await clock.turn("tests")
    assert await enqueued(stage.queue) == before
    off.clear()
    await clock.turn("tests")
    assert await enqueued(stage.queue) == [*before, id_of(NOON + 3 * MINUTE)]
