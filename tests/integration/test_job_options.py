"""What a job can be given when it is enqueued, and what can be done with it afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from skycap.admission import LONGEST_DELAY
from skycap.engine.events import EventStream
from skycap.engine.policy import QueuePolicy
from skycap.engine.queue import Claim, Queue, Settlement
from skycap.errors import QueueFull, Refused, Retry
from skycap.job import Enqueued, JobState
from skycap.outcome import Completed, DeadReason, Discarded, HandedBack
from skycap.payload import Payload
from skycap.unique import Unique
from tests.support.workers import PATIENCE, Bench, Note, bench, eventually

LEASE = timedelta(seconds=30)
HOUR = timedelta(hours=1)


class Alert(Payload, kind="alert", queue="tests", unique=Unique(by=("alert_id",), within=HOUR)):
    alert_id: str
    price: int = 0


async def claimed(queue: Queue, slots: int = 10, *, settle: Sequence[Settlement] = (), more: int = 0) -> list[Claim]:
    step = await queue.step(settle, slots=slots, more=more, worker="w", lease=LEASE, poison_after=3)
    return list(step.claims)


def done(claim: Claim) -> Settlement:
    return Settlement(claim=claim, outcome=Completed())


async def payload_of(b: Bench, job_id: str) -> Any:
    job = await b.queue.get(job_id)
    assert job is not None
    return dict(job.payload)


class TestUnique:
    async def test_the_first_of_a_key_stands_for_the_others_while_it_is_unfinished(self, redis_url: str) -> None:
        key = Unique(key="report")
        async with bench(redis_url) as b:
            first = await b.client.enqueue(Note(text="1"), unique=key)
            assert not first.duplicate
            second = await b.client.enqueue(Note(text="2"), unique=key)
            assert second == Enqueued(job_id=first.job_id, state=JobState.AVAILABLE, duplicate=True)
            assert await payload_of(b, first.job_id) == {"text": "1"}
            (claim,) = await claimed(b.queue)
            assert (await b.client.enqueue(Note(text="3"), unique=key)).state is JobState.RUNNING
            await claimed(b.queue, settle=[done(claim)])
            assert not (await b.client.enqueue(Note(text="4"), unique=key)).duplicate

    async def test_a_key_for_a_time_outlives_its_job(self, redis_url: str) -> None:
        async with bench(redis_url, queue_policy=QueuePolicy(keep_finished_count=0)) as b:
            await b.queue.configure()
            first = await b.client.enqueue(Alert(alert_id="a"))
            (claim,) = await claimed(b.queue)
            await claimed(b.queue, settle=[done(claim)])
            assert await b.queue.get(first.job_id) is None
            again = await b.client.enqueue(Alert(alert_id="a", price=9))
            assert (again.job_id, again.duplicate) == (first.job_id, True)
            assert not (await b.client.enqueue(Alert(alert_id="b"))).duplicate

    async def test_a_key_for_a_time_is_free_when_that_is_over(self, redis_url: str) -> None:
        key = Unique(key="k", within=timedelta(milliseconds=30))
        async with bench(redis_url) as b:
            await b.client.enqueue(Note(), unique=key)

            async def is_free() -> bool:
                return not (await b.client.enqueue(Note(), unique=key)).duplicate

            await eventually(is_free)

    async def test_replacing_gives_the_waiting_job_the_new_payload(self, redis_url: str) -> None:
        key = Unique(key="k", on_conflict="replace")
        async with bench(redis_url) as b:
            first = await b.client.enqueue(Note(text="old"), unique=key)
            assert (await b.client.enqueue(Note(text="new"), unique=key)).job_id == first.job_id
            assert await payload_of(b, first.job_id) == {"text": "new"}
            (claim,) = await claimed(b.queue)
            newer = await b.client.enqueue(Note(text="newest"), unique=key)
            assert not newer.duplicate, "the running one has the old payload; the new one must not be lost"
            await claimed(b.queue, 0, settle=[done(claim)])
            assert (await b.client.enqueue(Note(text="last"), unique=key)).job_id == newer.job_id

    async def test_the_worker_sees_the_job_under_its_own_id_after_a_replacement(self, redis_url: str) -> None:
        ids: list[str] = []

        async def handle(ctx: Any, _payload: Any) -> None:
            ids.append(ctx.job.id)

        key = Unique(key="k", on_conflict="replace")
        async with bench(redis_url, handle) as b:
            first = await b.client.enqueue(Note(text="old"), unique=key)
            await b.client.enqueue(Note(text="new"), unique=key)
            async with b.working():
                await b.finished(first.job_id)
        assert ids == [first.job_id]
        assert b.ran == ["new"]

    async def test_debouncing_waits_the_whole_delay_again(self, redis_url: str) -> None:
        key = Unique(key="k", on_conflict="debounce")
        async with bench(redis_url) as b:
            first = await b.client.enqueue(Note(text="1"), delay=HOUR, unique=key)
            due = (await _job(b, first)).due_at
            await asyncio.sleep(0.005)
            second = await b.client.enqueue(Note(text="2"), delay=HOUR, unique=key)
            assert (second.job_id, second.state) == (first.job_id, JobState.SCHEDULED)
            job = await _job(b, first)
            assert job.due_at is not None
            assert due is not None
            assert job.due_at > due
            assert job.payload == {"text": "2"}

    def test_a_key_is_a_digest_of_what_it_is_made_of(self) -> None:
        fields = {"alertId": "ada@example.com", "price": 1}
        key = Unique(by=("alert_id",)).key_of("alert", fields, Alert.wire_names())
        assert key.startswith("alert:")
        assert "ada" not in key
        assert key == Unique(by=("alert_id",)).key_of("alert", fields | {"price": 2}, Alert.wire_names())
        assert key != Unique().key_of("alert", fields, Alert.wire_names())

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"key": "", "by": ()}, "not both and not empty"),
            ({"key": "a", "by": ("b",)}, "not both"),
            ({"within": timedelta(0)}, "holds for no time"),
            ({"on_conflict": "drop"}, "give keep, replace or debounce"),
        ],
    )
    def test_what_makes_no_sense_is_refused_where_it_is_written(self, arguments: Any, message: str) -> None:
        with pytest.raises(TypeError, match=message):
            Unique(**arguments)

    def test_a_field_that_is_none_is_refused_with_the_class(self) -> None:
        with pytest.raises(TypeError, match="unique by 'alert', which is no field; fields: name"):

            class Wrong(Payload, kind="wrong", unique=Unique(by=("alert",))):  # pyright: ignore[reportUnusedClass]  # to be made is enough
                name: str


async def _job(b: Bench, enqueued: Enqueued) -> Any:
    return await b.queue.get(enqueued.job_id)


class TestTimes:
    async def test_a_job_runs_at_its_time_by_the_clock_of_redis(self, redis_url: str) -> None:
        async with bench(redis_url) as b:
            past = await b.client.enqueue(Note(), at=datetime.now(UTC) - HOUR)
            assert past.state is JobState.AVAILABLE
            at = datetime.now(UTC) + HOUR
            job = await _job(b, await b.client.enqueue(Note(), at=at))
            assert job.state is JobState.SCHEDULED
            assert abs(job.due_at - at) < timedelta(milliseconds=1)

    async def test_after_its_deadline_a_job_is_not_run(self, redis_url: str) -> None:
        async with bench(redis_url) as b:
            late = await b.client.enqueue(Note(text="late"), deadline=timedelta(0))
            good = await b.client.enqueue(Note(text="good"), deadline=HOUR)
            async with b.working():
                await b.finished(good.job_id)
                job = await b.finished(late.job_id)
        assert b.ran == ["good"]
        assert (job.state, job.reason, job.attempt) == (JobState.DISCARDED, DeadReason.EXPIRED, 0)

    async def test_a_deadline_that_comes_while_it_runs_cancels_it(self, redis_url: str) -> None:
        async def handle(_ctx: Any, _payload: Any) -> None:
            await asyncio.Event().wait()

        async with bench(redis_url, handle) as b, b.working():
            enqueued = await b.client.enqueue(Note(), deadline=timedelta(milliseconds=150))
            job = await b.finished(enqueued.job_id)
        assert (job.state, job.reason) == (JobState.DISCARDED, DeadReason.CANCELLED_BY_DEADLINE)

    async def test_a_handler_names_the_time_of_its_next_attempt(self, redis_url: str) -> None:
        async def handle(ctx: Any, _payload: Any) -> None:
            if ctx.job.attempt == 1:
                raise Retry(timedelta(milliseconds=20), "the partner is at lunch")

        async with bench(redis_url, handle, backoff_seconds=3600) as b, b.working():
            job = await b.finished(await b.put("a"))
        assert (job.state, job.attempt) == (JobState.COMPLETED, 2)
        assert job.errors[0].error == "the partner is at lunch"

    async def test_a_waiting_job_is_put_to_another_time_and_run_now(self, redis_url: str) -> None:
        async with bench(redis_url) as b:
            job_id = await b.put("a", delay=HOUR)
            assert await b.queue.retry(job_id, when=timedelta(days=1)) is JobState.SCHEDULED
            assert await b.queue.retry(job_id) is JobState.AVAILABLE
            assert len(await claimed(b.queue)) == 1
            assert await b.queue.retry(job_id) is JobState.RUNNING, "what runs is left alone"

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"delay": LONGEST_DELAY + timedelta(days=1)}, "over the limit of ten years; is the unit right"),
            ({"at": datetime(2199, 1, 1, tzinfo=UTC)}, "over the limit of ten years"),
            ({"at": datetime(2030, 1, 1)}, "has no time zone"),  # noqa: DTZ001 - the mistake
            ({"deadline": datetime(2030, 1, 1)}, "the deadline .* has no time zone"),  # noqa: DTZ001 - the mistake
            ({"delay": HOUR, "at": datetime(2030, 1, 1, tzinfo=UTC)}, "either a delay or a time"),
            ({"priority": 0}, r"priority 0 is outside 1 \(first\) to 1000"),
            ({"priority": 1001}, "priority 1001 is outside"),
            ({"tags": "vip"}, r"is one text; give a list: tags=\['vip'\]"),
        ],
    )
    async def test_what_makes_no_sense_is_refused_and_not_stored(
        self, redis_url: str, options: Any, message: str
    ) -> None:
        async with bench(redis_url) as b:
            with pytest.raises(Refused, match=message):
                await b.client.enqueue(Note(), **options)
            assert (await b.queue.counts()).available == 0


class TestOrder:
    async def test_the_last_comes_first_where_the_queue_says_so(self, redis_url: str) -> None:
        async with bench(redis_url, queue_policy=QueuePolicy(lifo=True)) as b:
            await b.queue.configure()
            ids = [await b.put(str(i), priority=5) for i in range(3)]
            urgent = await b.put("urgent", priority=1)
            assert [claim.job_id for claim in await claimed(b.queue)] == [urgent, *ids[::-1]]

    async def test_a_full_queue_answers_try_again_and_drops_nothing(self, redis_url: str) -> None:
        async with bench(redis_url, queue_policy=QueuePolicy(max_waiting=2)) as b:
            await b.queue.configure()
            first = await b.put("1")
            with pytest.raises(QueueFull, match="queue tests is full; nothing was stored, try again later"):
                await b.client.enqueue_many([Note(), Note()])
            await b.put("2", delay=HOUR)
            with pytest.raises(QueueFull):
                await b.put("3")
            again = await b.client.enqueue(Note(text="1"), job_id=first)
            assert again.duplicate, "what is stored already is no further job"
            (claim,) = await claimed(b.queue)
            await b.put("4")
            await claimed(b.queue, 0, settle=[Settlement(claim=claim, outcome=HandedBack())])
            assert (await b.queue.counts()).available == 2, "a job that was accepted is never refused later"

    async def test_many_jobs_are_stored_in_one_call(self, redis_url: str) -> None:
        async with bench(redis_url) as b:
            added = await b.client.enqueue_many([Note(text=str(i)) for i in range(500)])
            assert [await payload_of(b, e.job_id) for e in added[::100]] == [
                {"text": str(i)} for i in range(0, 500, 100)
            ]
            assert not any(e.duplicate for e in added)
            assert await b.client.enqueue_many([]) == []


class TestWhatAJobSays:
    async def test_progress_notes_tags_and_result_are_kept_with_it(self, redis_url: str) -> None:
        async def handle(ctx: Any, _payload: Any) -> Any:
            await ctx.progress(0.5, "half")
            for number in range(150):
                await ctx.note(f"line {number}")
            return {"answer": 42, "tags": list(ctx.job.tags)}

        async with bench(redis_url, handle) as b, b.working():
            enqueued = await b.client.enqueue(Note(), tags=["vip", "tr"], priority=7)
            job = await b.finished(enqueued.job_id)
        assert job.progress is not None
        assert (job.progress.fraction, job.progress.note) == (0.5, "half")
        assert [line.text for line in job.log] == [f"line {n}" for n in range(50, 150)]
        assert job.result == {"answer": 42, "tags": ["vip", "tr"]}
        assert (job.tags, job.priority) == (("vip", "tr"), 7)

    async def test_one_that_lost_its_lease_says_nothing_more(self, redis_url: str) -> None:
        async with bench(redis_url) as b:
            job_id = await b.put("a")
            (old,) = await claimed(b.queue)
            await claimed(b.queue, 0, settle=[Settlement(claim=old, outcome=HandedBack())])
            assert not await b.queue.report(old, "log", "too late")
            job = await b.queue.get(job_id)
            assert job is not None
            assert job.log == ()

    async def test_its_events_are_told_in_order_as_they_happen(self, redis_url: str) -> None:
        async def handle(ctx: Any, _payload: Any) -> None:
            if ctx.job.attempt == 1:
                raise ValueError("first")
            await ctx.progress(1)

        async with bench(redis_url, handle, backoff_seconds=0.001) as b, b.working():
            events = EventStream(b.queue)
            last = await events.newest()
            job_id = await b.put("a")
            names: list[str] = []
            async with asyncio.timeout(PATIENCE.total_seconds()):
                async for event in events.after(last):
                    assert (event.job_id, event.queue) == (job_id, "tests")
                    names.append(event.name)
                    if event.name == "completed":
                        break
        assert names == ["available", "running", "retryable", "available", "running", "progress", "completed"]


class TestDeadLetters:
    async def test_a_payload_is_mended_before_its_job_starts_over(self, redis_url: str) -> None:
        async with bench(redis_url, queue_policy=QueuePolicy()) as b:
            job_id = await b.put("bad")
            (claim,) = await claimed(b.queue)
            dead = Discarded(reason=DeadReason.PERMANENT, error="no such booking")
            await claimed(b.queue, 0, settle=[Settlement(claim=claim, outcome=dead)])
            mended = b.client.envelope(Note(text="good"), job_id=job_id)
            assert await b.queue.retry(job_id, envelope=mended) is JobState.AVAILABLE
            async with b.working():
                job = await b.finished(job_id)
        assert b.ran == ["good"]
        assert (job.state, job.attempt) == (JobState.COMPLETED, 1)
        assert [error.error for error in job.errors] == ["no such booking"], "its history is kept"

    async def test_only_so_many_are_kept(self, redis_url: str) -> None:
        async with bench(redis_url, queue_policy=QueuePolicy(keep_discarded_count=2)) as b:
            await b.queue.configure()
            for text in "abc":
                await b.put(text)
            dead = Discarded(reason=DeadReason.PERMANENT, error="no")
            claims = await claimed(b.queue)
            await claimed(b.queue, settle=[Settlement(claim=claim, outcome=dead) for claim in claims])
            assert (await b.queue.counts()).discarded == 2

    async def test_a_kind_keeps_its_own_as_long_as_it_says(self, redis_url: str) -> None:
        async with bench(redis_url, queue_policy=QueuePolicy(keep_discarded=timedelta(0))) as b:
            await b.queue.configure()
            for text in "ab":
                await b.put(text)
            dead = Discarded(reason=DeadReason.PERMANENT, error="no")
            short, long = await claimed(b.queue)
            await claimed(
                b.queue,
                settle=[
                    Settlement(claim=short, outcome=dead),
                    Settlement(claim=long, outcome=dead, keep=HOUR),
                ],
            )

            async def only_the_long_one() -> bool:
                await claimed(b.queue)
                return [job.id for job in await b.queue.jobs(JobState.DISCARDED)] == [long.job_id]

            await eventually(only_the_long_one)


class TestPoison:
    async def test_a_job_that_only_waited_in_a_worker_that_died_killed_nobody(self, redis_url: str) -> None:
        async with bench(redis_url) as b:
            for text in "ab":
                await b.put(text)
            dying = timedelta(milliseconds=1)
            for _ in range(2):
                step = await b.queue.step([], slots=1, more=1, worker="dies", lease=dying, poison_after=3)
                assert step.claims
                await asyncio.sleep(0.005)
            # The first ran in both workers that died; the second was at hand once, and from then on gets a slot or
            # nothing: so it was not even taken the second time.
            first, second = await claimed(b.queue)
            assert [await _deaths(b, claim) for claim in (first, second)] == ["2", None]


async def _deaths(b: Bench, claim: Claim) -> str | None:
    deaths = await b.queue.link.command("HGET", b.queue.keys.job(claim.job_id), "deaths")
    return None if deaths is None else deaths.decode()
