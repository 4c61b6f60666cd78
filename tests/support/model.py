"""What the queue engine promises, in plain Python: jobs in a dictionary and no index, no gate and no line anywhere.

The machine of test_engine_model.py tells it what was asked of the real engine, and compares.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from math import inf

from skycap.engine.policy import BY_KIND, SHARED, Figures, Limit, QueuePolicy, Rate, milliseconds
from skycap.engine.queue import Claim
from skycap.job import JobState
from skycap.outcome import (
    Cancelled,
    Completed,
    DeadReason,
    Discarded,
    HandedBack,
    Held,
    Outcome,
    Retry,
    Snoozed,
    Stopped,
)
from skycap.unique import OnConflict

WAITING = frozenset({JobState.AVAILABLE, JobState.SCHEDULED, JobState.RETRYABLE})
ON_REQUEST = "cancelled on request"
_ATTEMPTS_THAT_COUNT = {DeadReason.PERMANENT, DeadReason.ATTEMPTS_USED_UP, DeadReason.CANCELLED_BY_DEADLINE}


def slack_ms(rate: Rate) -> int:
    """How much longer than the window the engine counts, since a job starts a little after its claim."""
    return min(50, -(-milliseconds(rate.per) // 10))


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A job that somebody wants to enqueue."""

    kind: str
    priority: int
    payload: dict[str, str]
    delay: timedelta
    deadline: timedelta | None = None
    unique: str | None = None
    within: timedelta | None = None
    conflict: OnConflict = "keep"


@dataclass(kw_only=True)
class ModelJob:
    """One job; times are ms of the test's clock."""

    id: str
    kind: str
    priority: int
    payload: dict[str, str]
    due: int
    state: JobState = JobState.AVAILABLE
    deadline: float = inf
    unique: str | None = None
    rank: int | None = None
    """Known once Redis has given it one; it is kept for life."""
    claim: int = 0
    lease_ends: int = 0
    held: frozenset[str] = frozenset()
    failures: int = 0
    snoozes: int = 0
    lost_leases: int = 0
    is_buffered: bool = False
    was_stranded: bool = False
    is_called_off: bool = False
    kept_until: float = inf

    def gates(self, policy: QueuePolicy) -> list[str]:
        """The gates that it must pass before it starts."""
        found = [gate for limit in policy.limits if (gate := self._gate(limit)) is not None]
        return found if any(limit.name == "kind" for limit in policy.limits) else [*found, f"kind:{self.kind}"]

    def _gate(self, limit: Limit) -> str | None:
        name = f"{SHARED if limit.shared else ''}{limit.name}"
        if limit.kinds is not None and self.kind not in limit.kinds:
            return None
        if limit.key is None:
            return name
        value = self.kind if limit.key == BY_KIND else self.payload.get(limit.key)
        if value is not None and limit.shape == "domain":
            value = value.rpartition("@")[2].lower()
        return None if value is None else f"{name}:{value}"


