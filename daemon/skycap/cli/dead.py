"""``skycap dead``: jobs that were given up, why, and what to do with them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from skycap.cli.audited import audited
from skycap.cli.installation import Queues, connected_queues, settings_of
from skycap.cli.jobs import as_document, show
from skycap.cli.options import config_option, fields_of, filter_options, plugins_dir_option
from skycap.cli.output import answer, json_option, print_json, print_table
from skycap.cli.progress import progress, working
from skycap.cli.quantities import RATE
from skycap.engine.policy import Rate
from skycap.engine.search import Search
from skycap.exits import Exit
from skycap.job import Job, JobState
from skycap.outcome import DeadReason

if TYPE_CHECKING:
    from skycap.engine.queue import Queue
    from skycap.envelope import Envelope
    from skycap.settings import Settings


_F = TypeVar("_F", bound=Callable[..., object])

_reason_option = click.option(
    "--reason", type=click.Choice([reason.value for reason in DeadReason]), help="Only those given up for this."
)


def _chosen(command: _F) -> _F:
    """The arguments of a command on dead letters: some by their ids, or all that fit."""
    for decorate in (
        _reason_option,
        filter_options,
        click.option("--all", "everything", is_flag=True, help="All dead letters that fit the options."),
        click.argument("job_ids", metavar="JOB…", nargs=-1),
    ):
        command = decorate(command)
    return command


@click.group
def dead() -> None:
    """List, show, redrive and discard dead letters."""


dead.add_command(show)


@dead.command("list")
@filter_options
@_reason_option
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="Of each queue.")
@config_option
@json_option
def list_dead(
    queue: str | None,
    kind: str | None,
    tag: str | None,
    reason: str | None,
    limit: int,
    config: Path | None,
    as_json: bool,
) -> None:
    """List dead letters, newest first."""
    search = Search(kind=kind, tag=tag, reason=reason)
    found = asyncio.run(_list(settings_of(config), queue, search, limit))
    if as_json:
        print_json([as_document(job) for job in found])
        return
    rows = [(job.id, job.kind, job.queue, job.finished_at, job.reason, _last_error(job)) for job in found]
    print_table(("job", "kind", "queue", "since", "reason", "last error"), rows, empty="no such dead letter")


@dead.command
@_chosen
@click.option("--rate", type=RATE, metavar="10/1s", help="Let only so many start in a time, the oldest first.")
@click.option("--payload", metavar="JSON|@FILE", help="Another payload, for one job.")
@plugins_dir_option
@config_option
@json_option
@audited("dead.redrive", target="job_ids", asked=("everything", "queue", "kind", "tag", "reason", "rate"))
def redrive(
    job_ids: tuple[str, ...],
    everything: bool,
    queue: str | None,
    kind: str | None,
    tag: str | None,
    reason: str | None,
    rate: Rate | None,
    payload: str | None,
    plugins_dir: Path | None,
    config: Path | None,
    as_json: bool,
) -> int:
    """Start dead letters over, with all their attempts."""
    choice = _Choice.of(job_ids, queue, Search(kind=kind, tag=tag, reason=reason), everything=everything)
    if payload is not None and len(job_ids) != 1:
        raise click.UsageError("--payload is for one job; name it")
    settings = settings_of(config, {"plugins_dir": str(plugins_dir)} if plugins_dir else None)
    if payload is None:
        done = asyncio.run(_redrive(settings, choice, rate))
    else:
        done = asyncio.run(_redrive_with(settings, job_ids[0], payload))
    return done.report("redriven", as_json=as_json)


@dead.command
@_chosen
@config_option
@json_option
@audited("dead.discard", target="job_ids", asked=("everything", "queue", "kind", "tag", "reason"))
def discard(
    job_ids: tuple[str, ...],
    everything: bool,
    queue: str | None,
    kind: str | None,
    tag: str | None,
    reason: str | None,
    config: Path | None,
    as_json: bool,
) -> int:
    """Delete dead letters for good."""
    choice = _Choice.of(job_ids, queue, Search(kind=kind, tag=tag, reason=reason), everything=everything)
    return asyncio.run(_discard(settings_of(config), choice)).report("deleted", as_json=as_json)


@dataclass(frozen=True, kw_only=True)
class _Choice:
    """Which dead letters a command is for."""

    job_ids: tuple[str, ...]
    queue: str | None
    search: Search

    @classmethod
    def of(cls, job_ids: tuple[str, ...], queue: str | None, search: Search, *, everything: bool) -> _Choice:
        if everything == bool(job_ids):
            raise click.UsageError(
                "name the jobs, or give --all, which --queue, --kind, --tag and --reason narrow down"
            )
        if job_ids and (queue is not None or search != Search()):
            raise click.UsageError(
                "--queue, --kind, --tag and --reason are for --all; leave out either them or the jobs"
            )
        return cls(job_ids=job_ids, queue=queue, search=search)

    async def letters(self, queues: Queues) -> tuple[list[tuple[Queue, str]], list[str]]:
        """Where each one is, those of a queue oldest first; and the ids of those that are no dead letters."""
        if not self.job_ids:
            async with working("looking for dead letters"):
                return (await self.search.every(queues.chosen(self.queue), JobState.DISCARDED))[::-1], []
        found = {job_id: await _letter(queues, job_id) for job_id in self.job_ids}
        return (
            [(at[0], job_id) for job_id, at in found.items() if at is not None],
            [job_id for job_id, at in found.items() if at is None],
        )


@dataclass(frozen=True, kw_only=True)
class _Done:
    """How many dead letters were changed, and the ids of those that are none."""

    count: int
    missing: list[str]

    def report(self, word: str, *, as_json: bool) -> int:
        answer({word: self.count, "missing": self.missing}, f"{self.count} {word}", as_json=as_json)
        for job_id in self.missing:
            click.echo(f"{job_id} is not in a dead-letter queue", err=True)
        return Exit.NOT_DONE if self.missing else Exit.DONE


async def _list(settings: Settings, queue: str | None, search: Search, limit: int) -> list[Job]:
    async with connected_queues(settings) as queues:
        return await search.first(queues.chosen(queue), [JobState.DISCARDED], limit=limit)


async def _redrive(settings: Settings, choice: _Choice, rate: Rate | None) -> _Done:
    from skycap.admission import checked_time
    from skycap.engine.queue import NOW

    async with connected_queues(settings) as queues:
        letters, missing = await choice.letters(queues)
        if rate is not None:
            checked_time(rate.per * len(letters) / rate.max, what="the last one's time at this rate")
        gone: list[str] = []
        with progress("redriving", len(letters)) as advance:
            for number, (queue, job_id) in enumerate(letters):
                when = NOW if rate is None else rate.per * number / rate.max
                if await queue.retry(job_id, when=when) is None:
                    gone.append(job_id)
                advance()
        return _Done(count=len(letters) - len(gone), missing=[*missing, *gone])


async def _redrive_with(settings: Settings, job_id: str, payload: str) -> _Done:
    from skycap.client import BaseClient
    from skycap.installation import load_plugins

    fields = fields_of(payload)
    async with connected_queues(settings) as queues:
        letter = await _letter(queues, job_id)
        if letter is None:
            return _Done(count=0, missing=[job_id])
        queue, job = letter
        checked = load_plugins(settings).checked_payload(job.kind, fields)
        client = BaseClient(signer=settings.signing.signer)
        await queue.retry(job_id, envelope=_in_place_of(job, client.envelope(checked)))
        return _Done(count=1, missing=[])


async def _discard(settings: Settings, choice: _Choice) -> _Done:
    async with connected_queues(settings) as queues:
        letters, missing = await choice.letters(queues)
        gone: list[str] = []
        with progress("discarding", len(letters)) as advance:
            for queue, job_id in letters:
                if not await queue.remove(job_id):
                    gone.append(job_id)
                advance()
        return _Done(count=len(letters) - len(gone), missing=[*missing, *gone])


async def _letter(queues: Queues, job_id: str) -> tuple[Queue, Job] | None:
    for queue in queues.by_name.values():
        job = await queue.get(job_id)
        if job is not None and job.state is JobState.DISCARDED:
            return queue, job
    return None


def _in_place_of(job: Job, envelope: Envelope) -> Envelope:
    """The envelope of the same job: only its payload, and that one's version, are new."""
    return replace(
        envelope,
        id=job.id,
        kind=job.kind,
        queue=job.queue,
        priority=job.priority,
        enqueued_at=job.enqueued_at,
        tags=job.tags,
    )


def _last_error(job: Job) -> str:
    return job.errors[-1].error if job.errors else ""
