"""``skycap schedules``: what is enqueued by the clock, and when."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import click

from skycap.cli.installation import connected_queues, settings_of
from skycap.cli.options import config_option
from skycap.cli.output import json_option, print_json, print_table
from skycap.installation import load_plugins
from skycap.maintenance.clock import Clock
from skycap.schedule import Schedule
from skycap.settings import Settings


@click.group
def schedules() -> None:
    """List schedules, and run one now."""


@schedules.command("list")
@config_option
@json_option
def list_schedules(config: Path | None, as_json: bool) -> None:
    """List each schedule's times and when it is due next."""
    found = load_plugins(settings_of(config)).schedules
    clock = Clock(found, {})
    rows = [
        (each.name, each.crontab, each.zone, _kind(each), each.plugin, clock.next_tick(each.name)) for each in found
    ]
    columns = ("schedule", "crontab", "zone", "kind", "plugin", "next")
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_table(columns, rows)


@schedules.command
@click.argument("name", metavar="SCHEDULE")
@config_option
def run(name: str, config: Path | None) -> None:
    """Enqueue SCHEDULE's job now, as if it were due."""
    settings = settings_of(config)
    found = {each.name: each for each in load_plugins(settings).schedules}
    if name not in found:
        raise click.UsageError(f"there is no schedule {name!r}; known: {', '.join(found) or 'none'}")
    asyncio.run(_run(settings, found[name]))
    click.echo(f"{name} is enqueued")


async def _run(settings: Settings, schedule: Schedule) -> None:
    async with connected_queues(settings) as connected:
        await Clock([schedule], connected.by_name).enqueue_tick(schedule.name, datetime.now(UTC))


def _kind(schedule: Schedule) -> str:
    return schedule.payload.payload_spec.kind
