"""The clients over HTTP: the same words, the same errors, and an answer that got lost costs nothing."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from skycap import (
    AsyncClient,
    Client,
    ConfigurationError,
    InvalidPayload,
    JobState,
    NewerPayload,
    PayloadTooLarge,
    QueueFull,
    RawPayload,
    Unavailable,
    Unique,
    UnknownKind,
)
from skycap.engine.policy import QueuePolicy
from skycap.engine.queue import Settlement
from skycap.outcome import Completed
from tests.support.api import Api, Memo, api
from tests.support.redis_servers import free_port, proxy
from tests.support.workers import LEASE, Note, eventually


async def finish_all(site: Api) -> int:
    """Run what is available to its end, as a worker does; how many jobs that were."""
    step = await site.queue.step([], slots=100, worker="w", lease=LEASE, poison_after=3)
    settlements = [Settlement(claim=claim, outcome=Completed(result={"sent": 1})) for claim in step.claims]
    await site.queue.step(settlements, slots=0, worker="w", lease=LEASE, poison_after=3)
    return len(settlements)


async def test_a_job_is_enqueued_seen_and_cancelled(redis_url: str) -> None:
    async with api(redis_url) as site, AsyncClient(site.url) as client:
        at = datetime.now(UTC) + timedelta(hours=1)
        done = await client.enqueue(
            Note(text="é"), at=at, deadline=at + timedelta(hours=1), priority=3, tags=["a"], unique=Unique(key="k")
        )
        assert (done.state, done.duplicate) == (JobState.SCHEDULED, False)
        job = await client.get(done.job_id)
        assert job is not None
        assert (job.kind, job.queue, job.state, job.priority, job.tags) == (
            "take-note",
            "tests",
            JobState.SCHEDULED,
            3,
            ("a",),
        )
        assert job.due_at is not None
        assert abs(job.due_at - at) < timedelta(milliseconds=2)
        again = await client.enqueue(Note(text="other"), unique=Unique(key="k"))
        assert (again.job_id, again.duplicate) == (done.job_id, True)
        assert await client.retry(done.job_id) is JobState.AVAILABLE
        assert await client.cancel(done.job_id) is JobState.CANCELLED
        assert await client.get("nobody") is None
        assert await client.cancel("nobody") is None


async def test_many_are_one_request_all_or_none(redis_url: str) -> None:
    async with api(redis_url, policy=QueuePolicy(max_waiting=2)) as site, AsyncClient(site.url) as client:
        done = await client.enqueue_many([Note(text="1"), Memo(), Note(text="2")])
        assert [each.duplicate for each in done] == [False] * 3
        with pytest.raises(QueueFull):
            await client.enqueue_many([Memo(), Note(text="3")])
        with pytest.raises(InvalidPayload, match=r"1\S*text"):
            await client.enqueue_many([Memo(), RawPayload(kind="take-note", fields={"text": 7})])
        assert (await site.queue.counts()).available == 2


async def test_waiting_follows_the_events_to_the_end(redis_url: str) -> None:
    async with api(redis_url) as site, AsyncClient(site.url) as client:
        job_id = (await client.enqueue(Note())).job_id
        waiting = asyncio.create_task(client.wait(job_id, timeout=timedelta(seconds=20)))

        async def has_run() -> bool:
            return await finish_all(site) > 0

        await eventually(has_run)
        job = await waiting
        assert job is not None
        assert (job.state, job.result) == (JobState.COMPLETED, {"sent": 1})
        assert await client.wait("nobody", timeout=timedelta(seconds=20)) is None
        unfinished = (await client.enqueue(Note(), delay=timedelta(hours=1))).job_id
        job = await client.wait(unfinished, timeout=timedelta(milliseconds=50))
        assert job is not None
        assert job.state is JobState.SCHEDULED


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        (RawPayload(kind="nothing-of-ours"), UnknownKind),
        (RawPayload(kind="take-note", fields={"text": 1}), InvalidPayload),
        (RawPayload(kind="take-note", fields={"txt": ""}), InvalidPayload),
        (RawPayload(kind="take-note", version=9), NewerPayload),
        (RawPayload(kind="take-note", fields={"text": "x" * 300_000}), PayloadTooLarge),
    ],
)
async def test_what_is_refused_is_the_same_error_as_elsewhere(
    redis_url: str, payload: RawPayload, error: type[Exception]
) -> None:
    async with api(redis_url) as site, AsyncClient(site.url) as client:
        with pytest.raises(error):
            await client.enqueue(payload)
        assert (await site.queue.counts()).available == 0


async def test_a_job_whose_answer_got_lost_is_stored_once(redis_url: str) -> None:
    async with (
        api(redis_url) as site,
        proxy(site.url) as between,
        AsyncClient(f"http://127.0.0.1:{between.port}") as client,
    ):
        await client.enqueue(Note(text="first"))
        between.answers_to_lose = 1
        assert (await client.enqueue(Note(text="second"))).duplicate
        assert (await site.queue.counts()).available == 2


async def test_a_daemon_that_is_away_is_unavailable_and_its_address_is_not_told() -> None:
    async with AsyncClient(f"http://127.0.0.1:{free_port()}") as client:
        with pytest.raises(Unavailable, match="enqueue it again with job_id='mine'") as caught:
            await client.enqueue(Note(), job_id="mine")
        assert "127.0.0.1" not in str(caught.value)


async def test_what_is_no_skycap_is_named_as_such(redis_url: str) -> None:
    async with api(redis_url) as site, AsyncClient(f"{site.url}/nowhere") as client:
        with pytest.raises(Exception, match="nothing at /nowhere/api/jobs"):
            await client.enqueue(Note())


async def test_a_token_belongs_beside_the_address() -> None:
    async with AsyncClient("https://user:secret@host") as client:
        with pytest.raises(ConfigurationError, match="give the token as token=…") as caught:
            await client.enqueue(Note())
        assert "secret" not in str(caught.value)


async def test_without_await_it_is_the_same(redis_url: str) -> None:
    def use(url: str) -> JobState | None:
        with Client(url) as client:
            return client.cancel(client.enqueue(Note()).job_id)

    async with api(redis_url) as site:
        assert await asyncio.to_thread(use, site.url) is JobState.CANCELLED
