"""Jobs whose partner fails: they wait until it may be tried, keep their attempts, and do not churn."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from skycap import BreakerChange, BreakerSpec, BreakerState, JobState
from skycap.engine import breakers as engine
from skycap.engine.link import Link
from skycap.engine.policy import NeededBreaker, QueuePolicy
from skycap.services.breakers import FleetBreakers
from skycap.worker.outages import Outages
from tests.support.workers import Bench, bench, eventually

SPEC = BreakerSpec(name="partner", opens_after=3, closes_after=2, tries_again_after=timedelta(milliseconds=300))
POLICY = QueuePolicy(breakers={"partner": NeededBreaker(kinds=frozenset({"take-note"}), probes=SPEC.closes_after)})
JOBS, CONCURRENCY = 60, 5


class Partner:
    """Answers or not; counts how often it was called."""

    def __init__(self) -> None:
        self.is_down = True
        self.calls = 0

    async def call(self) -> None:
        self.calls += 1
        if self.is_down:
            raise OSError("the partner is down")


@asynccontextmanager
async def partnered(
    url: str, handle: Callable[[Any, Any], Awaitable[Any]], *, needs: tuple[str, ...] = (), tells: bool = True
) -> AsyncGenerator[tuple[Bench, engine.FleetBreakers]]:
    """Notes whose handlers may call a partner; where it ``tells``, the queue learns of changes at once."""
    link = Link.to(url)
    outages: list[Outages] = []
    state = engine.FleetBreakers(link)

    async def changed(change: BreakerChange) -> None:
        await outages[0].tell(change)

    breakers = FleetBreakers({SPEC.name: SPEC}, state, on_change=changed)
    async with bench(
        url, handle, needs=needs, breakers=breakers, queue_policy=POLICY if needs else None, attempts=5
    ) as notes:
        outages.append(Outages([notes.queue] if tells else []))
        try:
            yield notes, state
        finally:
            await breakers.close()
            await link.close()


async def test_a_job_that_meets_an_open_breaker_waits_and_keeps_its_attempt(redis_url: str) -> None:
    async def handle(ctx: Any, _payload: Any) -> None:
        async with ctx.breakers["partner"].guard():
            pass

    async with partnered(redis_url, handle) as (notes, state):
        await state.open(SPEC)
        job_id = await notes.put()
        async with notes.working():

            async def was_put_off() -> bool:
                job = await notes.queue.get(job_id)
                return job is not None and job.state is JobState.SCHEDULED

            await eventually(was_put_off)
            await state.reset(SPEC)
            job = await notes.finished(job_id)
    assert (job.state, job.attempt) == (JobState.COMPLETED, 1)


async def _claims_over_an_outage(url: str, *, tells: bool) -> int:
    partner = Partner()

    async def handle(ctx: Any, _payload: Any) -> None:
        async with ctx.breakers["partner"].guard():
            await partner.call()

    async with (
        partnered(url, handle, needs=("partner",), tells=tells) as (notes, state),
        notes.working(concurrency=CONCURRENCY),
    ):
        ids = [await notes.put(str(number)) for number in range(SPEC.opens_after)]

        async def is_open() -> bool:
            status = await state.status(SPEC)
            return status.state is not BreakerState.CLOSED

        await eventually(is_open)
        began = len(notes.ran)
        ids += [await notes.put(str(number)) for number in range(JOBS)]

        async def was_tried_twice_more() -> bool:
            return partner.calls >= SPEC.opens_after + 2

        await eventually(was_tried_twice_more)
        claims = len(notes.ran) - began
        partner.is_down = False
        jobs = [await notes.finished(job_id) for job_id in ids]
    assert {job.state for job in jobs} == {JobState.COMPLETED}
    return claims


async def test_a_kind_that_needs_an_open_breaker_does_not_churn(redis_url: str) -> None:
    # While sixty jobs wait, the partner is tried twice: a claim for each probe, and no other.
    assert await _claims_over_an_outage(redis_url, tells=True) <= 2 * SPEC.closes_after


async def test_a_kind_is_held_by_its_first_job_where_nobody_could_tell_the_queue(redis_url: str) -> None:
    # Those that run besides it find the breaker open as well, each time; and that is all.
    assert await _claims_over_an_outage(redis_url, tells=False) <= 2 * CONCURRENCY + 4 * SPEC.closes_after


async def _nothing(_ctx: Any, _payload: Any) -> None:
    pass


async def test_what_waits_for_a_breaker_is_shown_with_its_queue(redis_url: str) -> None:
    async with partnered(redis_url, _nothing, needs=("partner",)) as (notes, _):
        await notes.queue.configure()
        await notes.queue.outage("partner", timedelta(minutes=1))
        await notes.queue.outage("another", timedelta(minutes=1))
        assert set(await notes.queue.gates_shut()) == {"breaker partner"}
        await notes.queue.outage_over("partner")
        assert await notes.queue.gates_shut() == {}


async def test_a_job_that_meets_an_open_breaker_shuts_one_gate_which_opens_with_the_breaker(redis_url: str) -> None:
    async def handle(ctx: Any, _payload: Any) -> None:
        async with ctx.breakers["partner"].guard():
            pass

    async with partnered(redis_url, handle, needs=("partner",), tells=False) as (notes, state):
        await state.open(SPEC)
        job_id = await notes.put()
        async with notes.working():

            async def is_shut() -> bool:
                return bool(await notes.queue.gates_shut())

            await eventually(is_shut)
            assert set(await notes.queue.gates_shut()) == {"breaker partner"}
            await state.reset(SPEC)
            await notes.queue.outage_over("partner")
            assert await notes.queue.gates_shut() == {}
            assert (await notes.finished(job_id)).state is JobState.COMPLETED
