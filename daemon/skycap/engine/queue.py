"""Queue: every operation on one queue, typed; each method is one script or one round trip."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from skycap.engine.keys import QueueKeys
from skycap.engine.link import Link
from skycap.envelope import Envelope
from skycap.errors import Undecodable
from skycap.job import AttemptError, Job, JobState
from skycap.outcome import Cancelled, Completed, Discarded, HandedBack, Outcome, Retry, Snoozed


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How long finished (completed, cancelled) and discarded jobs are kept."""

    finished: timedelta = timedelta(hours=1)
    finished_count: int = 100
    discarded: timedelta = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The right to run one job, for as long as its lease is renewed. ``number`` fences out older claims."""

    job_id: str
    number: int
    envelope: bytes
    failures: int
    snoozes: int
    enqueued_at: datetime

    @property
    def key(self) -> tuple[str, int]:
        """One job may be claimed again, by the same worker even, while an older claim's handler still winds down."""
        return self.job_id, self.number


@dataclass(frozen=True, kw_only=True)
class Settlement:
    """What became of a claim."""

    claim: Claim
    outcome: Outcome


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one turn of the loop gave. ``next_event`` is None when only the doorbell can tell."""

    claims: Sequence[Claim]
    rejected: Sequence[Settlement]
    next_event: timedelta | None


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many jobs stand where, now."""

    available: int
    later: int
    running: int
    discarded: int
    is_paused: bool


class Queue:
    """One queue. Every method raises Unavailable when Redis cannot be reached, and may then be called again."""

    def __init__(self, name: str, link: Link, *, retention: Retention | None = None) -> None:
        self.name = name
        self.keys = QueueKeys(name)
        self._link = link
        self._retention = retention or Retention()

    async def add(self, jobs: Iterable[tuple[Envelope, timedelta]]) -> list[tuple[JobState, bool]]:
        """Store jobs, each to run after its delay; True where a job of that id was there already."""
        arguments: list[str | bytes | int] = []
        for envelope, delay in jobs:
            arguments += (envelope.id, envelope.to_json(), envelope.priority, _ms(delay))
        reply = await self._link.call("add", self.keys.prefix, *arguments)
        return [(JobState(reply[i].decode()), bool(reply[i + 1])) for i in range(0, len(reply), 2)]

    async def step(
        self,
        settlements: Sequence[Settlement],
        *,
        want: int,
        worker: str,
        lease: timedelta,
        poison_after: int,
    ) -> Step:
        """Settle, reclaim, promote and claim up to ``want`` jobs: one turn of a worker's loop.

        Sending it again after a lost reply settles nothing twice; jobs claimed by the lost reply come back when
        their lease runs out.
        """
        keep = self._retention
        arguments: list[str | bytes | int] = [worker, _ms(lease), want, poison_after]
        arguments += (_ms(keep.finished), keep.finished_count, _ms(keep.discarded))
        for settlement in settlements:
            arguments += (settlement.claim.job_id, settlement.claim.number, *_verb(settlement.outcome))
        due_ms, accepted, claimed = await self._link.call("step", self.keys.prefix, *arguments)
        return Step(
            claims=[_claim(claimed[i : i + 6]) for i in range(0, len(claimed), 6)],
            rejected=[s for s, was in zip(settlements, accepted, strict=True) if not was],
            next_event=None if due_ms < 0 else timedelta(milliseconds=due_ms),
        )

    async def beat(self, claims: Sequence[Claim], *, lease: timedelta) -> list[str]:
        """Renew leases; 'held', 'lost' or 'cancel' for each claim."""
        pairs = [part for claim in claims for part in (claim.job_id, claim.number)]
        reply = await self._link.call("beat", self.keys.prefix, _ms(lease), *pairs)
        return [word.decode() for word in reply]

    async def doorbell(self, timeout: timedelta) -> None:
        """Return when there may be something to claim, at the latest after ``timeout``."""
        await self._link.command("BLPOP", self.keys.wake, timeout.total_seconds())

    async def cancel(self, job_id: str) -> JobState | None:
        """The job's state afterwards; a running one is told at its next heartbeat. None: no such job here."""
        keep = self._retention
        return await self._admin("cancel", job_id, _ms(keep.finished), keep.finished_count)

    async def retry(self, job_id: str) -> JobState | None:
        """A discarded job starts over, a waiting one runs now; the state afterwards. None: no such job here."""
        return await self._admin("retry", job_id)

    async def remove(self, job_id: str) -> bool:
        """Delete a discarded job for good; False when it is not in the dead-letter queue."""
        return bool(await self._link.call("admin", self.keys.prefix, "remove", job_id))

    async def tick(self, schedule: str, tick_ms: int, envelope: Envelope) -> bool:
        """Add a schedule's job, unless this tick or a later one was added before; whether this call added it."""
        arguments = (schedule, tick_ms, envelope.id, envelope.to_json(), envelope.priority)
        return bool(await self._link.call("tick", self.keys.prefix, *arguments))

    async def last_ticks(self) -> dict[str, datetime]:
        """The newest tick that was enqueued of each schedule whose job goes to this queue."""
        rows = _fields(await self._link.command("HGETALL", self.keys.cron))
        return {name: _moment(tick.decode()) for name, tick in rows.items()}

    async def pause(self) -> None:
        """No worker takes a job of this queue until ``resume``; running ones end. Survives a restart."""
        await self._link.call("admin", self.keys.prefix, "pause")

    async def resume(self) -> None:
        await self._link.call("admin", self.keys.prefix, "resume")

    async def counts(self) -> Counts:
        keys = self.keys
        available, later, running, discarded, paused = await self._link.pipeline(
            [
                ("ZCARD", keys.ready),
                ("ZCARD", keys.later),
                ("ZCARD", keys.run),
                ("ZCARD", keys.dead),
                ("HEXISTS", keys.meta, "paused"),
            ]
        )
        return Counts(available=available, later=later, running=running, discarded=discarded, is_paused=bool(paused))

    async def get(self, job_id: str) -> Job | None:
        (found,) = await self._read([job_id])
        return found

    async def jobs(self, state: JobState, *, limit: int = 50) -> list[Job]:
        """Jobs in ``state``: in the order they will run, or (final states) newest first."""
        index, order = {
            JobState.AVAILABLE: (self.keys.ready, "ZRANGE"),
            JobState.SCHEDULED: (self.keys.later, "ZRANGE"),
            JobState.RETRYABLE: (self.keys.later, "ZRANGE"),
            JobState.RUNNING: (self.keys.run, "ZRANGE"),
            JobState.DISCARDED: (self.keys.dead, "ZREVRANGE"),
        }.get(state, (f"{self.keys.prefix}done", "ZREVRANGE"))
        ids = await self._link.command(order, index, 0, limit - 1)
        found = await self._read([job_id.decode() for job_id in ids])
        return [job for job in found if job is not None and job.state is state]

    async def _admin(self, verb: str, job_id: str, *arguments: int) -> JobState | None:
        state = await self._link.call("admin", self.keys.prefix, verb, job_id, *arguments)
        return None if state is None else JobState(state.decode())

    async def _read(self, job_ids: Sequence[str]) -> list[Job | None]:
        rows = await self._link.pipeline([("HGETALL", self.keys.job(job_id)) for job_id in job_ids])
        return [
            _job(job_id, self.name, _fields(row)) if row else None for job_id, row in zip(job_ids, rows, strict=True)
        ]


