"""What happened in each of the last minutes, on a real Valkey whose clock the test sets."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

import pytest

from skycap.engine.minutes import MOST_MINUTES, minutes, together
from skycap.engine.queue import NewJob, Queue, Settlement, Step
from skycap.engine.schedule_book import ScheduleBook
from skycap.engine.standing import standing
from skycap.envelope import Envelope
from skycap.outcome import Completed, DeadReason, Discarded, Outcome, Retry
from tests.support.clocked import ClockedLink

STARTED_MS = 1_800_000_000_000
"""The beginning of a minute."""
MINUTE = timedelta(minutes=1)


class ClockedQueue(Queue):
    link: ClockedLink


@pytest.fixture
async def queue(redis_url: str) -> AsyncGenerator[ClockedQueue]:
    link = ClockedLink.to(redis_url)
    await link.start(STARTED_MS)
    queue = ClockedQueue("email", link)
    await queue.configure()
    yield queue
    await link.close()


def new_job(job_id: str, *, when: timedelta = timedelta(0)) -> NewJob:
    return NewJob(
        envelope=Envelope(
            id=job_id, kind="note", payload={}, queue="email", priority=10, enqueued_at=datetime.now(UTC)
        ),
        when=when,
    )


async def turn(queue: Queue, outcome: Outcome | None = None, *, of: Step | None = None) -> Step:
    settled = [Settlement(claim=claim, outcome=outcome or Completed()) for claim in (of.claims if of else ())]
    return await queue.step(settled, slots=100, worker="w", lease=timedelta(hours=1), poison_after=3)


async def test_each_minute_has_its_own_figures_and_an_idle_one_none(queue: ClockedQueue) -> None:
    await queue.add([new_job("a"), new_job("b")])
    await queue.link.pass_time(timedelta(seconds=30))
    claimed = await turn(queue)
    await queue.link.pass_time(2 * MINUTE)
    await turn(queue, of=claimed)
    before, first, idle, now = await minutes(queue, last=4)
    assert (before.added, before.started, before.wait_longest) == (0, 0, None)
    assert (first.at, first.added, first.started, first.completed) == (datetime(2027, 1, 15, 8, tzinfo=UTC), 2, 2, 0)
    assert first.wait(0.5) == pytest.approx(timedelta(seconds=30), rel=0.0625)
    assert (idle.added, idle.started, idle.completed) == (0, 0, 0)
    assert (now.at - first.at, now.added, now.completed) == (2 * MINUTE, 0, 2)


async def test_waits_are_told_by_how_many_waited_so_long(queue: ClockedQueue) -> None:
    for number in range(100):
        await queue.add([new_job(str(number))])
        await queue.link.pass_time(timedelta(milliseconds=100))
    await turn(queue)
    (minute,) = await minutes(queue, last=1)
    for fraction, seconds in ((0.01, 0.1), (0.5, 5), (0.95, 9.5), (1, 10)):
        assert minute.wait(fraction) == pytest.approx(timedelta(seconds=seconds), rel=0.0625), fraction
    assert minute.wait_total == pytest.approx(timedelta(seconds=505), rel=0.0625)


async def test_a_wait_begins_when_the_job_is_due(queue: ClockedQueue) -> None:
    await queue.add([new_job("later", when=timedelta(hours=1))])
    await queue.link.pass_time(timedelta(hours=1, seconds=2))
    claimed = await turn(queue)
    await turn(queue, Retry(delay=timedelta(minutes=10), error="no"), of=claimed)
    await queue.link.pass_time(timedelta(minutes=10, seconds=2))
    await turn(queue)
    found = together(await minutes(queue, last=11))
    assert (found.started, found.retried) == (2, 1)
    assert found.wait_longest == pytest.approx(timedelta(seconds=2), rel=0.0625)


async def test_a_job_that_is_redriven_or_reclaimed_waits_anew(queue: ClockedQueue) -> None:
    await queue.add([new_job("again")])
    await turn(queue, Discarded(reason=DeadReason.PERMANENT, error="no"), of=await turn(queue))
    await queue.link.pass_time(timedelta(hours=3))
    await queue.retry("again")
    await queue.link.pass_time(timedelta(seconds=1))
    assert (await standing(queue)).oldest_waiting == timedelta(seconds=1)
    await turn(queue)
    await queue.link.pass_time(timedelta(hours=1))  # its worker is never heard of again
    await turn(queue)
    now, before = (await minutes(queue, last=1))[0], together((await minutes(queue, last=100))[:-1])
    assert (now.reclaimed, now.started, now.wait_longest) == (1, 1, timedelta(0))
    assert before.wait_longest == pytest.approx(timedelta(seconds=1), rel=0.0625)


async def test_the_job_of_a_schedule_is_added_too_and_each_job_once(queue: ClockedQueue) -> None:
    for _ in range(2):
        await ScheduleBook(queue).run("nightly", new_job("nightly-run").envelope)
        await queue.add([new_job("a")])
    (minute,) = await minutes(queue, last=1)
    assert minute.added == 2


async def test_what_was_counted_is_forgotten_after_six_hours(queue: ClockedQueue) -> None:
    await queue.add([new_job("a")])
    await queue.link.pass_time(timedelta(hours=5, minutes=59))
    assert (await minutes(queue, last=MOST_MINUTES))[0].added == 1
    await queue.link.pass_time(timedelta(minutes=2))
    assert await queue.link.command("KEYS", f"{queue.keys.prefix}minute:*") == []


async def test_what_others_wrote_there_is_no_figure(queue: ClockedQueue) -> None:
    key = f"{queue.keys.prefix}minute:{STARTED_MS // 60_000}"
    await queue.link.command("HSET", key, "added", "many", "99999999", 1, "-7", 1, "foreign", 1)
    (minute,) = await minutes(queue, last=1)
    assert (minute.added, minute.started) == (0, 1)
    assert minute.wait_longest is not None


@pytest.mark.parametrize("last", [0, MOST_MINUTES + 1])
async def test_there_are_no_more_minutes_than_are_kept(queue: ClockedQueue, last: int) -> None:
    with pytest.raises(ValueError, match=f"the last {last} minutes: there are 1 to 360"):
        await minutes(queue, last=last)
