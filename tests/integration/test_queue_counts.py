"""What Redis counts of a queue for those who watch it, and what claims and steps say for metrics."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from skycap.engine.queue import Settlement, Step
from skycap.engine.standing import standing
from skycap.observe.meters import Meters
from skycap.outcome import DeadReason, Retry
from skycap.worker.consumer import Consumer
from tests.support.workers import Bench, bench, eventually

HOUR = timedelta(hours=1)


async def step(b: Bench, *settlements: Settlement, slots: int = 1, lease: timedelta = HOUR) -> Step:
    return await b.queue.step(settlements, slots=slots, worker="w", lease=lease, poison_after=1)


async def test_what_was_enqueued_and_what_was_there_before_is_counted(redis_url: str) -> None:
    async with bench(redis_url) as b:
        first = await b.put("first")
        await b.put("second")
        await b.put("first", job_id=first)
        now = await standing(b.queue)
    assert (now.enqueued, now.deduplicated, now.reclaimed) == (2, 1, 0)


async def test_a_claim_says_how_long_its_job_could_have_run(redis_url: str) -> None:
    async with bench(redis_url) as b:
        await b.put("at once")
        await asyncio.sleep(0.1)  # the time that is measured
        (claim,) = (await step(b)).claims
        assert 100 <= claim.waited_ms < 5000
        # Neither the delay of a job nor the wait for its retry is a time in which it could have run.
        late = Settlement(claim=claim, outcome=Retry(delay=timedelta(milliseconds=300), error="no"))
        turn = await step(b, late)
        assert turn.next_event is not None
        assert turn.next_event > timedelta(milliseconds=200)
        await asyncio.sleep(turn.next_event.total_seconds())
        (claim,) = (await step(b)).claims
        assert claim.waited_ms < 200
        assert claim.age > timedelta(seconds=0.3)


async def test_a_step_names_the_jobs_that_it_gave_up_itself(redis_url: str) -> None:
    async with bench(redis_url) as b:
        await b.put("kills")
        await step(b, lease=timedelta(milliseconds=1))
        await b.put("too late", deadline=timedelta(0))
        await asyncio.sleep(0.01)  # until the lease has run out
        assert sorted((await step(b)).given_up) == [
            ("take-note", DeadReason.EXPIRED),
            ("take-note", DeadReason.POISON),
        ]
        assert (await standing(b.queue)).reclaimed == 1


async def test_a_worker_counts_what_it_gave_up_and_what_was_cut_short(redis_url: str) -> None:
    async def wait(*_: object) -> None:
        await asyncio.Event().wait()

    async with bench(redis_url, wait) as b:
        meters = Meters({"take-note": "tests"})
        consumer = Consumer(
            b.queue, b.executor.run, worker="w", concurrency=2, lease=HOUR, poison_after=3, meters=meters
        )
        await b.put("too late", deadline=timedelta(0))
        await b.put("long")
        running = asyncio.create_task(consumer.run())

        async def is_running() -> bool:
            return b.ran == ["long"]

        await eventually(is_running)
        consumer.drain()
        consumer.hand_back()
        await running
    assert meters.dead_letters.counts["tests", "take-note", "expired"] == 1
    assert meters.jobs_finished.counts["tests", "take-note", "interrupted"] == 1
    assert meters.jobs_finished.counts["tests", "take-note", "dead"] == 0
