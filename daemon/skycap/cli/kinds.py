"""``skycap kinds``: what can be enqueued, and what may run of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skycap.cli.audited import audited
from skycap.cli.changes import end_of, until_text
from skycap.cli.completing import kind_names
from skycap.cli.installation import connected_queues, settings_of
from skycap.cli.options import config_option
from skycap.cli.output import answer, json_option, print_json, print_table
from skycap.cli.quantities import DURATION
from skycap.cli.typescript import module
from skycap.engine.policy import gate_of_kind

if TYPE_CHECKING:
    from skycap.engine.queue import Queue
    from skycap.job_type import JobType
    from skycap.settings import Settings


class _ListsByDefault(click.Group):
    """``skycap kinds`` without a verb lists them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_ListsByDefault)
def kinds() -> None:
    """List, pause and resume the kinds of jobs; without a command, list them."""


@kinds.command("list")
@config_option
@json_option
@click.option("--json-schema", is_flag=True, help="Print one JSON Schema for a request of any kind.")
@click.option("--typescript", is_flag=True, help="Print a TypeScript module with the types of all payloads.")
def list_kinds(config: Path | None, as_json: bool, json_schema: bool, typescript: bool) -> None:
    """List the kinds of jobs and their payloads; --json has each payload's JSON Schema."""
    from skycap.installation import load_plugins
    from skycap.published_kinds import published, request_schema

    if as_json + json_schema + typescript > 1:
        raise click.UsageError("give one of --json, --json-schema and --typescript")
    job_types = load_plugins(settings_of(config)).job_types
    if as_json:
        print_json(published(job_types))
    elif json_schema:
        print_json(request_schema(published(job_types)))
    elif typescript:
        click.echo(module(published(job_types)), nl=False)
    else:
        _print_kinds(job_types)


@kinds.command
@click.argument("kind", shell_complete=kind_names)
@click.option("--for", "duration", type=DURATION, metavar="DURATION", help="10m, 2h; else until it is resumed.")
@config_option
@json_option
@audited("kind.pause", target="kind", asked=("duration",))
def pause(kind: str, duration: timedelta | None, config: Path | None, as_json: bool) -> None:
    """Let no worker start a job of KIND; the other kinds of its queue go on."""
    asyncio.run(_switch(settings_of(config), kind, lambda queue, gate: queue.shut(gate, duration)))
    until = end_of(duration)
    answer({"kind": kind, "isPaused": True, "until": until}, f"{kind} is paused{until_text(until)}", as_json=as_json)


@kinds.command
@click.argument("kind", shell_complete=kind_names)
@config_option
@json_option
@audited("kind.resume", target="kind")
def resume(kind: str, config: Path | None, as_json: bool) -> None:
    """Let workers start jobs of KIND again."""
    asyncio.run(_switch(settings_of(config), kind, lambda queue, gate: queue.open(gate)))
    answer({"kind": kind, "isPaused": False}, f"{kind} is not paused", as_json=as_json)


async def _switch(settings: Settings, kind: str, act: Callable[[Queue, str], Awaitable[None]]) -> None:
    job_type = _job_type(settings, kind)
    async with connected_queues(settings) as queues:
        queue = queues.named(job_type.queue)
        for name in job_type.names:
            await act(queue, gate_of_kind(name))


def _job_type(settings: Settings, kind: str) -> JobType:
    from skycap.installation import load_plugins

    registry = load_plugins(settings)
    found = registry.find(kind)
    if found is None:
        known = ", ".join(job_type.kind for job_type in registry.job_types)
        raise click.UsageError(f"no plugin handles {kind!r}; known: {known or 'none'}")
    return found


def _fields(job_type: JobType) -> str:
    fields = job_type.payload.model_fields.items()
    return ", ".join(f"{field.alias or name}{'' if field.is_required() else '?'}" for name, field in fields)


def _print_kinds(job_types: Iterable[JobType]) -> None:
    rows = [
        (
            job_type.kind,
            job_type.queue,
            job_type.payload.payload_spec.priority,
            job_type.plugin,
            _fields(job_type),
        )
        for job_type in job_types
    ]
    print_table(("kind", "queue", "priority", "plugin", "payload"), rows, empty="no plugin handles any kind")
