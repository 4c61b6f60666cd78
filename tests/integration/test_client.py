"""The clients over Redis: what is stored, what is found again, and that an answer that got lost costs nothing."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

import pytest

from skycap import AsyncClient, Client, ConfigurationError, JobState, Payload, QueueFull, RawPayload, Refused, Unique
from skycap.engine.link import Link
from skycap.engine.policy import QueuePolicy
from skycap.engine.queue import Queue
from skycap.errors import Unavailable
from tests.support.redis_servers import proxy
from tests.support.workers import PATIENCE, bench


class Mail(Payload, kind="mail", queue="email"):
    text: str = ""


class Report(Payload, kind="report", queue="reports"):
    text: str = ""


@pytest.fixture
async def client(redis_url: str) -> AsyncGenerator[AsyncClient]:
    async with AsyncClient(redis_url) as client:
        yield client


@pytest.fixture
async def link(redis_url: str) -> AsyncGenerator[Link]:
    link = Link.to(redis_url)
    yield link
    await link.close()


async def test_jobs_of_several_queues_are_stored_in_one_call_in_their_order(client: AsyncClient) -> None:
    done = await client.enqueue_many([Mail(text="1"), Report(text="2"), Mail(text="3")])
    found = [await client.get(each.job_id) for each in done]
    assert [(job.queue, job.payload["text"]) for job in found if job] == [
        ("email", "1"),
        ("reports", "2"),
        ("email", "3"),
    ]


async def test_none_is_stored_when_one_queue_is_full(client: AsyncClient, link: Link) -> None:
    await Queue("reports", link, policy=QueuePolicy(max_waiting=1)).configure()
    with pytest.raises(QueueFull):
        await client.enqueue_many([Mail(), Report(), Report()])
    assert (await client.queue("email").counts()).available == 0


async def test_a_job_is_found_cancelled_and_retried_without_naming_its_queue(redis_url: str, link: Link) -> None:
    await Queue("reports", link).configure()  # as every daemon does that serves it
    async with AsyncClient(redis_url) as client, AsyncClient(redis_url) as stranger:
        job_id = (await client.enqueue(Report(), delay=timedelta(hours=1))).job_id
        job = await stranger.get(job_id)
        assert job is not None
        assert job.state is JobState.SCHEDULED
        assert await stranger.retry(job_id) is JobState.AVAILABLE
        assert await stranger.cancel(job_id) is JobState.CANCELLED
        assert await stranger.get("nobody") is None
        assert await stranger.cancel("nobody") is None


async def test_waiting_needs_no_queue_and_ends_with_the_job(redis_url: str) -> None:
    async with bench(redis_url) as b, b.working(), AsyncClient(redis_url) as stranger:
        await b.queue.configure()
        job_id = await b.put("x")
        job = await stranger.wait(job_id, timeout=PATIENCE)
        assert job is not None
        assert job.state is JobState.COMPLETED


class TestRawPayload:
    async def test_a_kind_without_a_class_goes_to_the_queue_that_is_named(self, client: AsyncClient) -> None:
        done = await client.enqueue(RawPayload(kind="note", fields={"text": "é"}, queue="email", priority=3, version=2))
        job = await client.get(done.job_id)
        assert job is not None
        assert (job.queue, job.kind, job.priority, job.payload) == ("email", "note", 3, {"text": "é"})

    async def test_over_redis_it_must_name_its_queue(self, client: AsyncClient) -> None:
        with pytest.raises(Refused, match=r"give it: RawPayload\(kind='note', queue=…\)"):
            await client.enqueue(RawPayload(kind="note"))


class TestLostAnswers:
    async def test_a_job_whose_answer_got_lost_is_stored_once(self, redis_url: str) -> None:
        async with proxy(redis_url) as between, AsyncClient(between.url) as client:
            await client.enqueue(Mail(text="first"))
            between.answers_to_lose = 1
            done = await client.enqueue(Mail(text="second"))
            assert done.duplicate, "it was stored by the call whose answer got lost"
            assert (await client.queue("email").counts()).available == 2

    async def test_when_none_arrives_the_error_names_the_id_to_send_it_again_with(self, redis_url: str) -> None:
        async with proxy(redis_url) as between, AsyncClient(between.url) as client:
            await client.enqueue(Mail(text="first"))
            between.answers_to_lose = 100
            with pytest.raises(Unavailable, match="enqueue it again with job_id='the-one'"):
                await client.enqueue(Mail(text="second"), job_id="the-one")
            between.answers_to_lose = 0
            assert (await client.enqueue(Mail(text="second"), job_id="the-one")).job_id == "the-one"
            assert (await client.queue("email").counts()).available == 2


async def test_of_a_thousand_at_once_with_one_unique_key_one_job_is_made_and_all_are_told_of_it(redis_url: str) -> None:
    key = Unique(key="sweep")
    async with AsyncClient(redis_url) as one, AsyncClient(redis_url) as other:
        clients = [one, other]
        done = await asyncio.gather(
            *(clients[number % 2].enqueue(Mail(text=str(number)), unique=key) for number in range(1000))
        )
        assert len({each.job_id for each in done}) == 1
        assert sum(not each.duplicate for each in done) == 1
        assert (await one.queue("email").counts()).available == 1


class TestWithoutAwait:
    def test_any_thread_may_use_one_client(self, redis_url: str) -> None:
        with Client(redis_url) as client:
            ids: list[str] = []
            threads = [
                threading.Thread(target=lambda: ids.extend(client.enqueue(Mail()).job_id for _ in range(20)))
                for _ in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(set(ids)) == 160
            job = client.get(ids[0])
            assert job is not None
            assert job.kind == "mail"

    @pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")  # that is what it is about
    def test_each_child_of_a_fork_has_a_connection_of_its_own(self, redis_url: str) -> None:
        with Client(redis_url) as client:
            client.enqueue(Mail(text="parent"))
            children = [_in_a_child(client, number) for number in range(4)]
            assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
            # The parent's connection still gives the answers to its own questions.
            job = client.get("child-3")
            assert job is not None
            assert job.payload == {"text": "3"}
            assert [each.duplicate for each in client.enqueue_many([Mail(), Report()])] == [False, False]

    def test_it_connects_again_after_it_was_closed(self, redis_url: str) -> None:
        client = Client(redis_url)
        client.enqueue(Mail())
        client.close()
        client.close()
        assert client.enqueue(Mail()).state is JobState.AVAILABLE
        client.close()

    def test_a_job_is_cancelled_waited_for_and_scheduled(self, redis_url: str) -> None:
        with Client(redis_url) as client:
            later = client.enqueue(Mail(), at=datetime.now(UTC) + timedelta(hours=1), tags=["a"], priority=2)
            assert later.state is JobState.SCHEDULED
            assert client.retry(later.job_id) is JobState.AVAILABLE
            assert client.cancel(later.job_id) is JobState.CANCELLED
            job = client.wait(later.job_id, timeout=timedelta(seconds=5))
            assert job is not None
            assert (job.state, job.tags) == (JobState.CANCELLED, ("a",))


def _in_a_child(client: Client, number: int) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            client.enqueue(Mail(text=str(number)), job_id=f"child-{number}")
            code = 0
        finally:
            os._exit(code)
    return child


@pytest.mark.parametrize("address", ["mysql://secret:pw@host", "", "localhost:6379"])
def test_an_address_of_another_kind_is_refused_without_repeating_it(address: str) -> None:
    with Client(address) as client, pytest.raises(ConfigurationError) as caught:
        client.enqueue(Mail())
    assert str(caught.value).startswith("a client's address begins with redis://")
    assert "secret" not in str(caught.value)


def test_neither_address_nor_token_is_shown() -> None:
    for client in (AsyncClient("redis://:pw@host", token="t0k"), Client("https://host", token="t0k")):
        assert "pw" not in repr(client)
        assert "t0k" not in repr(client)
        assert "t0k" not in str(vars(client))
