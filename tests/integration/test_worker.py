"""What a worker does with jobs, on a real Valkey."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from skycap.engine.policy import QueuePolicy
from skycap.engine.queue import Settlement
from skycap.errors import Cancel, Discard, PermanentError, QueueStopped, Snooze, Unavailable
from skycap.job import JobState, new_id
from skycap.outcome import Completed, DeadReason
from skycap.payload import Payload
from tests.support.redis import redis_at
from tests.support.workers import PATIENCE, Note, bench, eventually

SOON = timedelta(milliseconds=50)


async def test_a_job_runs_and_its_result_is_kept(redis_url: str) -> None:
    async def handle(_ctx: Any, payload: Note) -> Any:
        return {"noted": payload.text}

    async with bench(redis_url, handle) as b, b.working():
        job = await b.finished(await b.put("milk"))
    assert (job.state, job.attempt, job.result) == (JobState.COMPLETED, 1, {"noted": "milk"})


async def test_jobs_run_in_order_of_priority_then_first_come_first_served(redis_url: str) -> None:
    async with bench(redis_url) as b:
        for text, priority in (("c1", 30), ("a1", 1), ("b1", 20), ("a2", 1), ("c2", 30)):
            await b.put(text, priority=priority)
        last = await b.queue.jobs(JobState.AVAILABLE)
        async with b.working(concurrency=1):
            await b.finished(last[-1].id)
        assert b.ran == ["a1", "a2", "b1", "c1", "c2"]


async def test_the_same_id_sent_twice_is_one_job(redis_url: str) -> None:
    async with bench(redis_url) as b:
        job_id = new_id()
        first = await b.client.enqueue(Note(text="once"), job_id=job_id)
        second = await b.client.enqueue(Note(text="once"), job_id=job_id)
        assert (first.duplicate, second.duplicate) == (False, True)
        async with b.working():
            await b.finished(job_id)
        third = await b.client.enqueue(Note(text="once"), job_id=job_id)
        assert (third.duplicate, third.state) == (True, JobState.COMPLETED)
        assert b.ran == ["once"]


async def test_a_delayed_job_is_scheduled_and_runs_when_it_is_due(redis_url: str) -> None:
    async with bench(redis_url) as b, b.working():
        began = datetime.now(UTC)
        job_id = await b.put("later", delay=timedelta(milliseconds=300))
        waiting = await b.queue.get(job_id)
        assert waiting is not None
        assert waiting.state is JobState.SCHEDULED
        job = await b.finished(job_id)
        assert job.started_at is not None
        assert timedelta(milliseconds=299) <= job.started_at - began < timedelta(seconds=2)


async def test_a_failing_job_is_retried_until_its_attempts_are_used_up(redis_url: str) -> None:
    async def handle(_ctx: Any, _payload: Note) -> Any:
        raise ValueError("no such luck")

    async with bench(redis_url, handle, attempts=3) as b, b.working():
        job = await b.finished(await b.put("unlucky"))
    assert (job.state, job.reason, job.attempt) == (JobState.DISCARDED, DeadReason.ATTEMPTS_USED_UP, 3)
    assert [error.error for error in job.errors] == ["ValueError: no such luck"] * 3
    assert b.ran == ["unlucky"] * 3


async def test_a_job_that_fails_once_completes_on_its_second_attempt(redis_url: str) -> None:
    async def handle(ctx: Any, _payload: Note) -> Any:
        if ctx.job.attempt == 1:
            raise ConnectionError("partner away")
        return ctx.job.attempt

    async with bench(redis_url, handle) as b, b.working():
        job = await b.finished(await b.put())
    assert (job.state, job.attempt, job.result, len(job.errors)) == (JobState.COMPLETED, 2, 2, 1)


@pytest.mark.parametrize("raised", [Discard("no such booking"), PermanentError("no such booking")])
async def test_what_can_never_work_is_discarded_at_once(redis_url: str, raised: BaseException) -> None:
    async def handle(_ctx: Any, _payload: Note) -> Any:
        raise raised

    async with bench(redis_url, handle) as b, b.working():
        job = await b.finished(await b.put())
    assert (job.state, job.reason, len(b.ran)) == (JobState.DISCARDED, DeadReason.PERMANENT, 1)
    assert "no such booking" in job.errors[0].error


async def test_a_handler_may_cancel_its_job(redis_url: str) -> None:
    async def handle(_ctx: Any, _payload: Note) -> Any:
        raise Cancel("switched off")

    async with bench(redis_url, handle) as b, b.working():
        job = await b.finished(await b.put())
    assert (job.state, job.reason) == (JobState.CANCELLED, "switched off")


@pytest.mark.parametrize("raised", [Snooze(SOON), Unavailable("database", "away")])
async def test_snoozes_and_outages_use_up_no_attempt(
    redis_url: str, raised: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Unavailable, "schedule", type(Unavailable.schedule)(first=SOON, attempts=1))

    async def handle(ctx: Any, _payload: Note) -> Any:
        if len(b.ran) <= 5:
            raise raised
        return ctx.job.attempt

    async with bench(redis_url, handle, attempts=2) as b, b.working():
        job = await b.finished(await b.put())
    assert (job.state, job.result, job.errors, len(b.ran)) == (JobState.COMPLETED, 1, (), 6)


async def test_a_job_that_takes_too_long_fails_with_that_reason(redis_url: str) -> None:
    async def handle(_ctx: Any, _payload: Note) -> Any:
        await asyncio.Event().wait()

    async with bench(redis_url, handle, attempts=1, timeout_seconds=0.1) as b, b.working():
        job = await b.finished(await b.put())
    assert (job.state, job.reason) == (JobState.DISCARDED, DeadReason.ATTEMPTS_USED_UP)
    assert job.errors[0].error.startswith("took longer than 0.1 s")


async def test_a_result_that_json_cannot_carry_fails_the_attempt(redis_url: str) -> None:
    async def handle(_ctx: Any, _payload: Note) -> Any:
        return {"when": datetime.now(UTC)}

    async with bench(redis_url, handle, attempts=1) as b, b.working():
        job = await b.finished(await b.put())
    assert job.state is JobState.DISCARDED
    assert "JSON cannot carry" in job.errors[0].error


async def test_a_long_job_keeps_its_lease_and_runs_once(redis_url: str) -> None:
    release = asyncio.Event()

    async def handle(_ctx: Any, _payload: Note) -> Any:
        await release.wait()

    lease = timedelta(milliseconds=300)
    async with bench(redis_url, handle) as b, b.working(lease=lease), b.working(lease=lease):
        job_id = await b.put("slow")
        async with redis_at(redis_url) as redis:
            ends = await _lease_ends(redis, b.queue.keys.run, renewals=9)
        assert ends[-1] - ends[0] > 2 * lease.total_seconds() * 1000
        release.set()
        job = await b.finished(job_id)
    assert (job.state, b.ran) == (JobState.COMPLETED, ["slow"])


async def _lease_ends(redis: Any, key: str, *, renewals: int) -> list[float]:
    """The ends that a job's lease had, each once, until it was renewed so often."""
    ends: list[float] = []

    async def renewed_often() -> bool:
        entries = await redis.zrange(key, 0, -1, withscores=True)
        if entries and (not ends or entries[0][1] != ends[-1]):
            ends.append(float(entries[0][1]))
        return len(ends) > renewals

    await eventually(renewed_often)
    return ends


