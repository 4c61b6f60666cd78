"""``skycap jobs``: what is waiting, running and done."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from skycap.cli.installation import connected_queues, settings_of
from skycap.cli.options import config_option
from skycap.cli.output import json_option, print_fields, print_json, print_table
from skycap.job import Job, JobState
from skycap.settings import Settings

_COLUMNS = ("job", "kind", "queue", "state", "attempt", "enqueued", "due")


@click.group
def jobs() -> None:
    """List, show, cancel and retry jobs."""


@jobs.command("list")
@click.option("--queue", help="Only this queue.")
@click.option("--state", type=click.Choice([state.value for state in JobState]), help="Only this state.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="Of each queue and state.")
@config_option
@json_option
def list_jobs(queue: str | None, state: str | None, limit: int, config: Path | None, as_json: bool) -> None:
    """List jobs by state."""
    states = [JobState(state)] if state else list(JobState)
    found = asyncio.run(_list(settings_of(config), queue, states, limit))
    if as_json:
        print_json([as_document(job) for job in found])
    else:
        print_jobs(found)


@jobs.command
@click.argument("job_id", metavar="JOB")
@config_option
@json_option
def show(job_id: str, config: Path | None, as_json: bool) -> None:
    """Show one job: its payload, its result, and every attempt's error."""
    job = asyncio.run(_show(settings_of(config), job_id))
    (print_json if as_json else print_fields)(as_document(job))


@jobs.command
@click.argument("job_id", metavar="JOB")
@config_option
@json_option
def cancel(job_id: str, config: Path | None, as_json: bool) -> None:
    """Cancel a job; a running one is stopped at its worker's next heartbeat."""
    _say(asyncio.run(_change(settings_of(config), job_id, "cancel")), as_json=as_json)


@jobs.command
@click.argument("job_id", metavar="JOB")
@config_option
@json_option
def retry(job_id: str, config: Path | None, as_json: bool) -> None:
    """Run a waiting or discarded job now."""
    _say(asyncio.run(_change(settings_of(config), job_id, "retry")), as_json=as_json)


def print_jobs(found: Iterable[Job]) -> None:
    rows = [(job.id, job.kind, job.queue, job.state, job.attempt, job.enqueued_at, job.due_at) for job in found]
    print_table(_COLUMNS, rows)


def as_document(job: Job) -> dict[str, Any]:
    """The job in camelCase, as the HTTP side shows it."""
    return {
        "id": job.id,
        "kind": job.kind,
        "queue": job.queue,
        "state": job.state.value,
        "attempt": job.attempt,
        "enqueuedAt": job.enqueued_at,
        "dueAt": job.due_at,
        "startedAt": job.started_at,
        "finishedAt": job.finished_at,
        "reason": job.reason,
        "payload": dict(job.payload),
        "result": job.result,
        "errors": [asdict(error) for error in job.errors],
    }


async def _list(settings: Settings, name: str | None, states: list[JobState], limit: int) -> list[Job]:
    async with connected_queues(settings) as queues:
        chosen = [queues.named(name)] if name else list(queues.by_name.values())
        return [job for queue in chosen for state in states for job in await queue.jobs(state, limit=limit)]


async def _show(settings: Settings, job_id: str) -> Job:
    async with connected_queues(settings) as queues:
        _, job = await queues.find(job_id)
        return job


async def _change(settings: Settings, job_id: str, verb: str) -> Job:
    async with connected_queues(settings) as queues:
        queue, _ = await queues.find(job_id)
        await (queue.cancel(job_id) if verb == "cancel" else queue.retry(job_id))
        _, job = await queues.find(job_id)
        return job


def _say(job: Job, *, as_json: bool) -> None:
    answer = {"id": job.id, "state": job.state.value}
    (print_json if as_json else print_fields)(answer)
