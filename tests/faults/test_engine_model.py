"""The queue engine against its model: whatever callers, workers, crashes and time do, both agree about every job."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Coroutine, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import inf
from typing import Any, ClassVar, TypeVar

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from skycap.engine.policy import Figures, Limit, QueuePolicy, Rate
from skycap.engine.queue import Claim, NewJob, Queue, Settlement, Step
from skycap.envelope import Envelope
from skycap.errors import QueueFull
from skycap.job import JobState
from skycap.outcome import Cancelled, Completed, DeadReason, Discarded, Outcome
from tests.support.agreement import REAL_TIME_MS, check
from tests.support.clocked import ClockedLink, Photo, photo_of
from tests.support.model import WAITING, Draft, Model, ModelJob
from tests.support.strategies import HOUR, MINUTE, NONE, SECOND, YEAR, batches, drafts, gates, outcomes, policies, slots

STARTED_MS = 1_800_000_000_000
SEATS = 2**43
POISON_AFTER = 2
LEASE = timedelta(seconds=30)

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What all examples of a run have in common."""

    loop: asyncio.AbstractEventLoop
    link: ClockedLink


class EngineMachine(RuleBasedStateMachine):
    """Does to the real engine what callers, workers and admins may do, in any order, and tells the model."""

    ground: ClassVar[Ground]
    jobs = Bundle[str]("jobs")
    claims = Bundle[Claim]("claims")

    def __init__(self) -> None:
        super().__init__()
        self.model = Model(now=STARTED_MS, poison_after=POISON_AFTER)
        self.queue = Queue("model", self.ground.link)
        self.next_event: timedelta | None = None
        self.last_seat = 0
        self.batches = 0
        self.photo: Photo

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.ground.loop.run_until_complete(call)

    # Hypothesis chooses among the rules evenly. So what people rarely do shares one, and work has several.

    @initialize(target=jobs, policy=policies, batch=batches)
    def begin(self, policy: QueuePolicy, batch: list[Draft]) -> MultipleResults[str]:
        self.run(self.ground.link.start(STARTED_MS))
        self.configure(policy)
        return self.add_new(batch)

    # Callers

    @rule(target=jobs, batch=batches)
    def add(self, batch: list[Draft]) -> MultipleResults[str]:
        return self.add_new(batch)

    def add_new(self, batch: list[Draft]) -> MultipleResults[str]:
        self.batches += 1
        ids = [f"j{self.batches}-{number}" for number in range(len(batch))]
        self.enqueue(list(zip(ids, batch, strict=True)))
        return multiple(*[job_id for job_id in ids if job_id in self.model.jobs])

    @rule(job=jobs, draft=drafts)
    def send_again(self, job: str, draft: Draft) -> None:
        self.enqueue([(job, draft)])

    @rule(target=jobs, job=jobs, draft=drafts)
    def add_with_the_key_of(self, job: str, draft: Draft) -> MultipleResults[str]:
        had = self.model.jobs.get(job)
        return self.add_new([replace(draft, unique=None if had is None else had.unique)])

    def enqueue(self, batch: list[tuple[str, Draft]]) -> None:
        if any(self.is_running_out(draft.unique) for _, draft in batch):
            return
        try:
            answers = self.run(self.queue.add([self.new_job(job_id, draft) for job_id, draft in batch]))
        except QueueFull:
            most, unknown = self.model.policy.max_waiting, [one for one, _ in batch if one not in self.model.jobs]
            assert most is not None
            assert unknown, "refused although everything was known"
            assert len(self.model.known(*WAITING)) + len(unknown) > most, "refused although there was room"
            return
        known = set(self.model.jobs)
        expected = [self.model.add(job_id, draft) for job_id, draft in batch]
        assert [(answer.job_id, answer.state, answer.duplicate) for answer in answers] == expected
        most = self.model.policy.max_waiting
        assert most is None or set(self.model.jobs) == known or len(self.model.known(*WAITING)) <= most

    def is_running_out(self, unique: str | None) -> bool:
        _, until = self.model.unique.get(unique or "", ("", 0))
        return 0 <= until - self.model.now <= REAL_TIME_MS

    def new_job(self, job_id: str, draft: Draft) -> NewJob:
        return NewJob(
            envelope=self.envelope(job_id, draft),
            when=draft.delay,
            deadline=draft.deadline,
            unique_key=draft.unique,
            unique_within=draft.within,
            on_conflict=draft.conflict,
        )

    def envelope(self, job_id: str, draft: Draft) -> Envelope:
        return Envelope(
            id=job_id,
            kind=draft.kind,
            payload=draft.payload,
            queue="model",
            priority=draft.priority,
            enqueued_at=datetime.fromtimestamp(STARTED_MS / 1000, UTC),
        )

    # Workers

    @rule(target=claims, slots=slots, more=st.integers(min_value=0, max_value=2))
    def look_for_work(self, slots: int, more: int) -> MultipleResults[Claim]:
        return self.turn([], slots, more)

    @rule(target=claims, outcome=outcomes, slots=slots)
    def work(self, outcome: Outcome, slots: int) -> MultipleResults[Claim]:
        """What was found is settled at once, and the next are claimed by the same call."""
        found = self.turn([], slots)
        return self.turn([Settlement(claim=claim, outcome=outcome) for claim in found.values], slots)

    @rule(target=claims, claim=consumes(claims), outcome=outcomes, keep=st.sampled_from([None, MINUTE]), slots=slots)
    def settle(self, claim: Claim, outcome: Outcome, keep: timedelta | None, slots: int) -> MultipleResults[Claim]:
        return self.turn([Settlement(claim=claim, outcome=outcome, keep=keep)], slots)

    @rule(target=claims, one=claims, other=claims, outcome=outcomes, second=outcomes)
    def settle_twice(self, one: Claim, other: Claim, outcome: Outcome, second: Outcome) -> MultipleResults[Claim]:
        """Both may be settled, stale or the same claim."""
        told = [Settlement(claim=one, outcome=outcome), Settlement(claim=other, outcome=second)]
        return self.turn([*told, told[0]], slots=1)

    @rule(claim=claims, outcome=outcomes)
    def settle_without_taking_more(self, claim: Claim, outcome: Outcome) -> None:
        """The claim stays known: it is settled again by other rules."""
        self.turn([Settlement(claim=claim, outcome=outcome)], slots=0)

    @rule(target=claims, slots=slots, more=st.integers(min_value=0, max_value=2))
    def crash(self, slots: int, more: int) -> MultipleResults[Claim]:
        """Whatever it claimed, nobody hears of the worker for as long as its leases last."""
        claimed = self.turn([], slots, more)
        self.pass_time(LEASE)
        self.turn([], slots=0)
        return claimed

    @rule(claim=claims)
    def beat(self, claim: Claim) -> None:
        (word,) = self.run(self.queue.beat([claim], lease=LEASE))
        if self.model.is_live(claim):
            job = self.model.jobs[claim.job_id]
            job.lease_ends = self.model.now + round(LEASE.total_seconds() * 1000)
            assert word == ("cancel" if job.is_called_off else "held")
        else:
            assert word == "lost"

    def turn(self, told: list[Settlement], slots: int, more: int = 0) -> MultipleResults[Claim]:
        before = self.look()
        step = self.run(
            self.queue.step(told, slots=slots, more=more, worker="w", lease=LEASE, poison_after=POISON_AFTER)
        )
        accepted = [self.model.settle(one.claim, one.outcome, _kept(one)) for one in told]
        assert [one not in step.rejected for one in told] == _each_once(told, accepted)
        assert step.has_policy
        self.model.take_back_and_promote()
        for number, claim in enumerate(step.claims):
            self.model.claim(claim, lease=LEASE, is_buffered=number >= slots)
        self.learn()
        self.check_order(step.claims, before, slots)
        self.check_nobody_starves(slots, step)
        self.next_event = step.next_event
        return multiple(*step.claims)

    def check_order(self, claimed: Sequence[Claim], before: Photo, slots: int) -> None:
        ranks = [self.model.jobs[claim.job_id].rank or 0 for claim in claimed]
        assert all(one < other for one, other in pairwise(ranks)), "claimed out of order"
        for job in self.model.known(JobState.AVAILABLE):
            if ranks and (job.rank or 0) < ranks[-1] and self.may_go_on(job) <= self.model.now:
                # Of those that wait at a gate, no more are let out at a time than there are slots.
                line = max((len(line) for line in before.waiting.values() if job.id in line), default=0)
                assert line > slots, f"{job.id} was overtaken"

    def check_nobody_starves(self, slots: int, step: Step) -> None:
        """A worker that has room left found everything that may start, and wakes in time for what may start next."""
        model = self.model
        fleet = model.policy.fleet_concurrency
        is_full = fleet is not None and len(model.known(JobState.RUNNING)) >= fleet
        if len(step.claims) >= slots or is_full or model.is_paused:
            return
        wakes = inf if step.next_event is None else model.now + round(step.next_event.total_seconds() * 1000)
        its_own = {claim.job_id for claim in step.claims}  # it renews their leases itself
        for job in model.known():
            is_in_time = job.id in its_own or wakes <= max(model.now, self.may_go_on(job))
            assert is_in_time, f"{job} starves, the worker wakes at {wakes}"

    def may_go_on(self, job: ModelJob) -> float:
        match job.state:
            case JobState.AVAILABLE:
                # A gate that was shut holds the jobs that wait at it even if its limit was taken away meanwhile.
                parked = self.photo.jobs[job.id].get("parked", "")
                shut = self.model.holds.get(parked, 0)
                return max(shut, self.model.startable(job), self.model.queue_opens(at_the_latest=True))
            case JobState.SCHEDULED | JobState.RETRYABLE:
                return job.due
            case JobState.RUNNING:
                return job.lease_ends
            case _:
                return inf

    # Time

    @rule(duration=st.sampled_from([SECOND, 10 * SECOND, LEASE, MINUTE, HOUR]))
    def time_passes(self, duration: timedelta) -> None:
        self.pass_time(duration)

    def pass_time(self, duration: timedelta) -> None:
        self.run(self.ground.link.pass_time(duration))
        self.model.now += round(duration.total_seconds() * 1000)
        self.next_event = None

    @rule()
    def sleep_until_the_next_event(self) -> None:
        if self.next_event is not None:
            self.pass_time(self.next_event)

    # Admins

    @rule(
        what=st.sampled_from(["open", "resume", "shut", "resume", "pause", "resume", "configure"]),
        gate=gates,
        duration=st.sampled_from([10 * SECOND, None, HOUR]),
        policy=policies,
    )
    def ask_of_the_queue(self, what: str, gate: str, duration: timedelta | None, policy: QueuePolicy) -> None:
        match what:
            case "open":
                self.run(self.queue.open(gate))
                self.model.holds.pop(gate, None)
            case "shut":
                self.run(self.queue.shut(gate, duration))
                self.model.shut(gate, duration)
            case "configure":
                self.configure(policy)
            case _:
                self.run(self.queue.pause() if what == "pause" else self.queue.resume())
                self.model.is_paused = what == "pause"

    def configure(self, policy: QueuePolicy) -> None:
        self.queue.policy = policy
        self.run(self.queue.configure())
        self.model.configure(policy)

    @rule(job=jobs, what=st.sampled_from(["retry", "cancel", "remove"]), delay=st.sampled_from([NONE, MINUTE, HOUR]))
    def ask_of_a_job(self, job: str, what: str, delay: timedelta) -> None:
        had = self.model.jobs.get(job)
        if what == "cancel":
            assert self.run(self.queue.cancel(job)) == self.model.cancel(job)
        elif what == "remove":
            assert self.run(self.queue.remove(job)) == self.model.remove(job)
        elif had is None or not self.is_running_out(had.unique):
            self.retry(job, delay)

    @rule()
    def redrive(self) -> None:
        for job in self.model.known(JobState.DISCARDED):
            if not self.is_running_out(job.unique):
                self.retry(job.id, NONE)

    def retry(self, job: str, delay: timedelta) -> None:
        assert self.run(self.queue.retry(job, when=delay)) == self.model.retry(job, delay)

    # What must hold after every step

    def look(self) -> Photo:
        return self.run(photo_of(self.queue.keys, self.ground.link))

    @invariant()
    def agree(self) -> None:
        if self.model.policy.keep_finished == YEAR:  # not before it began
            self.learn()
            check(self.model, self.photo)

    def learn(self) -> None:
        """What the engine decides: ranks, what of the finished it has forgotten, which of the late it met."""
        self.photo = self.look()
        for job in self.model.known(JobState.AVAILABLE):
            row = self.photo.jobs.get(job.id, {})
            if job.deadline <= self.model.now and row.get("reason") == DeadReason.EXPIRED.value:
                self.model.expire(job)
        for job in self.model.known(JobState.COMPLETED, JobState.CANCELLED, JobState.DISCARDED):
            if job.id not in self.photo.jobs:
                self.forget(job)
        self.learn_ranks()

    def forget(self, job: ModelJob) -> None:
        is_over = job.kept_until - self.model.now <= REAL_TIME_MS
        ended = self.model.counted[JobState.COMPLETED] + self.model.counted[JobState.CANCELLED]
        was_crowded_out = job.state is not JobState.DISCARDED and ended > self.model.policy.keep_finished_count
        assert is_over or was_crowded_out, f"{job} was forgotten too early"
        del self.model.jobs[job.id]

    def learn_ranks(self) -> None:
        new = [job for job in self.model.known() if job.rank is None and "rank" in self.photo.jobs.get(job.id, {})]
        for job in new:
            job.rank = int(self.photo.jobs[job.id]["rank"])
            assert job.rank // SEATS == job.priority
            assert job.rank % SEATS > self.last_seat, "the seat was given before"
        new.sort(key=lambda job: (job.rank or 0) % SEATS)
        dues = [job.due for job in new if job.due <= self.model.now]
        assert dues == sorted(dues), "not first come, first served"
        self.last_seat = max([self.last_seat, *((job.rank or 0) % SEATS for job in new)])


