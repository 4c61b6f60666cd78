"""``skycap mail bounce``: what comes back to the bounce address, from a pipe of the mail server."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skycap.cli.database import connected_database
from skycap.cli.installation import settings_of
from skycap.cli.options import config_option
from skycap.cli.output import answer, json_option, print_json
from skycap.errors import SkycapError
from skycap.exits import Exit

if TYPE_CHECKING:
    from skycap.services.bounces import Bounce
    from skycap.services.returned_mails import Taken
    from skycap.settings import Settings


_REST_AT_ONCE = 1_000_000


@click.command
@click.option("--recipient", metavar="ENVELOPE-TO", help="Whom the bounce was sent to, as the mail server knows it.")
@config_option
@json_option
def bounce(recipient: str | None, config: Path | None, as_json: bool) -> int:
    """Take in one bounce or complaint from standard input.

    Exit 0 for all that was read, also for what is no bounce or about no mail of ours: a pipe that fails makes the
    mail server send a bounce of the bounce. Exit 75 when it could not be taken in now, so that it is tried again.
    """
    from skycap.services.bounces import read_bounce

    found = read_bounce(_message(), envelope_recipient=recipient)
    if found is None:
        text = "ignored: neither a bounce nor a complaint"
        answer({"effect": "ignored", "what": None, "status": None, "messageId": None}, text, as_json=as_json)
        return Exit.DONE
    try:
        taken = asyncio.run(_take_in(settings_of(config), found))
    except SkycapError as error:
        # Not the error's own code: the mail server would give up for a mistake in our configuration.
        click.echo(f"skycap: {error}", err=True)
        return Exit.TRY_AGAIN
    if as_json:
        document = {"what": found.what, "status": found.status, "messageId": taken.message_id}
        print_json({"effect": taken.effect if taken.message_id else None, **document})
    else:
        click.echo(_said(found, taken), err=taken.message_id is None)
    return Exit.DONE


def _message() -> bytes:
    """All is taken from the pipe, lest its other end meet an error; the first MB is read."""
    from skycap.services.bounces import LONGEST_READ

    message = sys.stdin.buffer.read(LONGEST_READ)
    while sys.stdin.buffer.read(_REST_AT_ONCE):
        pass
    return message


async def _take_in(settings: Settings, found: Bounce) -> Taken:
    from skycap.services.returned_mails import ReturnedMails

    async with connected_database(settings) as database:
        has_return_addresses = settings.mail.bounce_address is not None
        return await ReturnedMails(database, trusts_message_ids=not has_return_addresses).take_in(found)


def _said(found: Bounce, taken: Taken) -> str:
    words = f"{found.what} {found.status}" if found.status else found.what
    if taken.message_id is None:
        return f"warning: {words}, about no mail that the ledger knows; nothing was changed"
    return f"{taken.effect}: {words}, mail {taken.message_id}"
