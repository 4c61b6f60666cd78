"""Adding jobs: by an idempotency key, in numbered batches, to several queues at once, and dead on arrival."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

import pytest

from skycap.engine.adding import add_all
from skycap.engine.batches import add_batch, encoded
from skycap.engine.link import Link
from skycap.engine.policy import QueuePolicy
from skycap.engine.queue import Claim, DeadOnArrival, NewJob, Queue, Repeat, Settlement
from skycap.envelope import Envelope
from skycap.errors import KeyReused, QueueFull
from skycap.job import JobState, new_id
from skycap.outcome import Completed, DeadReason
from tests.support.workers import LEASE

HOUR = timedelta(hours=1)


@pytest.fixture
async def link(redis_url: str) -> AsyncGenerator[Link]:
    link = Link.to(redis_url)
    yield link
    await link.close()


async def queue_of(link: Link, name: str = "tests", *, max_waiting: int | None = None, keep: int = 100) -> Queue:
    policy = QueuePolicy(max_waiting=max_waiting, keep_finished_count=keep)
    queue = Queue(name, link, policy=policy)
    await queue.configure()
    return queue


def new_job(job_id: str = "", *, repeat: Repeat | None = None, dead: DeadOnArrival | None = None) -> NewJob:
    envelope = Envelope(
        id=job_id or new_id(), kind="note", payload={}, queue="tests", priority=10, enqueued_at=datetime.now(UTC)
    )
    return NewJob(envelope=envelope, repeat=repeat, dead=dead)


def repeat(key: str, digest: str = "d1") -> Repeat:
    return Repeat(key=key, digest=digest, known_for=HOUR)


async def run_all(queue: Queue) -> list[str]:
    """Claim and complete what is available; the jobs' ids."""
    step = await queue.step([], slots=1000, worker="w", lease=LEASE, poison_after=3)
    settlements = [settled(claim) for claim in step.claims]
    await queue.step(settlements, slots=0, worker="w", lease=LEASE, poison_after=3)
    return [claim.job_id for claim in step.claims]


def settled(claim: Claim) -> Settlement:
    return Settlement(claim=claim, outcome=Completed())


class TestRepeatedRequests:
    async def test_the_same_request_again_is_its_first_job(self, link: Link) -> None:
        queue = await queue_of(link)
        (first,) = await queue.add([new_job(repeat=repeat("k"))])
        (second,) = await queue.add([new_job(repeat=repeat("k"))])
        assert not first.duplicate
        assert (second.job_id, second.state, second.duplicate) == (first.job_id, JobState.AVAILABLE, True)

    async def test_it_is_even_when_that_job_was_forgotten(self, link: Link) -> None:
        queue = await queue_of(link, keep=0)
        (first,) = await queue.add([new_job(repeat=repeat("k"))])
        assert await run_all(queue) == [first.job_id]
        assert await queue.get(first.job_id) is None
        (second,) = await queue.add([new_job(repeat=repeat("k"))])
        assert (second.job_id, second.state, second.duplicate) == (first.job_id, JobState.COMPLETED, True)
        assert await run_all(queue) == []

    async def test_a_key_that_comes_with_another_request_is_refused_and_nothing_is_stored(self, link: Link) -> None:
        queue = await queue_of(link)
        await queue.add([new_job(repeat=repeat("k:0"))])
        with pytest.raises(KeyReused, match="give each request a key of its own"):
            await queue.add([new_job(repeat=repeat("k:1", "d2")), new_job(repeat=repeat("k:0", "d2"))])
        assert (await queue.counts()).available == 1
        (fresh,) = await queue.add([new_job(repeat=repeat("k:1", "d3"))])
        assert not fresh.duplicate


class TestBatches:
    async def test_a_batch_is_added_once_even_when_its_jobs_have_ended_and_were_forgotten(self, link: Link) -> None:
        queue = await queue_of(link, keep=0)
        assert await batch(queue, 7, "a", "b") == 2
        assert await run_all(queue) == ["a", "b"]
        assert await batch(queue, 7, "a", "b") == 2
        assert await batch(queue, 6, "c") == 0
        assert (await queue.counts()).available == 0
        assert await batch(queue, 8, "d") == 1
        assert await run_all(queue) == ["d"]

    async def test_what_finds_no_room_is_sent_with_a_higher_number(self, link: Link) -> None:
        queue = await queue_of(link, max_waiting=2)
        assert await batch(queue, 1, "a", "b", "c") == 2
        assert await run_all(queue) == ["a", "b"]
        assert await batch(queue, 1, "a", "b", "c") == 2, "there is room now, but it was told already what was added"
        assert (await queue.counts()).available == 0
        assert await batch(queue, 2, "c") == 1
        assert await run_all(queue) == ["c"]


async def batch(queue: Queue, number: int, *job_ids: str) -> int:
    return await add_batch(queue, number, [encoded(new_job(job_id)) for job_id in job_ids])


class TestSeveralQueues:
    async def test_jobs_of_several_queues_are_added_in_one_go(self, link: Link) -> None:
        email, reports = await queue_of(link, "email"), await queue_of(link, "reports")
        done = await add_all({email: [new_job("a"), new_job("b")], reports: [new_job("c")]})
        assert {name: [each.job_id for each in its] for name, its in done.items()} == {
            "email": ["a", "b"],
            "reports": ["c"],
        }
        again = await add_all({email: [new_job("a")], reports: [new_job("c"), new_job("d")]})
        assert [each.duplicate for its in again.values() for each in its] == [True, True, False]
        assert await run_all(email) == ["a", "b"]
        assert await run_all(reports) == ["c", "d"]

    async def test_none_is_added_when_one_queue_is_full(self, link: Link) -> None:
        email, reports = await queue_of(link, "email"), await queue_of(link, "reports", max_waiting=1)
        with pytest.raises(QueueFull, match="queue reports is full"):
            await add_all({email: [new_job()], reports: [new_job(), new_job()]})
        assert (await email.counts()).available == 0

    async def test_none_is_added_when_one_key_was_used_for_something_else(self, link: Link) -> None:
        email, reports = await queue_of(link, "email"), await queue_of(link, "reports")
        await reports.add([new_job(repeat=repeat("k"))])
        with pytest.raises(KeyReused):
            await add_all({email: [new_job()], reports: [new_job(repeat=repeat("k", "other"))]})
        assert (await email.counts()).available == 0

    async def test_many_jobs_go_in_one_call(self, link: Link) -> None:
        email, reports = await queue_of(link, "email"), await queue_of(link, "reports")
        await add_all({email: [new_job() for _ in range(3000)], reports: [new_job() for _ in range(3000)]})
        assert (await email.counts()).available == (await reports.counts()).available == 3000


async def test_a_job_that_cannot_run_is_kept_with_its_reason(link: Link) -> None:
    queue = await queue_of(link)
    dead = DeadOnArrival(reason=DeadReason.UNDECODABLE, error="note: text: is missing; give a value")
    (added,) = await queue.add([new_job(dead=dead)])
    assert added.state is JobState.DISCARDED
    job = await queue.get(added.job_id)
    assert job is not None
    assert job.reason == "undecodable"
    assert job.errors[0].error == "note: text: is missing; give a value"
    assert (await queue.counts()).discarded == 1
    assert await run_all(queue) == []
