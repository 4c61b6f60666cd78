"""Queue: every operation on one queue, typed; each method is one script or one round trip."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic_core import to_json

from skycap.engine.keys import QUEUES, SHARED_HOLDS, QueueKeys
from skycap.engine.link import Link
from skycap.engine.policy import QueuePolicy, milliseconds
from skycap.engine.stored import fields_of, job_of, moment, text
from skycap.envelope import Envelope
from skycap.errors import KeyReused, QueueFull
from skycap.job import Enqueued, Job, JobState
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

NOW = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """The same request again, by its idempotency key, is the job that it made first; even when that has long ended.

    ``digest`` is of what the request says: with another one, the key was used for something else.
    """

    key: str
    digest: str
    known_for: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadOnArrival:
    """A job that cannot run, accepted by somebody who can no longer refuse it: it is kept with the reason."""

    reason: DeadReason
    error: str


@dataclass(slots=True, kw_only=True)
class NewJob:
    """A job to add. ``when`` and ``deadline`` are from now (timedelta) or at a moment, by Redis' clock."""

    envelope: Envelope
    when: timedelta | datetime = NOW
    deadline: timedelta | datetime | None = None
    unique_key: str | None = None
    unique_within: timedelta | None = None
    on_conflict: OnConflict = "keep"
    repeat: Repeat | None = None
    dead: DeadOnArrival | None = None

    def options(self) -> str:
        """What most jobs do without, as the script reads it."""
        options: dict[str, Any] = {}
        if self.deadline is not None:
            options["deadline"] = _when(self.deadline)
        if self.unique_key is not None:
            options |= {"unique": self.unique_key, "conflict": self.on_conflict}
            if self.unique_within is not None:
                options["within"] = milliseconds(self.unique_within)
        if self.repeat is not None:
            known = milliseconds(self.repeat.known_for)
            options |= {"request": self.repeat.key, "digest": self.repeat.digest, "known": known}
        if self.dead is not None:
            options |= {"dead": self.dead.reason, "error": self.dead.error}
        return json.dumps(options) if options else ""


@dataclass(slots=True, kw_only=True, eq=False)
class Claim:
    """The right to run one job, for as long as its lease is renewed. ``number`` fences out older claims."""

    job_id: str
    raw_id: bytes
    """As Redis has it: of a job that others wrote there, it may be no text."""
    number: int
    envelope: bytes
    failures: int
    snoozes: int
    enqueued_ms: int
    claimed_ms: int
    """By Redis' clock, as ``enqueued_ms`` is."""
    waited_ms: int
    """How long it could run and was not claimed."""
    start_within: float
    """Seconds after which it may not be started any more, lest its limit be exceeded; 0: at any time."""
    end_within: float
    """Seconds from the claim to the job's deadline; 0: it has none."""
    kind: str = ""
    """As its envelope says, once somebody has read that and knows the kind."""

    @property
    def key(self) -> tuple[str, int]:
        """One job may be claimed again, by the same worker even, while an older claim's handler still winds down."""
        return self.job_id, self.number

    @property
    def enqueued_at(self) -> datetime:
        return moment(self.enqueued_ms)

    @property
    def age(self) -> timedelta:
        """How long ago the job was enqueued when it was claimed."""
        return moment(self.claimed_ms) - self.enqueued_at


@dataclass(slots=True, kw_only=True, eq=False)
class Settlement:
    """What became of a claim. ``keep``: how long the job is kept instead of as the queue says."""

    claim: Claim
    outcome: Outcome
    keep: timedelta | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class Step:
    """What one turn of the loop gave. ``next_event`` is None when only the doorbell can tell."""

    claims: Sequence[Claim]
    rejected: Sequence[Settlement]
    next_event: timedelta | None
    has_policy: bool
    """False when Redis has lost the queue's policy with its data."""
    given_up: Sequence[tuple[str, DeadReason]]
    """Kind and reason of each job that went to the dead letters without a worker's word. Anybody may write a kind."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many jobs stand where, now. Those that wait at a limit are available, too."""

    available: int
    later: int
    running: int
    discarded: int
    is_paused: bool
    paused_because: str = ""
    """Why a worker paused it; blank when somebody did."""
    waiting_at_limits: int = 0