def _kept(told: Settlement) -> timedelta | None:
    return told.keep if isinstance(told.outcome, Completed | Cancelled | Discarded) else None


def _each_once(told: list[Settlement], accepted: list[bool]) -> list[bool]:
    """One settlement told twice is one entry of the rejected: rejected, if it was so the second time."""
    rejected = [one for one, was in zip(told, accepted, strict=True) if not was]
    return [one not in rejected for one in told]


@contextmanager
def ground_at(url: str) -> Generator[Ground]:
    with asyncio.Runner() as runner:

        async def open_link() -> ClockedLink:
            return ClockedLink.to(url)

        link = runner.run(open_link())
        yield Ground(loop=runner.get_loop(), link=link)
        runner.run(link.close())


SHORT = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    print_blob=False,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


def test_the_engine_agrees_with_its_model_whatever_happens(redis_url: str) -> None:
    with ground_at(redis_url) as ground:
        EngineMachine.ground = ground
        run_state_machine_as_test(EngineMachine, settings=SHORT)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_engine_agrees_with_its_model_for_tens_of_thousands_of_steps(redis_url: str) -> None:
    number = random.randrange(2**32)  # noqa: S311 - a new run looks elsewhere
    print(f"seed {number}")  # noqa: T201 - with it, the run can be repeated
    long = settings(SHORT, max_examples=1500, stateful_step_count=40, derandomize=False)
    with ground_at(redis_url) as ground:
        EngineMachine.ground = ground
        run_state_machine_as_test(seed(number)(EngineMachine), settings=long)