def _ms(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)


def _moment(milliseconds: str | int) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)


def _verb(outcome: Outcome) -> tuple[str, str | int, str]:
    match outcome:
        case Completed(result=result):
            return "completed", json.dumps(result, ensure_ascii=False, allow_nan=False), ""
        case Retry(delay=delay, error=error):
            return "retry", _ms(delay), error
        case Snoozed(delay=delay, reason=reason):
            return "snoozed", _ms(delay), reason
        case HandedBack():
            return "returned", "", ""
        case Cancelled(reason=reason):
            return "cancelled", reason, ""
        case Discarded(reason=why, error=error):
            return "discarded", why.value, error


def _claim(parts: Sequence[Any]) -> Claim:
    job_id, number, envelope, failures, snoozes, enqueued_ms = parts
    return Claim(
        job_id=job_id.decode(),
        number=number,
        envelope=envelope,
        failures=failures,
        snoozes=snoozes,
        enqueued_at=_moment(enqueued_ms),
    )


def _fields(row: Mapping[bytes, bytes] | Sequence[bytes]) -> dict[str, bytes]:
    # RESP3 answers HGETALL with a map, RESP2 and pipelines with a flat list.
    pairs = row.items() if isinstance(row, Mapping) else zip(row[::2], row[1::2], strict=True)
    return {name.decode(): value for name, value in pairs}


def _job(job_id: str, queue: str, row: dict[str, bytes]) -> Job:
    kind, payload = _readable(row.get("envelope", b""))
    state = JobState(row["state"].decode())
    ended_well_or_runs = state in {JobState.RUNNING, JobState.COMPLETED}
    return Job(
        id=job_id,
        kind=kind,
        queue=queue,
        state=state,
        attempt=int(row.get("failures", b"0")) + (1 if ended_well_or_runs else 0),
        payload=payload,
        enqueued_at=_moment(row.get("enqueued", b"0").decode()),
        due_at=_optional(row, "due") if state in {JobState.SCHEDULED, JobState.RETRYABLE} else None,
        started_at=_optional(row, "started"),
        finished_at=_optional(row, "finished"),
        reason=row["reason"].decode() or None if "reason" in row else None,
        result=json.loads(row["result"]) if "result" in row else None,
        errors=tuple(
            _error(number, row[f"error:{number}"].decode())
            for number in range(1, int(row.get("errors", b"0")) + 1)
            if f"error:{number}" in row
        ),
    )


def _readable(envelope: bytes) -> tuple[str, Mapping[str, Any]]:
    try:
        read = Envelope.from_json(envelope)
    except Undecodable:
        return "?", {}
    return read.kind, read.payload


def _optional(row: dict[str, bytes], name: str) -> datetime | None:
    return _moment(row[name].decode()) if name in row else None


def _error(number: int, text: str) -> AttemptError:
    at, _, error = text.partition(" ")
    return AttemptError(attempt=number, at=_moment(at), error=error)
