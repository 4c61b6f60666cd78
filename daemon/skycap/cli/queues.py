"""``skycap queues``: how full they are, and whether they are paused."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from skycap.cli.installation import connected_queues, settings_of
from skycap.cli.options import config_option
from skycap.cli.output import json_option, print_json, print_table
from skycap.engine.queue import Counts
from skycap.settings import Settings


@click.group
def queues() -> None:
    """List, pause and resume queues."""


@queues.command("list")
@config_option
@json_option
def list_queues(config: Path | None, as_json: bool) -> None:
    """List the queues and how many jobs stand where."""
    counts = asyncio.run(_counts(settings_of(config)))
    if as_json:
        print_json([{"queue": name, **vars(count)} for name, count in counts.items()])
        return
    rows = [
        (name, count.available, count.later, count.running, count.discarded, "yes" if count.is_paused else "no")
        for name, count in counts.items()
    ]
    print_table(("queue", "available", "later", "running", "discarded", "paused"), rows)


@queues.command
@click.argument("name", metavar="QUEUE")
@config_option
def pause(name: str, config: Path | None) -> None:
    """Let no worker take a job of QUEUE; running ones end."""
    asyncio.run(_switch(settings_of(config), name, paused=True))
    click.echo(f"{name} is paused")


@queues.command
@click.argument("name", metavar="QUEUE")
@config_option
def resume(name: str, config: Path | None) -> None:
    """Let workers take jobs of QUEUE again."""
    asyncio.run(_switch(settings_of(config), name, paused=False))
    click.echo(f"{name} is not paused")


async def _counts(settings: Settings) -> dict[str, Counts]:
    async with connected_queues(settings) as connected:
        return {name: await queue.counts() for name, queue in connected.by_name.items()}


async def _switch(settings: Settings, name: str, *, paused: bool) -> None:
    async with connected_queues(settings) as connected:
        queue = connected.named(name)
        await (queue.pause() if paused else queue.resume())
