"""``skycap mail ledger``: what became of mails, and the admin's word on those that nobody knows of."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skycap.cli.addresses import ADDRESS
from skycap.cli.audited import audited
from skycap.cli.cells import state_cell
from skycap.cli.database import connected_database
from skycap.cli.documents import document_of
from skycap.cli.installation import connected_queues, settings_of
from skycap.cli.options import config_option
from skycap.cli.output import json_option, print_json, print_table
from skycap.cli.quantities import DURATION
from skycap.errors import Unavailable
from skycap.exits import Exit
from skycap.job import Job, JobState
from skycap.services.mail_states import STATES

if TYPE_CHECKING:
    from skycap.services.database import DatabasePool
    from skycap.services.ledger_entries import LedgerEntry, Wanted
    from skycap.settings import Settings


_HASH_SHOWN = 12
_REPLY_SHOWN = 60

_name_argument = click.argument("name", metavar="KEY|MESSAGE-ID")


@click.group(invoke_without_command=True)
@click.option("--state", type=click.Choice(STATES), help="Only this state.")
@click.option("--recipient", type=ADDRESS, metavar="ADDRESS|-", help="Only to this one; `-` reads it from stdin.")
@click.option("--key", metavar="TEXT", help="Only those with this in their key, or of this Message-ID.")
@click.option("--since", type=DURATION, metavar="DURATION", help="Only those that moved within it: 15m, 2h, 7d.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
@config_option
@json_option
@click.pass_context
def ledger(
    context: click.Context,
    state: str | None,
    recipient: str | None,
    key: str | None,
    since: timedelta | None,
    limit: int,
    config: Path | None,
    as_json: bool,
) -> None:
    """List mails, the last that moved first; without options, those that need an admin.

    These are the unknown ones, those that were about to be sent 10 minutes ago, and those that failed today.
    """
    from skycap.services.ledger import recipient_hash_of
    from skycap.services.ledger_entries import Wanted

    if context.invoked_subcommand is not None:
        return
    wanted = Wanted(
        state=state,
        recipient_hash=None if recipient is None else recipient_hash_of(recipient),
        key=key,
        since=None if since is None else datetime.now(UTC) - since,
    )
    found = asyncio.run(_list(settings_of(config), wanted, limit))
    if as_json:
        print_json([document_of(entry) for entry in found])
    else:
        _print(found)


@ledger.command
@_name_argument
@config_option
@json_option
@audited("mail.resend", target="name")
def resend(name: str, config: Path | None, as_json: bool) -> int:
    """Send a mail after all: it is as if it had been put off, and its dead-lettered job starts over.

    For mails that may not have arrived (unknown), that were refused or given up (failed), or whose recipient was on
    the suppression list. A mail of which a copy is out may then arrive twice.
    """
    return asyncio.run(_resend(settings_of(config), name)).report(as_json=as_json)


@ledger.command("mark-sent")
@_name_argument
@config_option
@json_option
@audited("mail.mark-sent", target="name")
def mark_sent(name: str, config: Path | None, as_json: bool) -> int:
    """Note that a mail in doubt has arrived: it is not sent again."""
    return asyncio.run(_mark_sent(settings_of(config), name)).report(as_json=as_json)


@dataclass(frozen=True, kw_only=True)
class _Done:
    """What there is to say, and whether anything was changed."""

    entry: LedgerEntry
    words: tuple[str, ...]
    is_done: bool = True

    def report(self, *, as_json: bool) -> int:
        if as_json:
            print_json({"messageId": self.entry.message_id, "state": self.entry.state, "said": list(self.words)})
        else:
            click.echo("\n".join(self.words), err=not self.is_done)
        return Exit.DONE if self.is_done else Exit.NOT_DONE


async def _list(settings: Settings, wanted: Wanted, limit: int) -> list[LedgerEntry]:
    from skycap.services.ledger_entries import LedgerEntries

    async with connected_database(settings) as database:
        return await LedgerEntries(database).newest(wanted, limit=limit)


async def _resend(settings: Settings, name: str) -> _Done:
    from skycap.services.ledger_entries import LedgerEntries

    async with connected_database(settings) as database:
        entry = await _named(database, name)
        why_not = await _why_not_resend(database, entry)
        if why_not:
            return _refused(entry, why_not)
        moved = await LedgerEntries(database).settle(entry, "deferred", note="to be sent again: an admin's word")
    if moved is None:
        return _refused(entry, "has just moved; look at it again")
    words = (f"{entry.message_id} is to be sent again", await _redriven(settings, entry))
    return _Done(entry=moved, words=words)


async def _mark_sent(settings: Settings, name: str) -> _Done:
    from skycap.services.ledger_entries import LedgerEntries

    async with connected_database(settings) as database:
        entry = await _named(database, name)
        if why_not := _why_not_sent(entry):
            return _refused(entry, why_not)
        moved = await LedgerEntries(database).settle(entry, "sent", note="marked as sent by an admin")
    if moved is None:
        return _refused(entry, "has just moved; look at it again")
    return _Done(
        entry=moved,
        words=(
            f"{entry.message_id} counts as sent",
            f"if its job is a dead letter, `skycap dead redrive {entry.job_id}` lets it end without sending it",
        ),
    )


async def _named(database: DatabasePool, name: str) -> LedgerEntry:
    from skycap.services.ledger_entries import LedgerEntries

    entry = await LedgerEntries(database).find(name)
    if entry is None:
        raise click.UsageError("the ledger has no mail of this key or Message-ID; `skycap mail ledger --key …` looks")
    return entry


async def _why_not_resend(database: DatabasePool, entry: LedgerEntry) -> str | None:
    from skycap.services.suppressions import Suppressions

    if entry.state == "sent":
        return f"was sent at {entry.updated_at:%Y-%m-%d %H:%M:%S}; a mail is sent once"
    if entry.state in {"intent", "sending", "dot"} and not entry.is_stale(datetime.now(UTC)):
        return f"is {entry.state}: a job is at it, or was until some minutes ago"
    listed = await Suppressions(database).find(entry.recipient_hash)
    if listed is not None and listed.is_listed:
        return f"goes to a suppressed recipient ({listed.reason}); first `skycap mail suppressions remove -`"
    return None


def _why_not_sent(entry: LedgerEntry) -> str | None:
    if entry.state == "unknown" or (entry.state == "dot" and entry.is_stale(datetime.now(UTC))):
        return None
    if entry.state == "sent":
        return "is marked as sent already"
    if entry.state in {"sending", "dot"}:
        return f"is {entry.state}: its job, or the next run of it, will find out"
    return f"is {entry.state}: the mail server has certainly not taken it"


def _refused(entry: LedgerEntry, why: str) -> _Done:
    return _Done(entry=entry, words=(f"{entry.message_id} {why}",), is_done=False)


async def _redriven(settings: Settings, entry: LedgerEntry) -> str:
    """Start its job over if it was given up; what became of it."""
    try:
        async with connected_queues(settings) as queues:
            for queue in queues.by_name.values():
                job = await queue.get(entry.job_id)
                if job is not None and job.state is JobState.DISCARDED:
                    await queue.retry(entry.job_id)
                if job is not None:
                    return _said(job)
    except Unavailable as error:
        raise Unavailable(
            error.dependency, f"its job {entry.job_id} was not started over: {error}; give this command again then"
        ) from error
    return f"its job {entry.job_id} is gone: enqueue it anew, and this mail is sent under its first name"


def _said(job: Job) -> str:
    if job.state is JobState.DISCARDED:
        return f"its job {job.id} starts over"
    if job.state.is_final:
        return f"its job {job.id} is {job.state} and does not start over: enqueue it anew"
    return f"its job {job.id} is {job.state}, and sends it"


def _print(found: list[LedgerEntry]) -> None:
    rows = [
        (
            *(entry.updated_at, state_cell(entry.state), entry.kind, entry.recipient_hash[:_HASH_SHOWN], entry.sends),
            *(_reply(entry), entry.bounce_status or ("complaint" if entry.complained_at else None), entry.key),
        )
        for entry in found
    ]
    columns = ("moved", "state", "kind", "recipient", "copies", "reply", "came back", "key")
    print_table(columns, rows, empty="no such mail")


def _reply(entry: LedgerEntry) -> str | None:
    if entry.smtp_code is None:
        return entry.smtp_text and entry.smtp_text[:_REPLY_SHOWN]
    return f"{entry.smtp_code} {entry.smtp_text or ''}"[:_REPLY_SHOWN].rstrip()