async def test_a_crashed_workers_job_runs_again_on_an_idle_queue(redis_url: str) -> None:
    async with bench(redis_url) as b:
        job_id = await b.put("orphan")
        # A worker that claims and is never heard of again.
        await b.queue.step([], slots=1, worker="crashed", lease=timedelta(milliseconds=200), poison_after=3)
        async with b.working():
            job = await b.finished(job_id)
    assert (job.state, job.attempt, b.ran) == (JobState.COMPLETED, 1, ["orphan"])


async def test_a_job_that_keeps_killing_its_worker_is_discarded_as_poison(redis_url: str) -> None:
    async with bench(redis_url) as b:
        job_id = await b.put("poison")

        async def died_three_times() -> bool:
            await b.queue.step([], slots=1, worker="dying", lease=timedelta(milliseconds=1), poison_after=3)
            job = await b.queue.get(job_id)
            return job is not None and job.state is JobState.DISCARDED

        await eventually(died_three_times)
        job = await b.finished(job_id)
    assert (job.reason, job.attempt, b.ran) == (DeadReason.POISON, 0, [])


async def test_a_worker_that_lost_its_lease_cannot_settle_the_job(redis_url: str) -> None:
    async with bench(redis_url) as b:
        job_id = await b.put("fenced")
        short = timedelta(milliseconds=1)
        old = (await b.queue.step([], slots=1, worker="slow", lease=short, poison_after=9)).claims[0]

        async def claimed_anew() -> bool:
            step = await b.queue.step([], slots=1, worker="new", lease=timedelta(minutes=1), poison_after=9)
            return bool(step.claims)

        await eventually(claimed_anew)
        late = Settlement(claim=old, outcome=Completed(result="late"))
        step = await b.queue.step([late], slots=0, worker="slow", lease=short, poison_after=9)
        job = await b.queue.get(job_id)
    assert job is not None
    assert (list(step.rejected), job.state, job.result) == ([late], JobState.RUNNING, None)


