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

_STATES = {state.value.encode(): state for state in JobState}

_SEATS = 2**43
"""As in lua/queue.lua: a rank is its priority times this, and a place in the line."""


_LAST_MS = 253_402_300_799_999
"""The end of the year 9999, after which datetime has no moments."""


def text(stored: bytes) -> str:
    """Ours is UTF-8; what others wrote into Redis is shown as far as it can be."""
    return stored.decode(errors="backslashreplace")


def number(stored: bytes | str | int) -> int:
    """0 for what is no number: others may have written it."""
    try:
        return int(stored)
    except ValueError:
        return 0


def moment(milliseconds: bytes | str | int) -> datetime:
    return datetime.fromtimestamp(min(max(number(milliseconds), 0), _LAST_MS) / 1000, UTC)


def fields_of(row: Mapping[bytes, bytes] | Sequence[bytes]) -> dict[str, bytes]:
    # RESP3 answers HGETALL with a map, RESP2 and pipelines with a flat list.
    pairs = row.items() if isinstance(row, Mapping) else zip(row[::2], row[1::2], strict=True)
    return {text(name): value for name, value in pairs}


def job_of(job_id: str, queue: str, row: Mapping[str, bytes]) -> Job:
    """The job whose hash this is."""
    kind, payload, tags = _readable(row.get("envelope", b""))
    state = _STATES.get(row.get("state", b""), JobState.AVAILABLE)
    ended_well_or_runs = state in {JobState.RUNNING, JobState.COMPLETED}
    return Job(
        id=job_id,
        kind=kind or _text(row, "kind") or "?",
        queue=queue,
        state=state,
        attempt=number(row.get("failures", b"0")) + (1 if ended_well_or_runs else 0),
        payload=payload,
        enqueued_at=moment(row.get("enqueued", b"0")),
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
        result=_json(row.get("result", b"null")),
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
        return number(row["priority"])
    return number(row["rank"]) // _SEATS if "rank" in row else 10


def _text(row: Mapping[str, bytes], name: str) -> str | None:
    return text(row[name]) or None if name in row else None


def _optional(row: Mapping[str, bytes], name: str) -> datetime | None:
    return moment(row[name]) if name in row else None


def _progress(row: Mapping[str, bytes]) -> Progress | None:
    match _json(row.get("progress", b"null")):
        case {"fraction": int() | float() as fraction, "note": str() as note, "at": int() as at}:
            return Progress(fraction=fraction, note=note, at=moment(at))
        case _:
            return None


def _log(row: Mapping[str, bytes]) -> tuple[LogLine, ...]:
    lines: list[LogLine] = []
    for name, value in row.items():
        if name.startswith("log:"):
            place, _, rest = text(value).partition(" ")
            at, _, line = rest.partition(" ")
            lines.append(LogLine(number=number(place), at=moment(at), text=line))
    return tuple(sorted(lines, key=lambda line: line.number))


def _errors(row: Mapping[str, bytes]) -> tuple[AttemptError, ...]:
    found: list[AttemptError] = []
    for name, value in row.items():
        if name.startswith("error:"):
            at, _, error = text(value).partition(" ")
            found.append(AttemptError(attempt=number(name.removeprefix("error:")), at=moment(at), error=error))
    return tuple(sorted(found, key=lambda error: error.attempt))


def _json(stored: bytes) -> Any:
    try:
        return json.loads(stored)
    except (ValueError, RecursionError):
        return None
