"""``skycap mail suppressions``: to whom no mail is sent. The list holds hashes, so that addresses are only asked."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skycap.cli.addresses import ADDRESS
from skycap.cli.database import connected_database
from skycap.cli.installation import settings_of
from skycap.cli.options import config_option
from skycap.cli.output import json_option, print_json, print_table
from skycap.exits import Exit
from skycap.redaction import without_addresses

if TYPE_CHECKING:
    from skycap.services.suppressions import Suppression
    from skycap.settings import Settings


HASH_SHOWN = 12


@click.group
def suppressions() -> None:
    """List, add and remove who gets no mail."""


@suppressions.command("list")
@click.option(
    "--reason", type=click.Choice(["bounce", "complaint", "refused", "manual"]), help="Only those listed for this."
)
@click.option("--recipient", type=ADDRESS, metavar="ADDRESS|-", help="Only this one; `-` reads it from standard input.")
@click.option("--all", "everything", is_flag=True, help="Also those that wait for a second bounce, or are over.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
@config_option
@json_option
def list_suppressions(
    reason: str | None, recipient: str | None, everything: bool, limit: int, config: Path | None, as_json: bool
) -> None:
    """List who gets no mail, the last that anything was heard of first."""
    found = asyncio.run(_list(settings_of(config), reason, recipient, everything=everything, limit=limit))
    if as_json:
        print_json([asdict(each) for each in found])
        return
    rows = [
        (
            *(each.recipient_hash[:HASH_SHOWN], each.reason if each.is_listed else f"({each.reason})", each.count),
            *(each.created_at, each.expires_at or "for ever", each.detail),
        )
        for each in found
    ]
    print_table(("recipient", "reason", "mails", "since", "until", "detail"), rows)


@suppressions.command
@click.argument("address", type=ADDRESS, metavar="ADDRESS|-")
@click.option("--note", help="Why, for whoever reads the list.")
@config_option
def add(address: str, note: str | None, config: Path | None) -> None:
    """Send nothing to ADDRESS any more. With `-`, it is read from standard input, unseen by other users."""
    from skycap.services.ledger import recipient_hash_of

    asyncio.run(_add(settings_of(config), address, note))
    click.echo(f"{recipient_hash_of(address)[:HASH_SHOWN]} gets no mail any more")


@suppressions.command
@click.argument("address", type=ADDRESS, metavar="ADDRESS|-")
@config_option
def remove(address: str, config: Path | None) -> int:
    """Let ADDRESS get mail again; exit 1 if it is not on the list. With `-`, it is read from standard input."""
    from skycap.services.ledger import recipient_hash_of

    removed = asyncio.run(_remove(settings_of(config), address))
    shown = recipient_hash_of(address)[:HASH_SHOWN]
    if removed is None:
        click.echo(f"{shown} is not on the list", err=True)
        return Exit.NOT_DONE
    since = removed.created_at
    click.echo(f"{shown} gets mail again; it was on the list since {since:%Y-%m-%d} ({removed.reason})")
    click.echo("what was held back meanwhile is sent with `skycap mail ledger resend`")
    return Exit.DONE


async def _list(
    settings: Settings, reason: str | None, recipient: str | None, *, everything: bool, limit: int
) -> list[Suppression]:
    from skycap.services.ledger import recipient_hash_of
    from skycap.services.suppressions import Suppressions

    async with connected_database(settings) as database:
        listed = Suppressions(database)
        if recipient is None:
            return await listed.newest(limit=limit, reason=reason, with_unlisted=everything)
        found = await listed.find(recipient_hash_of(recipient))
        return [found] if found is not None and reason in {None, found.reason} else []


async def _add(settings: Settings, address: str, note: str | None) -> None:
    from skycap.services.ledger import recipient_hash_of
    from skycap.services.suppressions import Suppressions

    async with connected_database(settings) as database:
        detail = None if note is None else without_addresses(note)
        await Suppressions(database).add(recipient_hash_of(address), detail=detail)


async def _remove(settings: Settings, address: str) -> Suppression | None:
    from skycap.services.ledger import recipient_hash_of
    from skycap.services.suppressions import Suppressions

    async with connected_database(settings) as database:
        return await Suppressions(database).remove(recipient_hash_of(address))
