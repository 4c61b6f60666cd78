"""``skycap outbox``: the jobs that backends enqueued in SQL, on their way to Redis."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skycap.cli.audited import audited
from skycap.cli.database import connected_database
from skycap.cli.documents import document_of
from skycap.cli.installation import settings_of
from skycap.cli.options import config_option
from skycap.cli.output import answer, json_option, print_fields, print_json, print_table
from skycap.cli.progress import working
from skycap.cli.quantities import MOMENT

if TYPE_CHECKING:
    from skycap.services.outbox import OutboxProblem, OutboxStanding
    from skycap.settings import Settings


_PROBLEMS_SHOWN = 20


@click.group(invoke_without_command=True)
@config_option
@json_option
@click.pass_context
def outbox(context: click.Context, config: Path | None, as_json: bool) -> None:
    """Show how many jobs wait in the outbox, since when, and which of the last did not fit."""
    if context.invoked_subcommand is not None:
        return
    found = asyncio.run(_look(settings_of(config)))
    if as_json:
        print_json(found.document())
    else:
        found.print()


@outbox.command
@click.option("--since", required=True, type=MOMENT, metavar="TIME", help="As 2026-11-24T08:00+03:00.")
@config_option
@json_option
@audited("outbox.replay", target=lambda _: "", asked=("since",))
def replay(since: datetime, config: Path | None, as_json: bool) -> None:
    """After Redis has lost its data: move what was moved to it since then once more, under the same job ids.

    What Redis still knows is not added again; a job that has run and was forgotten since runs a second time.
    """
    count = asyncio.run(_replay(settings_of(config), since))
    answer({"waiting": count}, f"{count} jobs wait in the outbox again", as_json=as_json)


@dataclass(frozen=True, kw_only=True)
class _Found:
    standing: OutboxStanding
    problems: list[OutboxProblem]

    @property
    def oldest_age(self) -> timedelta | None:
        standing = self.standing
        return None if standing.oldest_at is None else max(timedelta(0), standing.now - standing.oldest_at)

    def document(self) -> dict[str, object]:
        age = self.oldest_age
        return {
            "waiting": self.standing.waiting,
            "oldestAgeSeconds": None if age is None else age.total_seconds(),
            "lastRelayedAt": self.standing.last_relayed_at,
            "problems": [document_of(problem) for problem in self.problems],
        }

    def print(self) -> None:
        age = self.oldest_age
        print_fields(
            {
                "waiting": self.standing.waiting,
                "oldest": None if age is None else timedelta(seconds=round(age.total_seconds())),
                "last relayed": self.standing.last_relayed_at,
            }
        )
        if self.problems:
            click.echo("\ndead letters at once:")
            rows = [(each.enqueued_at, each.kind, each.job_id, each.problem) for each in self.problems]
            print_table(("enqueued", "kind", "job", "problem"), rows)


async def _look(settings: Settings) -> _Found:
    from skycap.services.outbox import Outbox

    async with connected_database(settings) as database:
        found = Outbox(database)
        return _Found(standing=await found.standing(), problems=await found.problems(limit=_PROBLEMS_SHOWN))


async def _replay(settings: Settings, since: datetime) -> int:
    from skycap.services.outbox import Outbox

    async with connected_database(settings) as database, working("replaying"):
        return await Outbox(database).replay(since)
