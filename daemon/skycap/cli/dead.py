"""``skycap dead``: jobs that were given up, why, and what to do with them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from skycap.cli.installation import connected_queues, settings_of
from skycap.cli.jobs import as_document, show
from skycap.cli.options import config_option
from skycap.cli.output import json_option, print_json, print_table
from skycap.exits import Exit
from skycap.job import Job, JobState
from skycap.settings import Settings


@click.group
def dead() -> None:
    """List, show, redrive and discard dead letters."""


dead.add_command(show)


@dead.command("list")
@click.option("--queue", help="Only this queue.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="Of each queue.")
@config_option
@json_option
def list_dead(queue: str | None, limit: int, config: Path | None, as_json: bool) -> None:
    """List dead letters, newest first."""
    found = asyncio.run(_list(settings_of(config), queue, limit))
    if as_json:
        print_json([as_document(job) for job in found])
        return
    rows = [(job.id, job.kind, job.queue, job.finished_at, job.reason, _last_error(job)) for job in found]
    print_table(("job", "kind", "queue", "since", "reason", "last error"), rows)


@dead.command
@click.argument("job_ids", metavar="JOB…", nargs=-1, required=True)
@config_option
def redrive(job_ids: tuple[str, ...], config: Path | None) -> int:
    """Start dead letters over, with all their attempts."""
    missing = asyncio.run(_change(settings_of(config), job_ids, "redrive"))
    return _report("redriven", len(job_ids), missing)


@dead.command
@click.argument("job_ids", metavar="JOB…", nargs=-1, required=True)
@config_option
def discard(job_ids: tuple[str, ...], config: Path | None) -> int:
    """Delete dead letters for good."""
    missing = asyncio.run(_change(settings_of(config), job_ids, "discard"))
    return _report("deleted", len(job_ids), missing)


async def _list(settings: Settings, name: str | None, limit: int) -> list[Job]:
    async with connected_queues(settings) as queues:
        chosen = [queues.named(name)] if name else list(queues.by_name.values())
        return [job for queue in chosen for job in await queue.jobs(JobState.DISCARDED, limit=limit)]


async def _change(settings: Settings, job_ids: tuple[str, ...], verb: str) -> list[str]:
    """The ids that are no dead letters."""
    missing: list[str] = []
    async with connected_queues(settings) as queues:
        for job_id in job_ids:
            queue, job = await queues.find(job_id)
            if job.state is not JobState.DISCARDED:
                missing.append(job_id)
            elif verb == "redrive":
                await queue.retry(job_id)
            else:
                await queue.remove(job_id)
    return missing


def _report(word: str, asked: int, missing: list[str]) -> int:
    click.echo(f"{asked - len(missing)} {word}")
    for job_id in missing:
        click.echo(f"{job_id} is not in a dead-letter queue", err=True)
    return Exit.NOT_DONE if missing else Exit.DONE


def _last_error(job: Job) -> str:
    return job.errors[-1].error if job.errors else ""
