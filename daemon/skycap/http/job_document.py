"""A job, and what became of an enqueue, as JSON documents."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from skycap.job import Enqueued, Job


def enqueued_document(enqueued: Enqueued) -> dict[str, Any]:
    return {"jobId": enqueued.job_id, "state": enqueued.state.value, "duplicate": enqueued.duplicate}


def job_document(job: Job, *, with_payload: bool) -> dict[str, Any]:
    """All that is known of it; the payload may be personal, so who asks must be allowed to see it."""
    document: dict[str, Any] = {
        "id": job.id,
        "kind": job.kind,
        "queue": job.queue,
        "state": job.state.value,
        "attempt": job.attempt,
        "priority": job.priority,
        "enqueuedAt": iso(job.enqueued_at),
        "dueAt": iso(job.due_at),
        "startedAt": iso(job.started_at),
        "finishedAt": iso(job.finished_at),
        "deadline": iso(job.deadline),
        "tags": list(job.tags),
        "waitsAt": job.waits_at,
        "progress": None,
        "log": [{"number": line.number, "at": iso(line.at), "text": line.text} for line in job.log],
        "errors": [{"attempt": error.attempt, "at": iso(error.at), "error": error.error} for error in job.errors],
        "reason": job.reason,
        "result": job.result,
    }
    if job.progress is not None:
        progress = job.progress
        document["progress"] = {"fraction": progress.fraction, "note": progress.note, "at": iso(progress.at)}
    if with_payload:
        document["payload"] = dict(job.payload)
    return document


def iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