class Queue:
    """One queue. Every method raises Unavailable when Redis cannot be reached, and may then be called again."""

    def __init__(self, name: str, link: Link, *, policy: QueuePolicy | None = None) -> None:
        self.name = name
        self.keys = QueueKeys(name)
        self.link = link
        self.policy = policy or QueuePolicy()

    async def configure(self) -> None:
        """Put the queue's policy in force for the whole fleet, where nothing was ``set`` over it.

        Producers whose user may run only what is loaded can enqueue from now on.
        """
        await self._admin("configure", *_flat(self.policy.parts()))
        await self.link.load_for_producers(self.keys.prefix)
        await self.link.command("SADD", QUEUES, self.name)

    async def set(self, parts: Mapping[str, str]) -> None:
        """Change parts of the policy for the whole fleet, over restarts, until they are ``unset``."""
        await self._admin("set", *_flat(parts))

    async def unset(self, names: Iterable[str]) -> None:
        """Let what is configured be in force again."""
        await self._admin("unset", *names)

    async def parts_set(self) -> dict[str, str]:
        """The parts of the policy that were ``set``."""
        meta = fields_of(await self.link.command("HGETALL", self.keys.meta))
        return {name.removeprefix("set:"): value.decode() for name, value in meta.items() if name.startswith("set:")}

    async def add(self, jobs: Iterable[NewJob]) -> list[Enqueued]:
        """Store jobs, all or none; raises QueueFull when they would exceed the queue's bound, and KeyReused."""
        arguments = arguments_of(jobs)
        if not arguments:
            return []
        return self.added(await self.link.call("add", self.keys.prefix, "", *arguments))

    async def check_room(self, jobs: Iterable[NewJob]) -> None:
        """Raises QueueFull and KeyReused if the jobs could not be added now."""
        reply = await self.link.call("add", self.keys.prefix, "?", *arguments_of(jobs))
        if reply != 1:
            self.added(reply)

    def added(self, reply: Any) -> list[Enqueued]:
        """What the script's reply says of each job. Raises QueueFull and KeyReused: nothing was stored."""
        if not reply:
            raise self._is_full()
        if _REUSED in reply[1::3]:
            raise KeyReused("this idempotency key came with another request before; give each request a key of its own")
        return [
            Enqueued(job_id=text(reply[i]), state=_STATES[reply[i + 1]], duplicate=reply[i + 2] == 1)
            for i in range(0, len(reply), 3)
        ]

    def _is_full(self) -> QueueFull:
        return QueueFull(f"queue {self.name} is full; nothing was stored, try again later")

    async def step(
        self,
        settlements: Sequence[Settlement],
        *,
        slots: int,
        more: int = 0,
        worker: str,
        lease: timedelta,
        poison_after: int,
        take_back: bool = True,
    ) -> Step:
        """Settle, reclaim, promote and claim: one turn of a worker's loop.

        Claims up to ``slots`` jobs, and behind them up to ``more`` to have at hand, where no limit forbids it.
        Without ``take_back``, jobs whose lease has run out are left where they are.
        Sending it again after a lost reply settles nothing twice; jobs claimed by the lost reply come back when
        their lease runs out.
        """
        arguments: list[str | bytes | int] = [worker, milliseconds(lease), slots, more]
        arguments.append(poison_after if take_back else "")
        for settlement in settlements:
            arguments += (settlement.claim.raw_id, settlement.claim.number, *_verb(settlement))
        due_ms, has_policy, accepted, claimed, now_ms, given_up = await self.link.call(
            "step", self.keys.prefix, *arguments
        )
        return Step(
            claims=[_claim(claimed[i : i + 9], now_ms) for i in range(0, len(claimed), 9)],
            rejected=[s for s, was in zip(settlements, accepted, strict=True) if not was],
            next_event=None if due_ms < 0 else timedelta(milliseconds=due_ms),
            has_policy=has_policy == 1,
            given_up=[
                (text(kind), DeadReason(text(reason)))
                for kind, reason in zip(given_up[::2], given_up[1::2], strict=True)
            ],
        )

    async def beat(self, claims: Sequence[Claim], *, lease: timedelta) -> list[str]:
        """Renew leases; 'held', 'lost' or 'cancel' for each claim."""
        pairs = [part for claim in claims for part in (claim.raw_id, claim.number)]
        reply = await self.link.call("beat", self.keys.prefix, milliseconds(lease), *pairs)
        return [word.decode() for word in reply]

    async def doorbell(self, timeout: timedelta) -> None:
        """Return when there may be something to claim, at the latest after ``timeout``."""
        await self.link.blocking("BLPOP", self.keys.wake, timeout.total_seconds(), timeout=timeout)

    async def report(self, claim: Claim, what: str, text: str) -> bool:
        """Note a running job's 'progress' (JSON) or a line of its 'log'; False when the claim is no longer held."""
        return bool(await self.link.call("report", self.keys.prefix, claim.raw_id, claim.number, what, text))

    async def cancel(self, job_id: str) -> JobState | None:
        """The job's state afterwards; a running one is told at its next heartbeat. None: no such job here."""
        return _state(await self._admin("cancel", job_id))

    async def retry(
        self, job_id: str, *, when: timedelta | datetime = NOW, envelope: Envelope | None = None
    ) -> JobState | None:
        """A discarded job starts over, a waiting one is put to another time; with another envelope, if one is given.

        The state afterwards, which is unchanged for a job that runs or has ended well. None: no such job here.
        """
        return _state(await self._admin("run", job_id, _when(when), envelope.to_json() if envelope else ""))

    async def remove(self, job_id: str) -> bool:
        """Delete a discarded job for good; False when it is not in the dead-letter queue."""
        return bool(await self._admin("remove", job_id))

    async def forget(self, job_id: str) -> bool:
        """Delete a job that has ended, however, for good; False for one that has not, or is not there."""
        return bool(await self._admin("forget", job_id))

    async def pause(self, why: str = "") -> bool:
        """No worker takes a job of this queue until ``resume``; running ones end. Survives a restart.

        Whether it was not paused before; if it was, the first reason stays.
        """
        return bool(await self._admin("pause", why))

    async def resume(self) -> None:
        await self._admin("resume")

    async def shut(self, gate: str, duration: timedelta | None = None) -> None:
        """No job passes this gate (``kind:KIND``, ``LIMIT:VALUE``), or any gate of this ``LIMIT``, until ``duration``
        is over or it is opened.
        """
        await self._admin("shut", gate, "" if duration is None else milliseconds(duration))

    async def open(self, gate: str) -> None:
        await self._admin("open", gate)

    async def outage(self, breaker: str, duration: timedelta) -> None:
        """No job of a kind that needs this breaker starts for so long, and then as many as it lets through."""
        await self._admin("outage", breaker, milliseconds(duration))

    async def outage_over(self, breaker: str) -> None:
        """The breaker is closed: all such jobs may start."""
        await self._admin("outage_over", breaker)

    async def gates_shut(self) -> dict[str, datetime | None]:
        """The gates that are shut, and until when; None: until somebody opens them."""
        shares = any(limit.shared for limit in self.policy.limits)
        indexes = [self.keys.holds, SHARED_HOLDS] if shares else [self.keys.holds]
        shut: dict[str, datetime | None] = {}
        for index in indexes:
            gates = await self.link.command("ZRANGE", index, 0, -1)
            ends = await self.link.pipeline([("ZSCORE", index, gate) for gate in gates])
            for gate, end in zip(gates, ends, strict=True):
                if end is not None:
                    shut[text(gate)] = None if float(end) == float("inf") else moment(int(float(end)))
        outages = fields_of(await self.link.command("HGETALL", self.keys.outages))
        return shut | {f"breaker {name}": moment(line.split()[0]) for name, line in outages.items()}

    async def counts(self) -> Counts:
        keys = self.keys
        ready, later, running, discarded, paused, why, parked = await self.link.pipeline(
            [
                ("ZCARD", keys.ready),
                ("ZCARD", keys.later),
                ("ZCARD", keys.run),
                ("ZCARD", keys.dead),
                ("HEXISTS", keys.meta, "paused"),
                ("HGET", keys.meta, "paused_why"),
                ("HGET", keys.meta, "parked"),
            ]
        )
        at_limits = int(parked or 0)
        return Counts(
            available=ready + at_limits,
            later=later,
            running=running,
            discarded=discarded,
            is_paused=bool(paused),
            paused_because=text(why) if why else "",
            waiting_at_limits=at_limits,
        )

    async def get(self, job_id: str) -> Job | None:
        (found,) = await self.read([job_id.encode()])
        return found

    async def jobs(self, state: JobState, *, limit: int = 50, offset: int = 0) -> list[Job]:
        """Jobs in ``state``: in the order they will run, or (final states) newest first."""
        index, order = {
            JobState.AVAILABLE: (self.keys.ready, "ZRANGE"),
            JobState.SCHEDULED: (self.keys.later, "ZRANGE"),
            JobState.RETRYABLE: (self.keys.later, "ZRANGE"),
            JobState.RUNNING: (self.keys.run, "ZRANGE"),
            JobState.DISCARDED: (self.keys.dead, "ZREVRANGE"),
        }.get(state, (self.keys.done, "ZREVRANGE"))
        ids = await self.link.command(order, index, offset, offset + limit - 1)
        if state is JobState.AVAILABLE and len(ids) < limit:
            past = max(0, offset - await self.link.command("ZCARD", self.keys.ready))
            ids = [*ids, *(await self._waiting_at_limits(past + limit))[past : past + limit - len(ids)]]
        found = await self.read(ids)
        return [job for job in found if job is not None and job.state is state]

    async def _waiting_at_limits(self, limit: int) -> list[bytes]:
        gates = await self.link.command("ZRANGE", self.keys.gates, 0, limit - 1)
        rows = await self.link.pipeline(
            [("ZRANGE", self.keys.waiting_at(gate.decode()), 0, limit - 1) for gate in gates]
        )
        return [job_id for row in rows for job_id in row][:limit]

    async def _admin(self, verb: str, *arguments: str | bytes | int) -> Any:
        return await self.link.call("admin", self.keys.prefix, verb, *arguments)

    async def read(self, job_ids: Sequence[bytes]) -> list[Job | None]:
        """Each job, or None where there is none of this id."""
        rows = await self.link.pipeline([("HGETALL", self.keys.job("").encode() + job_id) for job_id in job_ids])
        return [
            job_of(text(job_id), self.name, fields_of(row)) if row else None
            for job_id, row in zip(job_ids, rows, strict=True)
        ]