@dataclass(kw_only=True)
class Model:
    """The rules. Every method is what one call of the engine means."""

    now: int
    poison_after: int
    policy: QueuePolicy = field(default_factory=QueuePolicy)
    is_paused: bool = False
    jobs: dict[str, ModelJob] = field(default_factory=dict[str, ModelJob])
    holds: dict[str, float] = field(default_factory=dict[str, float])
    unique: dict[str, tuple[str, float]] = field(default_factory=dict[str, tuple[str, float]])
    starts: dict[str, list[int]] = field(default_factory=lambda: defaultdict[str, list[int]](list))
    """When jobs passed each gate that had a rate, ``""`` for the queue's own."""
    counted: Counter[str] = field(default_factory=Counter[str])
    minutes: dict[int, Counter[str]] = field(default_factory=lambda: defaultdict[int, Counter[str]](Counter))
    """What happened in each minute since 1970, and under "waited" for how many ms those that started had waited."""
    _starts_before: dict[str, int] = field(default_factory=dict[str, int])

    def note(self, what: str, n: int = 1) -> None:
        self.minutes[self.now // 60_000][what] += n

    def _count(self, what: str) -> None:
        self.counted[what] += 1
        self.note(what)

    def known(self, *states: JobState) -> list[ModelJob]:
        return [job for job in self.jobs.values() if not states or job.state in states]

    # Enqueue

    def add(self, job_id: str, draft: Draft) -> tuple[str, JobState, bool]:
        """The id and state of the job that stands for it now, and whether that was there before."""
        due = self.now + milliseconds(draft.delay)
        known = self._known_as(job_id, draft, due)
        self._count("added" if known is None else "deduplicated")
        if known is not None:
            return *known, True
        job = ModelJob(id=job_id, kind=draft.kind, priority=draft.priority, payload=draft.payload, due=due)
        job.state = JobState.SCHEDULED if due > self.now else JobState.AVAILABLE
        job.deadline = inf if draft.deadline is None else self.now + milliseconds(draft.deadline)
        job.unique = draft.unique
        if draft.unique is not None:
            self.unique[draft.unique] = (job_id, inf if draft.within is None else self.now + milliseconds(draft.within))
        self.jobs[job_id] = job
        return job_id, job.state, False

    def _known_as(self, job_id: str, draft: Draft, due: int) -> tuple[str, JobState] | None:
        if job_id in self.jobs:
            return job_id, self.jobs[job_id].state
        other = self.holder_of(draft.unique)
        standing = None if other is None else self._stands_for(other, draft, due)
        return None if other is None or standing is None else (other, standing)

    def holder_of(self, key: str | None) -> str | None:
        job_id, until = self.unique.get(key or "", (None, 0))
        return job_id if until > self.now else None

    def _stands_for(self, other: str, draft: Draft, due: int) -> JobState | None:
        job = self.jobs.get(other)
        if draft.conflict == "keep":
            return JobState.COMPLETED if job is None else job.state
        if job is None or job.state not in WAITING:
            return None
        job.payload = draft.payload
        if draft.conflict == "debounce":
            job.state, job.due = JobState.SCHEDULED, due
        return job.state

    # A worker's turn

    def is_live(self, claim: Claim) -> bool:
        job = self.jobs.get(claim.job_id)
        return job is not None and job.state is JobState.RUNNING and job.claim == claim.number

    def settle(self, claim: Claim, outcome: Outcome, keep: timedelta | None = None) -> bool:
        """Whether the outcome counts: only the newest claim decides, and only once."""
        if not self.is_live(claim):
            return False
        job = self.jobs[claim.job_id]
        job.held = frozenset()
        if job.is_called_off and isinstance(outcome, Retry | Snoozed | Held | HandedBack):
            self._end(job, JobState.CANCELLED)
            return True
        match outcome:
            case Completed():
                self._end(job, JobState.COMPLETED, keep)
            case Cancelled():
                self._end(job, JobState.CANCELLED, keep)
            case Discarded(reason=reason):
                job.failures += reason in _ATTEMPTS_THAT_COUNT
                self._end(job, JobState.DISCARDED, keep)
            case Retry(delay=delay):
                job.failures += 1
                self._again(job, JobState.RETRYABLE, delay)
            case Snoozed(delay=delay) | Stopped(delay=delay):
                job.snoozes += 1
                self._again(job, JobState.SCHEDULED, delay)
            case Held(delay=delay, limit=limit):
                job.snoozes += 1
                self._hold(job, delay, limit)
            case HandedBack():
                job.state = JobState.AVAILABLE
        return True

    def _again(self, job: ModelJob, state: JobState, delay: timedelta) -> None:
        self.note("retried" if state is JobState.RETRYABLE else "snoozed")
        job.state, job.due = state, self.now + milliseconds(delay)
        job.lost_leases, job.was_stranded = 0, False

    def _hold(self, job: ModelJob, delay: timedelta, limit: str | None) -> None:
        keyed = {one.name for one in self.policy.limits if one.key not in {None, BY_KIND}}
        meant = keyed if limit is None else {limit}
        gates = [gate for gate in job.gates(self.policy) if gate.removeprefix(SHARED).partition(":")[0] in meant]
        for gate in gates:
            self.holds[gate] = max(self.holds.get(gate, 0), self.now + milliseconds(delay))
        if gates:
            self.note("snoozed")
            job.state, job.due = JobState.AVAILABLE, self.now + milliseconds(delay)
            job.lost_leases, job.was_stranded = 0, False
        else:
            self._again(job, JobState.SCHEDULED, delay)

    def _end(self, job: ModelJob, state: JobState, keep: timedelta | None = None) -> None:
        job.state = state
        job.kept_until = self.now + milliseconds(keep or self.policy.keep_finished)
        self._count(state.value)
        if job.unique is not None and self.unique.get(job.unique) == (job.id, inf):
            del self.unique[job.unique]

    def take_back_and_promote(self) -> None:
        """What each turn does before it claims."""
        for job in self.known(JobState.RUNNING):
            if job.lease_ends <= self.now:
                self._take_back(job)
        for job in self.known(JobState.SCHEDULED, JobState.RETRYABLE):
            if job.due <= self.now:
                job.state = JobState.AVAILABLE
        self.holds = {gate: until for gate, until in self.holds.items() if until > self.now}

    def _take_back(self, job: ModelJob) -> None:
        self.note("reclaimed")
        job.held = frozenset()
        job.state = JobState.AVAILABLE
        if job.is_called_off:
            self._end(job, JobState.CANCELLED)
        elif job.is_buffered and not job.was_stranded:
            job.was_stranded = True
        else:
            job.lost_leases += 1
            job.due = self.now
            if job.lost_leases >= self.poison_after:
                self._end(job, JobState.DISCARDED)

    def claim(self, claim: Claim, *, lease: timedelta, is_buffered: bool) -> None:
        """Raises AssertionError when the engine should not have given this job away now."""
        job = self.jobs[claim.job_id]
        assert not self.is_paused, "claimed from a paused queue"
        assert job.state is JobState.AVAILABLE, f"claimed a job that is {job.state}"
        assert job.deadline > self.now, "claimed after its deadline"
        assert claim.number > job.claim, "the claim's number was given before"
        assert not (is_buffered and job.was_stranded), "a job that was stranded once waits in a worker again"
        shut = [gate for gate in job.gates(self.policy) if self.gate_opens(gate) > self.now]
        assert not shut, f"claimed through the gates {shut}"
        assert self.queue_opens() <= self.now, "claimed over the queue's own rate"
        fleet = self.policy.fleet_concurrency
        assert fleet is None or len(self.known(JobState.RUNNING)) < fleet, "claimed over the fleet's concurrency"
        assert claim.start_within == self._must_start_within(job) / 1000
        self._pass(job)
        self.note("started")
        self.note("waited", max(0, self.now - job.due))
        job.state, job.claim, job.is_buffered = JobState.RUNNING, claim.number, is_buffered
        job.lease_ends = self.now + milliseconds(lease)

    def _must_start_within(self, job: ModelJob) -> int:
        rates = [rate for gate in job.gates(self.policy) if (rate := self.figures(gate).rate)]
        rates += [self.policy.rate] if self.policy.rate else []
        return min(map(slack_ms, rates), default=0)

    def _pass(self, job: ModelJob) -> None:
        gates = job.gates(self.policy)
        job.held = frozenset(gate for gate in gates if self.figures(gate).concurrency is not None)
        for gate in gates:
            if self.figures(gate).rate is not None:
                self.starts[gate].append(self.now)
        if self.policy.rate is not None:
            self.starts[""].append(self.now)

    def expire(self, job: ModelJob) -> None:
        """The engine met a job whose deadline had passed."""
        self._end(job, JobState.DISCARDED)

    # What limits say

    def figures(self, gate: str) -> Figures:
        name, _, value = gate.removeprefix(SHARED).partition(":")
        limit = next((limit for limit in self.policy.limits if limit.name == name), None)
        if limit is None:
            return Figures()
        own = limit.own.get(value, Figures())
        return Figures(rate=own.rate or limit.figures.rate, concurrency=own.concurrency or limit.figures.concurrency)

    def busy(self, gate: str) -> set[str]:
        return {job.id for job in self.known(JobState.RUNNING) if gate in job.held}

    def gate_opens(self, gate: str, *, at_the_latest: bool = False) -> float:
        """The ms before which no job may pass it; or, at the latest, the one from which the engine must let one."""
        if (until := self.holds.get(gate, 0)) > self.now:
            return until
        limit = self.figures(gate)
        if limit.concurrency is not None and len(self.busy(gate)) >= limit.concurrency:
            return inf
        return self._rate_opens(gate, limit.rate, at_the_latest=at_the_latest)

    def queue_opens(self, *, at_the_latest: bool = False) -> float:
        return self._rate_opens("", self.policy.rate, at_the_latest=at_the_latest)

    def _rate_opens(self, gate: str, rate: Rate | None, *, at_the_latest: bool) -> float:
        if rate is None:
            return 0
        # When the figures changed, the engine need not know how many passed before; it may.
        known = self.starts[gate] if at_the_latest else self.starts[gate][self._starts_before.get(gate, 0) :]
        if len(known) < rate.max:
            return 0
        return known[-rate.max] + milliseconds(rate.per) + (slack_ms(rate) if at_the_latest else 0)

    def startable(self, job: ModelJob) -> float:
        """The ms from which the engine must let it start, were there room in a worker; inf: when somebody acts."""
        return max((self.gate_opens(gate, at_the_latest=True) for gate in job.gates(self.policy)), default=0)

    # What people ask for

    def configure(self, policy: QueuePolicy) -> None:
        self.policy = policy
        self._starts_before = {gate: len(times) for gate, times in self.starts.items()}

    def cancel(self, job_id: str) -> JobState | None:
        job = self.jobs.get(job_id)
        if job is None:
            return None
        if job.state is JobState.RUNNING:
            job.is_called_off = True
        elif job.state in WAITING:
            self._end(job, JobState.CANCELLED)
        return job.state

    def retry(self, job_id: str, delay: timedelta) -> JobState | None:
        job = self.jobs.get(job_id)
        if job is None or (job.state is not JobState.DISCARDED and job.state not in WAITING):
            return None if job is None else job.state
        if job.state is JobState.DISCARDED:
            self._start_over(job)
        job.due = self.now + milliseconds(delay)
        job.state = JobState.SCHEDULED if job.due > self.now else JobState.AVAILABLE
        return job.state

    def _start_over(self, job: ModelJob) -> None:
        job.failures = job.snoozes = job.lost_leases = 0
        job.was_stranded = job.is_called_off = False
        job.deadline, job.rank = inf, None
        if job.unique is not None and self.holder_of(job.unique) is None:
            self.unique[job.unique] = (job.id, inf)
        elif job.unique is not None:
            job.unique = None

    def remove(self, job_id: str) -> bool:
        job = self.jobs.get(job_id)
        if job is None or job.state is not JobState.DISCARDED:
            return False
        del self.jobs[job_id]
        return True

    def shut(self, gate: str, duration: timedelta | None) -> None:
        self.holds[gate] = inf if duration is None else self.now + milliseconds(duration)
