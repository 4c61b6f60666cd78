"""What Redis holds of a job, read into a Job."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from skycap.engine.policy import SHARED
from skycap.envelope import Envelope
from skycap.errors import Undecodable
from skycap.job import AttemptError, Job, JobState, LogLine, Progress

_SEATS = 2**43
"""As in lua/queue.lua: a rank is its priority times this, and a place in the line."""


def moment(milliseconds: str | int) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)


def fields_of(row: Mapping[bytes, bytes] | Sequence[bytes]) -> dict[str, bytes]:
    # RESP3 answers HGETALL with a map, RESP2 and pipelines with a flat list.
    pairs = row.items() if isinstance(row, Mapping) else zip(row[::2], row[1::2], strict=True)
    return {name.decode(): value for name, value in pairs}


def job_of(job_id: str, queue: str, row: Mapping[str, bytes]) -> Job:
    """The job whose hash this is."""
    kind, payload, tags = _readable(row.get("envelope", b""))
    state = JobState(row.get("state", b"available").decode())
    ended_well_or_runs = state in {JobState.RUNNING, JobState.COMPLETED}
    return Job(
        id=job_id,
        kind=kind or _text(row, "kind") or "?",
        queue=queue,
        state=state,
        attempt=int(row.get("failures", b"0")) + (1 if ended_well_or_runs else 0),
        payload=payload,
        enqueued_at=moment(row.get("enqueued", b"0").decode()),
        due_at=_optional(row, "due") if state in {JobState.SCHEDULED, JobState.RETRYABLE} else None,
        started_at=_optional(row, "started"),
        finished_at=_optional(row, "finished"),
        deadline=_optional(row, "deadline"),
        priority=_priority(row),
        tags=tags,
        unique_key=_text(row, "unique"),
        waits_at=(_text(row, "parked") or "").removeprefix(SHARED) or None,
        worker=_text(row, "worker") if state is JobState.RUNNING else None,
        reason=_text(row, "reason"),
        result=json.loads(row["result"]) if "result" in row else None,
        progress=_progress(row),
        log=_log(row),
        errors=_errors(row),
    )


def _readable(envelope: bytes) -> tuple[str, Mapping[str, Any], tuple[str, ...]]:
    try:
        read = Envelope.from_json(envelope)
    except Undecodable:
        return "", {}, ()
    return read.kind, read.payload, read.tags


def _priority(row: Mapping[str, bytes]) -> int:
    if "priority" in row:
        return int(row["priority"])
    return int(row["rank"]) // _SEATS if "rank" in row else 10


def _text(row: Mapping[str, bytes], name: str) -> str | None:
    return row[name].decode() or None if name in row else None


def _optional(row: Mapping[str, bytes], name: str) -> datetime | None:
    return moment(row[name].decode()) if name in row else None


def _progress(row: Mapping[str, bytes]) -> Progress | None:
    if "progress" not in row:
        return None
    read = json.loads(row["progress"])
    return Progress(fraction=read["fraction"], note=read["note"], at=moment(read["at"]))


def _log(row: Mapping[str, bytes]) -> tuple[LogLine, ...]:
    lines: list[LogLine] = []
    for name, value in row.items():
        if name.startswith("log:"):
            number, at, text = value.decode().split(" ", 2)
            lines.append(LogLine(number=int(number), at=moment(at), text=text))
    return tuple(sorted(lines, key=lambda line: line.number))


def _errors(row: Mapping[str, bytes]) -> tuple[AttemptError, ...]:
    found: list[AttemptError] = []
    for number in range(1, int(row.get("errors", b"0")) + 1):
        at, _, error = row.get(f"error:{number}", b"").decode().partition(" ")
        if at:
            found.append(AttemptError(attempt=number, at=moment(at), error=error))
    return tuple(found)
