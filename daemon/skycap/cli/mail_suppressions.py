"""``skycap mail suppressions``: to whom no mail is sent. The list holds hashes, so that addresses are only asked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skycap.cli.addresses import ADDRESS
from skycap.cli.audited import audited
from skycap.cli.database import connected_database
from skycap.cli.documents import document_of
from skycap.cli.installation import settings_of
from skycap.cli.options import config_option
from skycap.cli.output import answer, json_option, print_json, print_table
from skycap.exits import Exit
from skycap.redaction import without_addresses

if TYPE_CHECKING:
    from skycap.services.suppressions import Suppression
    from skycap.settings import Settings


HASH_SHOWN = 12


def _recipient(options: Mapping[str, Any]) -> str:
    return _hash_of(options["address"])[:HASH_SHOWN]


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
    found = asyncio.run(
        _list(settings_of(config), recipient and _hash_of(recipient), reason, everything=everything, limit=limit)
    )
    if as_json:
        print_json([document_of(each) for each in found])
        return
    rows = [
        (
            *(each.recipient_hash[:HASH_SHOWN], each.reason if each.is_listed else f"({each.reason})", each.count),
            *(each.created_at, each.expires_at or "for ever", each.detail),
        )
        for each in found
    ]
    print_table(("recipient", "reason", "mails", "since", "until", "detail"), rows, empty="nobody is on the list")


@suppressions.command
@click.argument("address", type=ADDRESS, metavar="ADDRESS|-")
@click.option("--note", help="Why, for whoever reads the list.")
@config_option
@json_option
@audited("suppression.add", target=_recipient)
def add(address: str, note: str | None, config: Path | None, as_json: bool) -> None:
    """Send nothing to ADDRESS any more. With `-`, it is read from standard input, unseen by other users."""
    recipient = _hash_of(address)
    asyncio.run(_add(settings_of(config), recipient, note))
    text = f"{recipient[:HASH_SHOWN]} gets no mail any more"
    answer({"recipientHash": recipient, "isListed": True}, text, as_json=as_json)


@suppressions.command
@click.argument("address", type=ADDRESS, metavar="ADDRESS|-")
@config_option
@json_option
@audited("suppression.remove", target=_recipient)
def remove(address: str, config: Path | None, as_json: bool) -> int:
    """Let ADDRESS get mail again; exit 1 if it is not on the list. With `-`, it is read from standard input."""
    recipient = _hash_of(address)
    removed = asyncio.run(_remove(settings_of(config), recipient))
    shown = recipient[:HASH_SHOWN]
    if removed is None:
        if as_json:
            print_json({"recipientHash": recipient, "isListed": False, "since": None, "reason": None})
        click.echo(f"{shown} is not on the list", err=True)
        return Exit.NOT_DONE
    answer(
        {"recipientHash": recipient, "isListed": False, "since": removed.created_at, "reason": removed.reason},
        f"{shown} gets mail again; it was on the list since {removed.created_at:%Y-%m-%d} ({removed.reason})",
        "what was held back meanwhile is sent with `skycap mail ledger resend`",
        as_json=as_json,
    )
    return Exit.DONE


def _hash_of(address: str) -> str:
    from skycap.services.ledger import recipient_hash_of

    return recipient_hash_of(address)


async def _list(
    settings: Settings, recipient_hash: str | None, reason: str | None, *, everything: bool, limit: int
) -> list[Suppression]:
    from skycap.services.suppressions import Suppressions

    async with connected_database(settings) as database:
        listed = Suppressions(database)
        if recipient_hash is None:
            return await listed.newest(limit=limit, reason=reason, with_unlisted=everything)
        found = await listed.find(recipient_hash)
        return [found] if found is not None and reason in {None, found.reason} else []


async def _add(settings: Settings, recipient_hash: str, note: str | None) -> None:
    from skycap.services.suppressions import Suppressions

    async with connected_database(settings) as database:
        await Suppressions(database).add(recipient_hash, detail=None if note is None else without_addresses(note))


async def _remove(settings: Settings, recipient_hash: str) -> Suppression | None:
    from skycap.services.suppressions import Suppressions

    async with connected_database(settings) as database:
        return await Suppressions(database).remove(recipient_hash)