async def test_a_job_that_is_debounced_in_the_batch_that_brought_it_waits_in_one_place(redis_url: str) -> None:
    async with clocked_queue(redis_url) as queue:
        await queue.add([_new("first", unique_key="u"), _new("second", unique_key="u", on_conflict="debounce")])
        found = await photo_of(queue.keys, queue.link)
    assert list(found.places()) == [("first", "later")]


async def test_an_id_is_free_again_when_its_job_was_forgotten(redis_url: str) -> None:
    async with clocked_queue(redis_url, QueuePolicy(keep_finished_count=1)) as queue:
        await _complete(queue, "again", keep=MINUTE)
        await queue.link.pass_time(MINUTE)
        await queue.add([_new("again", when=HOUR)])
        await _complete(queue, "other")
        await _complete(queue, "another")
        job = await queue.get("again")
    assert job is not None, "it was forgotten with the ended job that had its id before"
    assert job.state is JobState.SCHEDULED


async def test_a_replaced_job_waits_at_no_gate_of_its_old_payload(redis_url: str) -> None:
    limit = Limit(name="partner", figures=Figures(concurrency=1), key="partner")
    async with clocked_queue(redis_url, QueuePolicy(limits=(limit,))) as queue:
        await queue.add([_new("busy", partner="a"), _new("waits", partner="a", unique_key="u")])
        assert [claim.job_id for claim in (await _turn(queue)).claims] == ["busy"]
        await queue.add([_new("newer", partner="b", unique_key="u", on_conflict="replace")])
        assert [claim.job_id for claim in (await _turn(queue)).claims] == ["waits"]