async def test_a_drain_lets_running_jobs_end_and_leaves_the_others(redis_url: str) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    async def handle(_ctx: Any, _payload: Note) -> Any:
        started.set()
        await release.wait()

    async with bench(redis_url, handle) as b:
        worker = b.worker(concurrency=1)
        first, second = await b.put("first"), await b.put("second")
        worker.start()
        await started.wait()
        draining = asyncio.create_task(worker.drain(PATIENCE))
        await asyncio.sleep(0)
        release.set()
        released_at = time.monotonic()
        await draining
        assert time.monotonic() - released_at < 1, "the drain went on after the last job had ended"
        ended, waiting = await b.queue.get(first), await b.queue.get(second)
    assert ended is not None
    assert waiting is not None
    assert (ended.state, waiting.state, b.ran) == (JobState.COMPLETED, JobState.AVAILABLE, ["first"])


async def test_what_does_not_end_within_the_grace_period_is_handed_back_at_once(redis_url: str) -> None:
    started = asyncio.Event()

    async def handle(_ctx: Any, _payload: Note) -> Any:
        started.set()
        await asyncio.Event().wait()

    async with bench(redis_url, handle) as b:
        worker = b.worker(lease=timedelta(minutes=5))
        job_id = await b.put("endless")
        worker.start()
        await started.wait()
        await worker.drain(timedelta(milliseconds=50))
        job = await b.queue.get(job_id)
        counts = await b.queue.counts()
    assert job is not None
    assert (job.state, job.attempt, job.errors) == (JobState.AVAILABLE, 0, ())
    assert (counts.available, counts.running) == (1, 0)


async def test_an_idle_worker_drains_at_once(redis_url: str) -> None:
    async with bench(redis_url) as b:
        worker = b.worker()
        worker.start()

        async def idle() -> bool:
            return worker.since_last_turn > timedelta(milliseconds=100)

        await eventually(idle)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await worker.drain(timedelta(seconds=5))
        assert loop.time() - began < 0.5


async def test_a_running_job_can_be_cancelled(redis_url: str) -> None:
    started = asyncio.Event()

    async def handle(_ctx: Any, _payload: Note) -> Any:
        started.set()
        await asyncio.Event().wait()

    async with bench(redis_url, handle) as b, b.working(lease=timedelta(milliseconds=300)):
        job_id = await b.put("long")
        await started.wait()
        await b.queue.cancel(job_id)
        job = await b.finished(job_id)
    assert (job.state, job.reason) == (JobState.CANCELLED, "cancelled on request")


async def test_a_waiting_job_can_be_cancelled_and_never_runs(redis_url: str) -> None:
    async with bench(redis_url) as b:
        gone, kept = await b.put("gone"), await b.put("kept")
        assert await b.queue.cancel(gone) is JobState.CANCELLED
        async with b.working():
            await b.finished(kept)
    assert b.ran == ["kept"]


async def test_a_paused_queue_gives_no_jobs_until_it_is_resumed(redis_url: str) -> None:
    async with bench(redis_url) as b, b.working():
        await b.queue.pause()
        job_id = await b.put("patient")
        step = await b.queue.step([], slots=5, worker="other", lease=timedelta(seconds=1), poison_after=3)
        assert list(step.claims) == []
        await b.queue.resume()
        job = await b.finished(job_id)
    assert job.state is JobState.COMPLETED


async def test_what_the_next_job_would_meet_too_pauses_the_queue_with_its_reason(redis_url: str) -> None:
    is_mended = False

    async def handle(_ctx: Any, _payload: Note) -> Any:
        if not is_mended:
            raise QueueStopped("mail", "the password is wrong")

    async with bench(redis_url, handle, attempts=1) as b, b.working(concurrency=1):
        with capture_logs() as logs:
            job_id = await b.put("first")

            async def paused() -> bool:
                return (await b.queue.counts()).is_paused

            await eventually(paused)
        others = [await b.put(text) for text in ("second", "third")]
        counts = await b.queue.counts()
        assert (counts.paused_because, counts.discarded) == ("QueueStopped: mail: the password is wrong", 0)
        assert [line["event"] for line in logs if line["log_level"] == "error"] == [
            "job waits, and so do all of its queue",
            "queue paused until an admin acts",
        ]
        is_mended = True
        await b.queue.resume()
        jobs = [await b.finished(each) for each in (job_id, *others)]
        assert (await b.queue.counts()).paused_because == ""
    assert [(job.state, job.attempt) for job in jobs] == [(JobState.COMPLETED, 1)] * 3
    assert b.ran.count("first") == 2


