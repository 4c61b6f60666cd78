"""Whether what Redis holds of a queue is what the model says of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from skycap.engine.minutes import MOST_MINUTES, minute_of
from skycap.engine.stored import moment
from skycap.job import JobState
from tests.support.clocked import Photo
from tests.support.model import Model, ModelJob

REAL_TIME_MS = 5000
"""Redis itself forgets keys by its own clock, which goes on while the test's stands still: by less than this."""


_COUNTED = ("added", "started", "completed", "retried", "discarded", "cancelled", "snoozed", "reclaimed")


def check(model: Model, photo: Photo) -> None:
    """Raises AssertionError where they differ."""
    check_places(model, photo)
    check_jobs(model, photo)
    check_gates(model, photo)
    check_queue(model, photo)
    check_minutes(model, photo)


def check_places(model: Model, photo: Photo) -> None:
    """Nothing is lost and nothing is in two places."""
    # The list of what ended may be longer than what is kept of it.
    found = sorted((job, place) for job, place in photo.places() if place != "done" or job in photo.jobs)
    expected = sorted((job.id, _place(job, photo)) for job in model.known())
    _same(found, expected, "the jobs and their places")
    _same(sorted(photo.jobs), sorted(model.jobs), "the jobs that are stored")


def _place(job: ModelJob, photo: Photo) -> str:
    match job.state:
        case JobState.AVAILABLE:
            gate = photo.jobs.get(job.id, {}).get("parked")
            return "ready" if gate is None else f"wait:{gate}"
        case JobState.SCHEDULED | JobState.RETRYABLE:
            return "later"
        case JobState.RUNNING:
            return "run"
        case JobState.DISCARDED:
            return "dead"
        case JobState.COMPLETED | JobState.CANCELLED:
            return "done"


def check_jobs(model: Model, photo: Photo) -> None:
    for job in model.known():
        row = photo.jobs[job.id]
        found = {
            "state": row["state"],
            "claim": int(row.get("claim", "0")),
            "failures": int(row.get("failures", "0")),
            "snoozes": int(row.get("snoozes", "0")),
            "deadline": float(row.get("deadline", "inf")),
            "unique": row.get("unique"),
            "rank": int(row["rank"]) if "rank" in row else None,
            "held": set(filter(None, row.get("held", "").split("\n"))),
        }
        _same(found, {name: getattr(job, name) for name in found}, f"job {job.id}")
        if job.state is JobState.RUNNING:
            _same(photo.indexes["run"][job.id], job.lease_ends, f"the end of the lease of {job.id}")
        elif job.state in {JobState.SCHEDULED, JobState.RETRYABLE}:
            _same(photo.indexes["later"][job.id], job.due, f"when {job.id} is due")


def check_gates(model: Model, photo: Photo) -> None:
    _same(int(photo.meta.get("parked", "0")), sum(map(len, photo.waiting.values())), "the number of jobs at gates")
    assert photo.waiting.keys() <= photo.indexes["gates"].keys(), "jobs wait at a gate that nobody looks at"
    _same(photo.busy, {gate: model.busy(gate) for job in model.known() for gate in job.held}, "who holds the gates")
    shut = {gate: until for gate, until in photo.indexes["holds"].items() if until > model.now}
    _same(shut, {gate: until for gate, until in model.holds.items() if until > model.now}, "the gates that are shut")


def check_queue(model: Model, photo: Photo) -> None:
    _same("paused" in photo.meta, model.is_paused, "whether the queue is paused")
    for what in (JobState.COMPLETED, JobState.CANCELLED, JobState.DISCARDED, "added", "deduplicated"):
        _same(int(photo.meta.get(what, "0")), model.counted[what], f"the number of {what} jobs")
    held = {key: job_id for key, (job_id, until) in model.unique.items() if until > model.now}
    certain = {key for key, (_, until) in model.unique.items() if until - model.now > REAL_TIME_MS}
    assert photo.unique.items() <= held.items(), f"unique keys: {photo.unique} is more than {held}"
    assert certain <= photo.unique.keys(), f"unique keys: {photo.unique} is less than {certain}"


def check_minutes(model: Model, photo: Photo) -> None:
    oldest = model.now // 60_000 - MOST_MINUTES
    # Redis forgets the oldest by its own clock.
    assert {number for number in model.minutes if number > oldest + 1} <= photo.minutes.keys() <= model.minutes.keys()
    for number, row in photo.minutes.items():
        minute, expected = minute_of(moment(number * 60_000), row), model.minutes[number]
        what = f"what happened in minute {number}"
        _same({name: getattr(minute, name) for name in _COUNTED}, {name: expected[name] for name in _COUNTED}, what)
        waited = timedelta(milliseconds=expected["waited"])
        assert abs(minute.wait_total - waited) <= waited / 16, f"{what}: waits of {minute.wait_total}, not {waited}"


def _same(found: Any, expected: Any, what: str) -> None:
    assert found == expected, f"{what}: Redis has {found}, the model {expected}"
