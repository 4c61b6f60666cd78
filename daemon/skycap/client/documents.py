"""A job as HTTP answers it, read into a Job."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from skycap.job import AttemptError, Job, JobState, LogLine, Progress


def job_of(document: Mapping[str, Any]) -> Job:
    """The payload is empty unless the token may see it."""
    read = document.get
    return Job(
        id=document["id"],
        kind=document["kind"],
        queue=document["queue"],
        state=JobState(document["state"]),
        attempt=document["attempt"],
        payload=read("payload") or {},
        enqueued_at=datetime.fromisoformat(document["enqueuedAt"]),
        due_at=_moment(read("dueAt")),
        started_at=_moment(read("startedAt")),
        finished_at=_moment(read("finishedAt")),
        deadline=_moment(read("deadline")),
        priority=document["priority"],
        tags=tuple(read("tags") or ()),
        waits_at=read("waitsAt"),
        reason=read("reason"),
        result=read("result"),
        progress=_progress(read("progress")),
        log=tuple(
            LogLine(number=line["number"], at=datetime.fromisoformat(line["at"]), text=line["text"])
            for line in read("log") or ()
        ),
        errors=tuple(
            AttemptError(attempt=each["attempt"], at=datetime.fromisoformat(each["at"]), error=each["error"])
            for each in read("errors") or ()
        ),
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _progress(document: Mapping[str, Any] | None) -> Progress | None:
    if document is None:
        return None
    return Progress(fraction=document["fraction"], note=document["note"], at=datetime.fromisoformat(document["at"]))