async def test_a_discarded_job_can_be_redriven_with_all_its_attempts(redis_url: str) -> None:
    async def handle(_ctx: Any, _payload: Note) -> Any:
        if len(b.ran) == 1:
            raise Discard("not yet")

    async with bench(redis_url, handle) as b, b.working():
        job_id = await b.put("again")
        await b.finished(job_id)
        assert await b.queue.retry(job_id) is JobState.AVAILABLE
        job = await b.finished(job_id)
    assert (job.state, job.attempt) == (JobState.COMPLETED, 1)


async def test_undecodable_and_unfit_jobs_are_dead_lettered_and_hinder_no_other(redis_url: str) -> None:
    async with bench(redis_url) as b:
        prefix = b.queue.keys.prefix
        unfit = json.dumps({"v": 1, "id": "unfit", "kind": "take-note", "payload": {"text": {"no": "text"}}})
        async with redis_at(redis_url) as redis:
            await redis.hset(f"{prefix}job:garbage", mapping={"envelope": b"\x80\x03pickle", "state": "available"})
            await redis.hset(f"{prefix}job:unfit", mapping={"envelope": unfit, "state": "available"})
            await redis.set(f"{prefix}job:string", "not even a hash")
            await redis.zadd(b.queue.keys.ready, {"garbage": 1, "unfit": 2, "string": 3, "nothing": 4})
        good = await b.put("good")
        async with b.working():
            assert (await b.finished(good)).state is JobState.COMPLETED
            for job_id in ("garbage", "unfit", "string", "nothing"):
                job = await b.finished(job_id)
                assert (job.state, job.reason) == (JobState.DISCARDED, DeadReason.UNDECODABLE), job_id
        async with redis_at(redis_url) as redis:
            assert await redis.get(f"{prefix}foreign:string") == b"not even a hash"


async def test_an_unknown_kind_waits_for_a_worker_that_knows_it(redis_url: str) -> None:
    class Future(Payload, kind="of-the-future", queue="tests"):
        pass

    async with bench(redis_url) as b, b.working():
        job_id = (await b.client.enqueue(Future())).job_id

        async def snoozed() -> bool:
            job = await b.queue.get(job_id)
            return job is not None and job.state is JobState.SCHEDULED

        await eventually(snoozed)
        job = await b.queue.get(job_id)
    assert job is not None
    assert job.reason is not None
    assert (job.attempt, "of-the-future" in job.reason) == (0, True)


async def test_an_unknown_kind_is_dead_lettered_when_nobody_knew_it_for_too_long(redis_url: str) -> None:
    class Past(Payload, kind="of-the-past", queue="tests"):
        pass

    async with bench(redis_url, unknown_kind_wait=timedelta(0)) as b, b.working():
        job = await b.finished((await b.client.enqueue(Past())).job_id)
    assert (job.state, job.reason) == (JobState.DISCARDED, DeadReason.UNKNOWN_KIND)


async def test_a_cancellation_that_nobody_asked_for_is_a_failed_attempt(redis_url: str) -> None:
    async def handle(_ctx: Any, _payload: Any) -> None:
        gone = asyncio.create_task(asyncio.Event().wait())
        gone.cancel()
        await gone

    async with bench(redis_url, handle, attempts=2) as b, b.working():
        job = await b.finished(await b.put("a"))
    assert (job.state, job.reason, b.ran) == (JobState.DISCARDED, DeadReason.ATTEMPTS_USED_UP, ["a", "a"])
    assert "CancelledError" in job.errors[-1].error


async def test_finished_jobs_are_kept_up_to_their_number(redis_url: str) -> None:
    async with bench(redis_url, queue_policy=QueuePolicy(keep_finished_count=3)) as b:
        async with b.working(concurrency=1):
            ids = [await b.put(str(i)) for i in range(6)]
            await b.finished(ids[-1])
        kept = [await b.queue.get(job_id) is not None for job_id in ids]
    assert sum(kept) == 3