async def test_a_worker_is_told_when_the_rate_lets_jobs_start_that_wait_at_an_open_gate(redis_url: str) -> None:
    limit = Limit(name="partner", figures=Figures(concurrency=1), key="partner")
    policy = QueuePolicy(rate=Rate(max=2, per=10 * SECOND), limits=(limit,))
    async with clocked_queue(redis_url, policy) as queue:
        await queue.add([_new("first", partner="a"), _new("waits", partner="a"), _new("other", partner="b")])
        claims = (await _turn(queue)).claims
        assert [claim.job_id for claim in claims] == ["first", "other"]
        step = await _turn(queue, *[Settlement(claim=claim, outcome=Completed()) for claim in claims])
    assert step.next_event is not None
    assert step.next_event <= 11 * SECOND


@asynccontextmanager
async def clocked_queue(url: str, policy: QueuePolicy | None = None) -> AsyncGenerator[ClockedQueue]:
    link = ClockedLink.to(url)
    try:
        await link.start(STARTED_MS)
        queue = ClockedQueue("model", link, policy=policy)
        await queue.configure()
        yield queue
    finally:
        await link.close()


class ClockedQueue(Queue):
    link: ClockedLink


def _new(job_id: str, *, partner: str | None = None, **options: Any) -> NewJob:
    payload = {} if partner is None else {"partner": partner}
    envelope = Envelope(
        id=job_id, kind="book", payload=payload, queue="model", priority=10, enqueued_at=datetime.now(UTC)
    )
    return NewJob(envelope=envelope, **options)


async def _turn(queue: Queue, *told: Settlement) -> Step:
    return await queue.step(told, slots=9, worker="w", lease=LEASE, poison_after=POISON_AFTER)


async def _complete(queue: Queue, job_id: str, *, keep: timedelta | None = None) -> None:
    await queue.add([_new(job_id)])
    (claim,) = (await _turn(queue)).claims
    await queue.step(
        [Settlement(claim=claim, outcome=Completed(), keep=keep)], slots=0, worker="w", lease=LEASE, poison_after=9
    )
