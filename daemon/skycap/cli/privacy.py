"""``skycap privacy``: what skycap holds about a person, and its erasure. The backend's own tables are never touched."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from skycap.cli.addresses import ADDRESS
from skycap.cli.audited import audited
from skycap.cli.database import connected_database
from skycap.cli.documents import row_document
from skycap.cli.installation import Queues, connected_queues, settings_of
from skycap.cli.jobs import as_document
from skycap.cli.options import config_option
from skycap.cli.output import answer, json_option, print_json
from skycap.cli.progress import progress, working
from skycap.engine.search import Search
from skycap.exits import Exit
from skycap.job import Job, JobState

if TYPE_CHECKING:
    from skycap.engine.queue import Queue
    from skycap.services.privacy import Held, Person, Privacy
    from skycap.settings import Settings


_HASH_SHOWN = 12
_F = TypeVar("_F", bound=Callable[..., object])


def _hash_of(options: Mapping[str, Any]) -> str:
    """Who was erased is not remembered by a name."""
    from skycap.services.ledger import recipient_hash_of

    named = options["email"] or f"user {options['user']}"
    return recipient_hash_of(named)[:_HASH_SHOWN]


def _person_options(command: _F) -> _F:
    for option in (
        click.option("--email", type=ADDRESS, metavar="ADDRESS|-", help="Their address; `-` reads it from stdin."),
        click.option("--user", metavar="ID", help="The backend's id of the user."),
    ):
        command = option(command)
    return command


@click.group
def privacy() -> None:
    """Export or erase what is held about a person."""


@privacy.command
@_person_options
@config_option
@click.option("--json", is_flag=True, expose_value=False, help="As it is anyway: the export is one JSON document.")
def export(user: str | None, email: str | None, config: Path | None) -> None:
    """Print all that is held about a person, as JSON: mails, suppression, unsubscribe links, jobs with their payload.

    Where the database has the backend's users, --user finds the address and --email the id. A user whom the backend
    has deleted is found whole with both.
    """
    _check(user, email)
    print_json(asyncio.run(_export(settings_of(config), user, email)))


@privacy.command
@_person_options
@click.option("--suppressions", is_flag=True, help="Forget the suppression, too; it keeps mails from being sent.")
@click.option("--yes", is_flag=True, help="Do it; otherwise it is only said.")
@config_option
@json_option
@audited("privacy.erase", target=_hash_of, asked=("suppressions",), when=lambda options: options["yes"])
def erase(
    user: str | None, email: str | None, suppressions: bool, yes: bool, config: Path | None, as_json: bool
) -> int:
    """Erase what is held about a person; exit 1 if a running job still holds some.

    Waiting jobs are cancelled, and all jobs that do not run are deleted. Of mails, a hash and what became of them
    stays, so that none is sent twice.
    """
    _check(user, email)
    return asyncio.run(
        _erase(settings_of(config), user, email, with_suppressions=suppressions, is_meant=yes, as_json=as_json)
    )


@dataclass(frozen=True, kw_only=True)
class _JobsOf(Search):
    """The jobs that name a person."""

    person: Person

    def fits(self, job: Job) -> bool:
        return self.person.is_named_in(job)

    async def found(self, queues: Queues) -> list[Job]:
        """Each once, as it was seen last: some move while they are looked for."""
        async with working("looking at all jobs"):
            every = await self.first(queues.chosen(None), list(JobState), limit=sys.maxsize)
        return list({(job.queue, job.id): job for job in every}.values())


@dataclass(frozen=True, kw_only=True)
class _Erased:
    """What was erased, or would be if it ``is_meant``."""

    held: Held
    jobs: Sequence[Job]
    left: Sequence[Job]
    with_suppressions: bool
    is_meant: bool

    @property
    def ended(self) -> int:
        return sum(job.state.is_final for job in self.jobs)

    @property
    def waiting(self) -> int:
        return sum(not job.state.is_final and job.state is not JobState.RUNNING for job in self.jobs)

    def document(self) -> dict[str, object]:
        return {
            "erased": self.is_meant,
            "jobsThatHadEnded": self.ended,
            "jobsThatWaited": self.waiting,
            "unsubscribeLinks": len(self.held.unsubscribe_links),
            "mails": len(self.held.mails),
            "suppressions": len(self.held.suppressions) if self.with_suppressions else 0,
            "jobsLeft": [job.id for job in self.left],
        }

    def lines(self) -> Iterator[str]:
        if not self.is_meant:
            yield "nothing was changed yet; with --yes:"
        yield f"jobs deleted: {self.ended} that had ended, {self.waiting} that waited"
        yield f"unsubscribe links deleted: {len(self.held.unsubscribe_links)}"
        yield f"mails of which a hash and the outcome stay: {len(self.held.mails)}"
        if self.held.suppressions:
            why = "kept, since it keeps mails from them (--suppressions deletes it)"
            yield f"suppression: {'deleted' if self.with_suppressions else why}"


def _check(user: str | None, email: str | None) -> None:
    if not user and not email:
        raise click.UsageError("say who it is: --user ID, --email ADDRESS (or - for standard input), or both")


@asynccontextmanager
async def _tables(settings: Settings) -> AsyncGenerator[Privacy | None]:
    """None for an installation without a database: then nothing but jobs is held."""
    from skycap.services.privacy import Privacy

    if settings.database.url is None:
        yield None
        return
    async with connected_database(settings) as database:
        yield Privacy(database)


async def _person(tables: Privacy | None, user: str | None, email: str | None) -> Person:
    from skycap.services.privacy import Person

    if tables is None:
        return Person(user, (email,) if email else ())
    person = await tables.person(user_id=user, address=email)
    if not person.addresses:
        click.echo("no address is known of this user, so that mails are not found: give --email, too", err=True)
    return person


async def _held(tables: Privacy | None, person: Person) -> Held:
    from skycap.services.privacy import Held

    return await tables.held(person) if tables else Held(mails=(), suppressions=(), unsubscribe_links=())


async def _export(settings: Settings, user: str | None, email: str | None) -> dict[str, object]:
    async with _tables(settings) as tables, connected_queues(settings) as queues:
        person = await _person(tables, user, email)
        held = await _held(tables, person)
        jobs = await _JobsOf(person=person).found(queues)
    who = {"userId": person.user_id, "addresses": list(person.addresses)}
    tables_of_rows = {name: [row_document(row) for row in rows] for name, rows in held.as_document().items()}
    return {"person": who, **tables_of_rows, "jobs": [as_document(job) for job in jobs]}


async def _erase(
    settings: Settings,
    user: str | None,
    email: str | None,
    *,
    with_suppressions: bool,
    is_meant: bool,
    as_json: bool,
) -> int:
    async with _tables(settings) as tables, connected_queues(settings) as queues:
        person = await _person(tables, user, email)
        jobs_of = _JobsOf(person=person)
        held = await _held(tables, person)
        jobs = await jobs_of.found(queues)
        if is_meant:
            await _delete_jobs(queues, jobs)
            if tables:
                await tables.delete_links(person)
                await tables.blank_mails(person)
                if with_suppressions:
                    await tables.delete_suppressions(person)
            left = await jobs_of.found(queues)
        else:
            left = [job for job in jobs if job.state is JobState.RUNNING]
    erased = _Erased(held=held, jobs=jobs, left=left, with_suppressions=with_suppressions, is_meant=is_meant)
    answer(erased.document(), *erased.lines(), as_json=as_json)
    for job in left:
        click.echo(f"job {job.id} in queue {job.queue} is {job.state}: erase again when it has ended", err=True)
    return Exit.NOT_DONE if left and is_meant else Exit.DONE


async def _delete_jobs(queues: Queues, jobs: Sequence[Job]) -> None:
    with progress("erasing jobs", len(jobs)) as advance:
        for job in jobs:
            await _delete_job(queues.named(job.queue), job)
            advance()


async def _delete_job(queue: Queue, job: Job) -> None:
    if job.state is JobState.RUNNING:
        return
    if not job.state.is_final and await queue.cancel(job.id) is not JobState.CANCELLED:
        return  # it has just started, or ended otherwise: the next look says
    await queue.forget(job.id)
