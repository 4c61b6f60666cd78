"""``skycap jobs``: what is waiting, running and done."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skycap.cli.audited import audited
from skycap.cli.cells import state_cell
from skycap.cli.installation import connected_queues, settings_of
from skycap.cli.options import config_option, filter_options
from skycap.cli.output import json_option, print_fields, print_json, print_table
from skycap.cli.quantities import DURATION, MOMENT
from skycap.engine.search import Search
from skycap.exits import Exit
from skycap.job import Job, JobState, Progress

if TYPE_CHECKING:
    from skycap.settings import Settings


_COLUMNS = ("job", "kind", "queue", "state", "attempt", "enqueued", "due")


@click.group
def jobs() -> None:
    """List, show, cancel, retry and reschedule jobs."""


@jobs.command("list")
@filter_options
@click.option("--state", type=click.Choice([state.value for state in JobState]), help="Only this state.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="Of each queue and state.")
@config_option
@json_option
def list_jobs(
    queue: str | None,
    kind: str | None,
    tag: str | None,
    state: str | None,
    limit: int,
    config: Path | None,
    as_json: bool,
) -> None:
    """List jobs by state."""
    states = [JobState(state)] if state else list(JobState)
    found = asyncio.run(_list(settings_of(config), queue, Search(kind=kind, tag=tag), states, limit))
    if as_json:
        print_json([as_document(job) for job in found])
    else:
        print_jobs(found)


@jobs.command
@click.argument("job_id", metavar="JOB")
@config_option
@json_option
def show(job_id: str, config: Path | None, as_json: bool) -> None:
    """Show one job: its payload, how far it is, its log, its result, and every attempt's error."""
    job = asyncio.run(_show(settings_of(config), job_id))
    if as_json:
        print_json(as_document(job))
    else:
        print_job(job)


@jobs.command
@click.argument("job_id", metavar="JOB")
@config_option
@json_option
@audited("job.cancel", target="job_id")
def cancel(job_id: str, config: Path | None, as_json: bool) -> None:
    """Cancel a job; a running one is stopped at its worker's next heartbeat."""
    _say(asyncio.run(_cancel(settings_of(config), job_id)), as_json=as_json)


@jobs.command
@click.argument("job_id", metavar="JOB")
@config_option
@json_option
@audited("job.retry", target="job_id")
def retry(job_id: str, config: Path | None, as_json: bool) -> None:
    """Run a waiting or discarded job now."""
    from skycap.engine.queue import NOW

    _say(asyncio.run(_put(settings_of(config), job_id, NOW)), as_json=as_json)


@jobs.command
@click.argument("job_id", metavar="JOB")
@config_option
@json_option
@audited("job.retry", target="job_id")
def run(job_id: str, config: Path | None, as_json: bool) -> int:
    """Run a waiting or discarded job now; exit 1 if it runs or has ended otherwise."""
    from skycap.engine.queue import NOW

    return _say_put(asyncio.run(_put(settings_of(config), job_id, NOW)), as_json=as_json)


@jobs.command
@click.argument("job_id", metavar="JOB")
@click.option("--in", "delay", type=DURATION, metavar="DURATION", help="So much later: 90, 15m, 2h, 7d.")
@click.option("--at", type=MOMENT, metavar="TIME", help="At this time: 2026-11-24T08:00+03:00.")
@config_option
@json_option
@audited("job.reschedule", target="job_id", asked=("delay", "at"))
def reschedule(job_id: str, delay: timedelta | None, at: datetime | None, config: Path | None, as_json: bool) -> int:
    """Put a waiting or discarded job to another time; exit 1 if it runs or has ended otherwise."""
    from skycap.admission import checked_time

    when = at if delay is None else delay
    if when is None or (at is not None and delay is not None):
        raise click.UsageError("give either --in 2h or --at 2026-11-24T08:00+03:00")
    checked_time(when, what="the time to run at")
    return _say_put(asyncio.run(_put(settings_of(config), job_id, when)), as_json=as_json)


def print_jobs(found: Iterable[Job]) -> None:
    rows = [
        (job.id, job.kind, job.queue, state_cell(job.state), job.attempt, job.enqueued_at, job.due_at) for job in found
    ]
    print_table(_COLUMNS, rows, empty="no such job")


def print_job(job: Job) -> None:
    """For people: what does not apply is left out; log lines and errors are tables of their own."""
    document = as_document(job)
    del document["log"], document["errors"]
    document |= {
        "tags": ", ".join(job.tags),
        "payload": json.dumps(document["payload"], ensure_ascii=False),
        "result": None if job.result is None else json.dumps(job.result, ensure_ascii=False),
        "state": state_cell(job.state),
        "progress": progress_text(job.progress) if job.progress else None,
    }
    print_fields({name: value for name, value in document.items() if value is not None and value != ""})
    if job.log:
        click.echo()
        print_table(("at", "log"), [(line.at, line.text) for line in job.log])
    if job.errors:
        click.echo()
        print_table(("attempt", "at", "error"), [(each.attempt, each.at, each.error) for each in job.errors])


def progress_text(progress: Progress) -> str:
    return f"{progress.fraction:.0%} {progress.note}".rstrip()


def as_document(job: Job) -> dict[str, Any]:
    """The job in camelCase, as the HTTP side shows it."""
    return {
        "id": job.id,
        "kind": job.kind,
        "queue": job.queue,
        "state": job.state.value,
        "priority": job.priority,
        "tags": list(job.tags),
        "uniqueKey": job.unique_key,
        "attempt": job.attempt,
        "enqueuedAt": job.enqueued_at,
        "dueAt": job.due_at,
        "deadline": job.deadline,
        "waitsAt": job.waits_at,
        "startedAt": job.started_at,
        "worker": job.worker,
        "finishedAt": job.finished_at,
        "reason": job.reason,
        "payload": dict(job.payload),
        "progress": asdict(job.progress) if job.progress else None,
        "result": job.result,
        "log": [asdict(line) for line in job.log],
        "errors": [asdict(error) for error in job.errors],
    }


async def _list(settings: Settings, queue: str | None, search: Search, states: list[JobState], limit: int) -> list[Job]:
    async with connected_queues(settings) as queues:
        return await search.first(queues.chosen(queue), states, limit=limit)


async def _show(settings: Settings, job_id: str) -> Job:
    async with connected_queues(settings) as queues:
        _, job = await queues.find(job_id)
        return job


async def _cancel(settings: Settings, job_id: str) -> Job:
    async with connected_queues(settings) as queues:
        queue, _ = await queues.find(job_id)
        await queue.cancel(job_id)
        _, job = await queues.find(job_id)
        return job


async def _put(settings: Settings, job_id: str, when: timedelta | datetime) -> Job:
    async with connected_queues(settings) as queues:
        queue, _ = await queues.find(job_id)
        await queue.retry(job_id, when=when)
        _, job = await queues.find(job_id)
        return job


def _say(job: Job, *, as_json: bool) -> None:
    answer = {"id": job.id, "state": job.state.value} | ({"dueAt": job.due_at} if job.due_at else {})
    (print_json if as_json else print_fields)(answer)


def _say_put(job: Job, *, as_json: bool) -> int:
    _say(job, as_json=as_json)
    if job.state in {JobState.AVAILABLE, JobState.SCHEDULED}:
        return Exit.DONE
    click.echo(f"{job.id} is {job.state}; only a job that waits or was discarded has a time to be changed", err=True)
    return Exit.NOT_DONE