_STATES = {state.value.encode(): state for state in JobState}
_REUSED = b"reused"


def arguments_of(jobs: Iterable[NewJob]) -> list[str | bytes | int]:
    """What the script gets of each job."""
    arguments: list[str | bytes | int] = []
    for job in jobs:
        envelope = job.envelope
        when = _when(job.when) if job.when else "0"
        plain = job.deadline is None and job.unique_key is None and job.repeat is None and job.dead is None
        arguments += (
            envelope.id,
            envelope.kind,
            envelope.priority,
            when,
            "" if plain else job.options(),
            envelope.to_json(),
        )
    return arguments


def _state(word: bytes | None) -> JobState | None:
    return None if word is None else _STATES[word]


def _when(when: timedelta | datetime) -> str:
    if isinstance(when, datetime):
        return f"@{round(when.timestamp() * 1000)}"
    return str(milliseconds(when))


def _flat(parts: Mapping[str, str]) -> list[str]:
    return [word for part in parts.items() for word in part]


def _verb(settlement: Settlement) -> tuple[str, str | bytes | int, str | int, str | int]:  # noqa: PLR0911 - see verdict
    keep: str | int = "" if settlement.keep is None else milliseconds(settlement.keep)
    match settlement.outcome:
        case Completed(result=result):
            return "completed", b"null" if result is None else to_json(result), keep, ""
        case Retry(delay=delay, error=error):
            return "retry", milliseconds(delay), error, ""
        case Snoozed(delay=delay, reason=reason) | Stopped(delay=delay, reason=reason):
            return "snoozed", milliseconds(delay), reason, ""
        case Held(delay=delay, reason=reason, limit=limit, breaker=breaker):
            return "held", milliseconds(delay), reason, limit or "" if breaker is None else f"!{breaker}"
        case HandedBack():
            return "returned", "", "", ""
        case Cancelled(reason=reason):
            return "cancelled", reason, keep, ""
        case Discarded(reason=why, error=error):
            return "discarded", why.value, error, keep


def _claim(parts: Sequence[Any], now_ms: int) -> Claim:
    job_id, number, envelope, failures, snoozes, enqueued_ms, start_within_ms, end_within_ms, waited_ms = parts
    return Claim(
        job_id=text(job_id),
        raw_id=job_id,
        number=number,
        envelope=envelope,
        failures=failures,
        snoozes=snoozes,
        enqueued_ms=enqueued_ms,
        waited_ms=waited_ms,
        claimed_ms=now_ms,
        start_within=start_within_ms / 1000,
        end_within=end_within_ms / 1000,
    )
