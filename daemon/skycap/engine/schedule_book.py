"""ScheduleBook: what the fleet knows of the schedules whose jobs go to one queue; each method is one script or two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from skycap.engine.policy import milliseconds
from skycap.engine.queue import Queue
from skycap.engine.stored import fields_of, moment, number, text
from skycap.envelope import Envelope
from skycap.job import JobState
from skycap.schedule import Overlap


class Became(StrEnum):
    """What became of a tick. Only ``enqueued`` is a job; the last three are recorded as decided without one."""

    ENQUEUED = "enqueued"
    KNOWN = "known"
    """It, or a later one, was decided before."""
    EARLY = "early"
    """It is not due, by Redis' clock."""
    MISSED = "missed"
    """Nobody was there in time, and the schedule skips what is late."""
    PAUSED = "paused"
    OVERLAP = "overlap"
    """The job of an earlier tick, or of a run that was asked for, had not ended."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """The newest decided tick of each schedule, or since when it is known; and when that was so, by Redis' clock."""

    now: datetime
    last: Mapping[str, datetime]


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is kept of one schedule. All is None or blank of one that has never ticked.

    The states are those of the jobs now, and how they ended when they are gone; None when that is not known.
    """

    last_tick: datetime | None
    became: Became | None
    job_id: str | None
    job_state: JobState | None
    """Of the newest tick that was a job, which may be an earlier one than ``last_tick``."""
    run_at: datetime | None
    run_job_id: str | None
    run_state: JobState | None
    succeeded_at: datetime | None
    """When a job of its last completed, of a tick or of a run."""
    took: timedelta | None
    """How long that one ran."""
    is_paused: bool
    paused_until: datetime | None
    """None also when it is paused until somebody resumes it."""


class ScheduleBook:
    """Every method raises Unavailable when Redis cannot be reached, and may then be called again."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue

    async def known(self, names: Sequence[str]) -> Known:
        """Schedules that nobody knew are known from now on: what was due before is not caught up with."""
        now, *last = await self._call("scheduling", "known", *names)
        return Known(now=moment(now), last={name: moment(ms) for name, ms in zip(names, last, strict=True)})

    async def now(self) -> datetime:
        """By Redis' clock."""
        return (await self.known([])).now

    async def tick(
        self,
        schedule: str,
        tick: datetime,
        envelope: Envelope,
        *,
        delay: timedelta = timedelta(0),
        grace: timedelta | None = None,
        overlap: Overlap = "allow",
    ) -> Became:
        """Decide about a tick, once for the fleet; its job starts ``delay`` after it.

        ``grace``: how late it may be and still become a job; None: at any time.
        """
        late = "" if grace is None else milliseconds(grace)
        return Became(
            text(
                await self._tick(schedule, round(tick.timestamp() * 1000), envelope, milliseconds(delay), late, overlap)
            )
        )

    async def run(self, schedule: str, envelope: Envelope) -> None:
        """Enqueue a job beside the ticks, whatever they are at."""
        await self._tick(schedule, "", envelope, 0, "", "allow")

    async def pause(self, schedule: str, duration: timedelta | None = None) -> None:
        """Ticks become no jobs, for the whole fleet, over restarts: for so long, or until ``resume``."""
        await self._call("scheduling", "pause", schedule, "" if duration is None else milliseconds(duration))

    async def resume(self, schedule: str) -> None:
        """What has been paused is not caught up with."""
        await self._call("scheduling", "resume", schedule)

    async def records(self, names: Sequence[str], *, now: datetime) -> dict[str, Record]:
        """What is kept of each; ``now`` by Redis' clock."""
        keys, link = self.queue.keys, self.queue.link
        rows = [fields_of(row) for row in await link.pipeline([("HGETALL", keys.schedule(name)) for name in names])]
        ids = [_text(row, field) or "" for row in rows for field in ("job", "run")]
        states = await link.pipeline([("HGET", keys.job(job_id), "state") for job_id in ids])
        return {
            name: _record(row, states[2 * i], states[2 * i + 1], now=now)
            for i, (name, row) in enumerate(zip(names, rows, strict=True))
        }

    async def decided(self, schedule: str) -> list[tuple[datetime, Became]]:
        """The newest ticks and what became of them, oldest first: a hundred."""
        rows = await self.queue.link.command("LRANGE", self.queue.keys.ticks(schedule), 0, -1)
        parts = [text(row).partition(" ") for row in rows]
        return [(moment(ms), Became(became)) for ms, _, became in parts]

    async def _tick(self, schedule: str, tick: int | str, envelope: Envelope, *rules: int | str) -> Any:
        job = (envelope.id, envelope.kind, envelope.to_json(), envelope.priority)
        return await self._call("tick", schedule, tick, *job, *rules)

    async def _call(self, script: str, *arguments: str | bytes | int) -> Any:
        return await self.queue.link.call(script, self.queue.keys.prefix, *arguments)


def _record(row: Mapping[str, bytes], job_state: bytes | None, run_state: bytes | None, *, now: datetime) -> Record:
    paused = row.get("paused", b"0")
    until = None if paused == b"inf" else moment(paused)
    is_paused = until is None or until > now
    became = _text(row, "became")
    return Record(
        last_tick=_moment(row, "tick"),
        became=Became(became) if became else None,
        job_id=_text(row, "job"),
        job_state=_state(job_state or row.get("job_state")),
        run_at=_moment(row, "run_at"),
        run_job_id=_text(row, "run"),
        run_state=_state(run_state or row.get("run_state")),
        succeeded_at=_moment(row, "succeeded"),
        took=timedelta(milliseconds=number(row["took"])) if "took" in row else None,
        is_paused=is_paused,
        paused_until=until if is_paused else None,
    )


def _text(row: Mapping[str, bytes], field: str) -> str | None:
    return text(row[field]) if field in row else None


def _moment(row: Mapping[str, bytes], field: str) -> datetime | None:
    return moment(number(row[field])) if field in row else None


def _state(word: bytes | None) -> JobState | None:
    return None if word is None else JobState(text(word))
