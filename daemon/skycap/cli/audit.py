"""``skycap audit``: who did what, at the command line and over HTTP."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skycap.cli.installation import connected_link, settings_of
from skycap.cli.options import config_option
from skycap.cli.output import json_option, print_json, print_table
from skycap.cli.quantities import TIME

if TYPE_CHECKING:
    from skycap.engine.audit import Audited, Wanted
    from skycap.settings import Settings


@click.group
def audit() -> None:
    """List who did what."""


@audit.command("list")
@click.option("--action", help="Only this one, as queue.pause; or all of one thing, as queue.")
@click.option("--who", help="Only of this user or token.")
@click.option("--since", type=TIME, metavar="TIME", help="Only since then: 2h ago, or 2026-11-24T08:00+03:00.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 20_000))
@config_option
@json_option
def list_actions(
    action: str | None,
    who: str | None,
    since: timedelta | datetime | None,
    limit: int,
    config: Path | None,
    as_json: bool,
) -> None:
    """List actions and refused attempts, the newest first."""
    from skycap.engine.audit import Wanted

    begin = datetime.now(UTC) - since if isinstance(since, timedelta) else since
    found = asyncio.run(_list(settings_of(config), Wanted(action=action, who=who, since=begin), limit))
    if as_json:
        print_json([each.document() for each in found])
    else:
        columns = ("at", "who", "via", "host", "action", "target", "asked", "outcome")
        print_table(columns, [_row(each) for each in found])


async def _list(settings: Settings, wanted: Wanted, limit: int) -> list[Audited]:
    from skycap.engine.audit import AuditLog

    async with connected_link(settings) as link:
        return await AuditLog(link).newest(wanted, limit=limit)


def _row(found: Audited) -> tuple[object, ...]:
    action = found.action
    asked = ", ".join(f"{name} {value}" for name, value in action.asked.items())
    outcome = action.outcome if action.code is None else f"{action.outcome}: {action.code}"
    return (
        *(found.at, action.who, action.via, found.host, action.action),
        *(action.target or None, asked or None, outcome),
    )
