"""Limits: rates and concurrency for the whole fleet, by queue, kind and key; what waits at one hinders no other."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from skycap.engine.policy import BY_KIND, Figures, Limit, QueuePolicy, Rate
from skycap.engine.queue import Claim, NewJob, Queue, Settlement
from skycap.errors import RateLimited
from skycap.job import JobState
from skycap.outcome import Completed, HandedBack, Held
from tests.support.workers import Bench, Note, bench, eventually

SECOND = timedelta(seconds=1)
LEASE = timedelta(seconds=30)


def per_second(starts: int) -> Rate:
    return Rate(max=starts, per=SECOND)


def by_text(**figures: Any) -> QueuePolicy:
    """Each text of a Note is a key of its own."""
    return QueuePolicy(limits=(Limit(name="text", key="text", figures=Figures(**figures)),))


async def claimed(queue: Queue, slots: int = 10, *, settle: Sequence[Settlement] = (), more: int = 0) -> list[Claim]:
    step = await queue.step(settle, slots=slots, more=more, worker="w", lease=LEASE, poison_after=3)
    return list(step.claims)


async def texts(b: Bench, claims: Sequence[Claim]) -> list[str]:
    jobs = [await b.queue.get(claim.job_id) for claim in claims]
    return [job.payload["text"] for job in jobs if job]


def most_in(window: timedelta, starts: Sequence[float]) -> int:
    """The most starts in any half-open window of that length, wherever it begins."""
    ordered = sorted(starts)
    return max(sum(1 for later in ordered if first <= later < first + window.total_seconds()) for first in ordered)


@pytest.fixture
def starts() -> list[float]:
    return []


@pytest.fixture
def note_start(starts: list[float]) -> Callable[..., Any]:
    async def handle(_ctx: Any, _payload: Any) -> None:
        starts.append(time.monotonic())

    return handle


async def test_a_rate_holds_in_every_window_over_several_workers(
    redis_url: str, starts: list[float], note_start: Callable[..., Any]
) -> None:
    rate = Rate(max=5, per=timedelta(milliseconds=400))
    async with bench(redis_url, note_start, queue_policy=QueuePolicy(rate=rate)) as b:
        await asyncio.gather(*(b.put(str(i)) for i in range(20)))
        async with b.working(), b.working(), b.working():
            await eventually(lambda: _true(len(starts) == 20))
    assert most_in(rate.per, starts) <= 5
    assert starts[-1] - starts[0] < 3 * 0.4 * 1.2 + 0.5, "a limit that is not used up would be one too strict"


async def _true(condition: bool) -> bool:
    return condition


async def test_a_claim_that_starts_too_late_for_its_limit_is_handed_back(redis_url: str) -> None:
    async with bench(redis_url, queue_policy=QueuePolicy(rate=per_second(1))) as b:
        await b.queue.configure()
        job_id = await b.put("late")
        (claim,) = await claimed(b.queue)
        assert 0 < claim.start_within <= 0.05
        assert await claimed(b.queue, settle=[Settlement(claim=claim, outcome=HandedBack())]) == []
        job = await b.queue.get(job_id)
        assert job is not None
        assert (job.state, job.attempt) == (JobState.AVAILABLE, 0)


async def test_a_limited_key_never_blocks_the_jobs_behind_it(redis_url: str) -> None:
    async with bench(redis_url, queue_policy=by_text(rate=per_second(1))) as b:
        await b.queue.configure()
        for text in ["busy"] * 5 + ["calm"]:
            await b.put(text)
        assert await texts(b, await claimed(b.queue)) == ["busy", "calm"]
        counts = await b.queue.counts()
        assert (counts.available, counts.waiting_at_limits) == (4, 4)
        waiting = await b.queue.jobs(JobState.AVAILABLE)
        assert {job.waits_at for job in waiting} == {"text:busy"}


async def test_a_key_is_taken_from_the_payload_and_shaped(redis_url: str) -> None:
    limit = Limit(name="domain", key="text", shape="domain", figures=Figures(concurrency=1))
    async with bench(redis_url, queue_policy=QueuePolicy(limits=(limit,))) as b:
        await b.queue.configure()
        for text in ("ada@Example.com", "bob@example.COM", "cyd@example.org", "no address", "dan@b@example.net"):
            await b.put(text)
        assert await texts(b, await claimed(b.queue)) == [
            "ada@Example.com",
            "cyd@example.org",
            "no address",
            "dan@b@example.net",
        ]


async def test_one_key_may_have_other_figures(redis_url: str) -> None:
    limit = Limit(name="text", key="text", figures=Figures(concurrency=1), own={"big": Figures(concurrency=3)})
    async with bench(redis_url, queue_policy=QueuePolicy(limits=(limit,))) as b:
        await b.queue.configure()
        for text in ["big"] * 4 + ["small"] * 2:
            await b.put(text)
        assert Counter(await texts(b, await claimed(b.queue))) == {"big": 3, "small": 1}


async def test_jobs_with_one_concurrency_key_run_one_at_a_time_and_in_order(redis_url: str) -> None:
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()
    order: list[str] = []

    async def handle(ctx: Any, payload: Any) -> None:
        running[payload.text] += 1
        most[payload.text] = max(most[payload.text], running[payload.text])
        await asyncio.sleep(0.01)
        running[payload.text] -= 1
        order.append(ctx.job.id)

    async with bench(redis_url, handle, queue_policy=by_text(concurrency=1)) as b:
        ids = [await b.put(text) for _ in range(5) for text in ("a", "b")]
        async with b.working(), b.working():
            for job_id in ids:
                await b.finished(job_id)
    assert most == {"a": 1, "b": 1}
    assert [i for i in order if i in ids[::2]] == ids[::2]


async def test_a_crashed_workers_place_at_a_limit_is_free_again(redis_url: str) -> None:
    async with bench(redis_url, queue_policy=by_text(concurrency=1)) as b:
        await b.queue.configure()
        await b.put("a")
        await b.put("a")
        step = await b.queue.step([], slots=2, worker="dies", lease=timedelta(milliseconds=1), poison_after=3)
        assert len(step.claims) == 1
        await eventually(lambda: _some(b.queue))


async def _some(queue: Queue) -> bool:
    return len(await claimed(queue)) == 1


async def test_a_kind_has_limits_of_its_own(redis_url: str) -> None:
    limit = Limit(name="kind", key=BY_KIND, own={"take-note": Figures(concurrency=2)})
    async with bench(redis_url, queue_policy=QueuePolicy(limits=(limit,))) as b:
        await b.queue.configure()
        for text in "abc":
            await b.put(text)
        assert len(await claimed(b.queue)) == 2


async def test_a_limit_of_other_kinds_lets_a_job_pass(redis_url: str) -> None:
    limit = Limit(name="partner", kinds=frozenset({"something-else"}), figures=Figures(concurrency=1))
    async with bench(redis_url, queue_policy=QueuePolicy(limits=(limit,))) as b:
        await b.queue.configure()
        for text in "abc":
            await b.put(text)
        assert len(await claimed(b.queue)) == 3


async def test_a_shared_limit_counts_the_jobs_of_all_its_queues(redis_url: str) -> None:
    shared = Limit(name="partner", figures=Figures(concurrency=2), shared=True)
    policy = QueuePolicy(limits=(shared,))
    async with bench(redis_url, queue_policy=policy) as b:
        other = Queue("others", b.broker.link, policy=policy)
        for queue in (b.queue, other):
            await queue.configure()
        for text in "abc":
            await b.put(text)
        mine = await claimed(b.queue)
        assert len(mine) == 2
        envelope = b.client.envelope(Note(text="elsewhere"))
        await other.add([NewJob(envelope=envelope)])
        assert await claimed(other) == []
        await claimed(b.queue, 0, settle=[Settlement(claim=mine[0], outcome=Completed())])
        # Nobody can tell the other queue, so it looks again by itself.
        await eventually(lambda: _some(other))


async def test_a_429_at_a_shared_limit_holds_its_key_in_all_its_queues(redis_url: str) -> None:
    shared = Limit(name="partner", key="text", figures=Figures(concurrency=9), shared=True)
    policy = QueuePolicy(limits=(shared,))
    async with bench(redis_url, queue_policy=policy) as b:
        other = Queue("others", b.broker.link, policy=policy)
        for queue in (b.queue, other):
            await queue.configure()
        await b.put("a")
        for text in "ab":
            await other.add([NewJob(envelope=b.client.envelope(Note(text=text)))])
        (told,) = await claimed(b.queue)
        held = Settlement(claim=told, outcome=Held(delay=timedelta(minutes=1), reason="429"))
        await claimed(b.queue, 0, settle=[held])
        (free,) = await claimed(other)
        assert b'"b"' in free.envelope
        assert list(await other.gates_shut()) == ["+partner:a"]
        await other.open("+partner:a")
        assert len(await claimed(other)) == 1


async def test_the_fleet_runs_no_more_jobs_of_a_queue_than_it_may(redis_url: str) -> None:
    running = most = 0

    async def handle(_ctx: Any, _payload: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1

    async with bench(redis_url, handle, queue_policy=QueuePolicy(fleet_concurrency=3)) as b:
        ids = [await b.put(str(i)) for i in range(20)]
        async with b.working(), b.working():
            for job_id in ids:
                await b.finished(job_id)
    assert most == 3


async def test_a_429_holds_its_key_and_not_the_queue(redis_url: str) -> None:
    told: list[str] = []

    async def handle(_ctx: Any, payload: Any) -> None:
        if payload.text == "limited" and not told:
            told.append("429")
            raise RateLimited(timedelta(milliseconds=300))

    async with bench(redis_url, handle, attempts=1, queue_policy=by_text(concurrency=10)) as b:
        async with b.working(concurrency=1):
            began = time.monotonic()
            limited = [await b.put("limited") for _ in range(2)]
            free = await b.finished(await b.put("free"))
            assert time.monotonic() - began < 0.3
            assert free.state is JobState.COMPLETED
            assert b.ran == ["limited", "free"]
            jobs = [await b.finished(job_id) for job_id in limited]
        assert time.monotonic() - began >= 0.3
        assert [job.state for job in jobs] == [JobState.COMPLETED] * 2, "being held uses up no attempt"


async def test_a_429_without_a_limit_puts_off_the_job_alone(redis_url: str) -> None:
    async def handle(ctx: Any, _payload: Any) -> None:
        if not told:
            told.append(ctx.job.id)
            raise RateLimited(timedelta(milliseconds=100))

    told: list[str] = []
    async with bench(redis_url, handle, attempts=1) as b, b.working():
        first = await b.finished(await b.put("a"))
        assert first.state is JobState.COMPLETED


async def test_a_kind_is_paused_and_resumed_while_others_go_on(redis_url: str) -> None:
    async with bench(redis_url) as b:
        await b.queue.configure()
        await b.queue.shut("kind:take-note")
        await b.put("waits")
        assert await claimed(b.queue) == []
        assert await b.queue.gates_shut() == {"kind:take-note": None}
        await b.queue.open("kind:take-note")
        assert len(await claimed(b.queue)) == 1


async def test_a_limit_is_shut_for_all_its_keys(redis_url: str) -> None:
    async with bench(redis_url, queue_policy=by_text(concurrency=9)) as b:
        await b.queue.configure()
        await b.queue.shut("text")
        for text in "ab":
            await b.put(text)
        assert await claimed(b.queue) == []
        await b.queue.open("text")
        assert len(await claimed(b.queue)) == 2


async def test_what_waits_at_limits_is_listed_page_by_page(redis_url: str) -> None:
    async with bench(redis_url, queue_policy=by_text(concurrency=1)) as b:
        await b.queue.configure()
        ids = {await b.put(text) for text in "aaabbb"}
        ids -= {claim.job_id for claim in await claimed(b.queue)}
        ids.add(await b.put("c"))
        pages = [await b.queue.jobs(JobState.AVAILABLE, limit=2, offset=offset) for offset in range(0, 6, 2)]
        assert sorted(job.id for page in pages for job in page) == sorted(ids)


async def test_what_waits_at_a_limit_can_be_cancelled_and_is_found_again(redis_url: str) -> None:
    async with bench(redis_url, queue_policy=by_text(concurrency=1)) as b:
        await b.queue.configure()
        await b.put("a")
        second = await b.put("a")
        await claimed(b.queue)
        assert await b.queue.cancel(second) is JobState.CANCELLED
        assert (await b.queue.counts()).waiting_at_limits == 0


async def test_figures_are_changed_while_running_and_survive_a_new_configuration(redis_url: str) -> None:
    async with bench(redis_url, queue_policy=by_text(concurrency=1)) as b:
        await b.queue.configure()
        for _ in range(4):
            await b.put("a")
        assert len(await claimed(b.queue)) == 1
        await b.queue.set({"limit:text": '{"concurrency": 2}', "fleet": "9"})
        assert len(await claimed(b.queue)) == 1, "one more passes, and does so at once"
        await b.queue.configure()
        assert await claimed(b.queue) == []
        assert await b.queue.parts_set() == {"limit:text": '{"concurrency": 2}', "fleet": "9"}
        await b.queue.unset(["fleet", "limit:text"])
        assert await b.queue.parts_set() == {}


async def test_priority_holds_among_the_jobs_that_wait_at_a_limit(redis_url: str) -> None:
    async with bench(redis_url, queue_policy=by_text(concurrency=1)) as b:
        await b.queue.configure()
        (first, late, urgent) = [await b.put("a", priority=p) for p in (5, 9, 1)]
        ran: list[str] = []
        claims = await claimed(b.queue, 1)
        while claims:
            ran += [claim.job_id for claim in claims]
            claims = await claimed(b.queue, 1, settle=[Settlement(claim=c, outcome=Completed()) for c in claims])
    assert ran == [urgent, first, late]


async def test_nothing_is_kept_at_hand_of_a_limited_queue(redis_url: str) -> None:
    async with bench(redis_url, queue_policy=by_text(concurrency=100)) as b:
        await b.queue.configure()
        for _ in range(10):
            await b.put("a")
        assert len(await claimed(b.queue, 2, more=5)) == 2
