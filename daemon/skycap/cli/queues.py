"""``skycap queues``: how full they are, whether they are paused, and how they treat their jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skycap.cli.audited import audited
from skycap.cli.cells import state_cell
from skycap.cli.changes import changes_of, gate_text, names_of_parts, parts_of
from skycap.cli.completing import queue_names
from skycap.cli.documents import document_of
from skycap.cli.installation import connected_queues, settings_of
from skycap.cli.options import config_option
from skycap.cli.output import answer, json_option, print_json, print_table
from skycap.cli.quantities import Typed, count_of, or_none, rate_of, time_kept_of

if TYPE_CHECKING:
    from skycap.engine.queue import Counts, Queue
    from skycap.settings import Settings


@click.group
def queues() -> None:
    """List, pause, resume and change queues."""


@queues.command("list")
@config_option
@json_option
def list_queues(config: Path | None, as_json: bool) -> None:
    """List the queues, how many jobs stand where, and what was changed while they ran."""
    found = asyncio.run(_list(settings_of(config)))
    if as_json:
        print_json([each.document() for each in found])
    else:
        columns = ("queue", "available", "at limits", "later", "running", "discarded", "paused", "changed")
        print_table(columns, [each.row() for each in found])


@queues.command
@click.argument("name", metavar="QUEUE", shell_complete=queue_names)
@config_option
@json_option
@audited("queue.pause", target="name")
def pause(name: str, config: Path | None, as_json: bool) -> None:
    """Let no worker take a job of QUEUE; running ones end."""
    asyncio.run(_switch(settings_of(config), name, paused=True))
    answer({"queue": name, "isPaused": True}, f"{name} is paused", as_json=as_json)


@queues.command
@click.argument("name", metavar="QUEUE", shell_complete=queue_names)
@config_option
@json_option
@audited("queue.resume", target="name")
def resume(name: str, config: Path | None, as_json: bool) -> None:
    """Let workers take jobs of QUEUE again."""
    asyncio.run(_switch(settings_of(config), name, paused=False))
    answer({"queue": name, "isPaused": False}, f"{name} is not paused", as_json=as_json)


@queues.command("set")
@click.argument("name", metavar="QUEUE", shell_complete=queue_names)
@click.option(
    "--fleet-concurrency",
    type=Typed("count", or_none(count_of("fleet_concurrency"))),
    metavar="N|none",
    help="At most so many jobs run at a time, over all daemons.",
)
@click.option(
    "--rate",
    type=Typed("rate", or_none(rate_of)),
    metavar="20/1s|none",
    help="At most so many jobs start in any such time, over all daemons.",
)
@click.option(
    "--max-waiting",
    type=Typed("count", or_none(count_of("max_waiting"))),
    metavar="N|none",
    help="When so many jobs wait, whoever enqueues another one is told to try again later.",
)
@click.option(
    "--keep-finished",
    type=Typed("duration", time_kept_of("keep_finished_seconds")),
    metavar="2h",
    help="How long finished jobs can be looked up.",
)
@click.option(
    "--keep-finished-count",
    type=Typed("count", count_of("keep_finished_count")),
    metavar="N",
    help="How many of them, the newest.",
)
@click.option(
    "--keep-discarded",
    type=Typed("duration", time_kept_of("keep_discarded_seconds")),
    metavar="7d",
    help="How long failed jobs stay in the dead-letter queue.",
)
@click.option(
    "--keep-discarded-count",
    type=Typed("count", count_of("keep_discarded_count")),
    metavar="N",
    help="How many of them, the newest.",
)
@click.option("--order", type=click.Choice(["fifo", "lifo"]), help="Which job of the same priority starts next.")
@config_option
@json_option
@audited(
    "queue.set",
    target="name",
    asked=(
        *("fleet_concurrency", "rate", "max_waiting", "order"),
        *("keep_finished", "keep_finished_count", "keep_discarded", "keep_discarded_count"),
    ),
)
def set_queue(name: str, config: Path | None, as_json: bool, **options: Any) -> None:
    """Change QUEUE for the whole fleet, from now on, over restarts, whatever is configured."""
    changes = {option: value for option, value in options.items() if value is not None}
    if not changes:
        raise click.UsageError("say what to change, such as --rate 20/1s")
    _say(name, asyncio.run(_set(settings_of(config), name, parts_of(changes))), as_json=as_json)


@queues.command
@click.argument("name", metavar="QUEUE", shell_complete=queue_names)
@click.argument("parts", metavar="[NAME]…", nargs=-1)
@config_option
@json_option
@audited("queue.reset", target="name", asked=("parts",))
def reset(name: str, parts: tuple[str, ...], config: Path | None, as_json: bool) -> None:
    """Let QUEUE be as configured again: in what is named (rate, order, …), or in all that was set."""
    _say(name, asyncio.run(_reset(settings_of(config), name, parts)), as_json=as_json)


@dataclass(frozen=True, kw_only=True)
class _Listed:
    """One queue as it stands."""

    name: str
    counts: Counts
    changes: Mapping[str, str]
    gates: Mapping[str, datetime | None]

    @classmethod
    async def of(cls, queue: Queue) -> _Listed:
        return cls(
            name=queue.name,
            counts=await queue.counts(),
            changes=changes_of(await queue.parts_set()),
            gates=await queue.gates_shut(),
        )

    def document(self) -> dict[str, Any]:
        held = [{"gate": gate, "until": until} for gate, until in self.gates.items()]
        return {"queue": self.name, **document_of(self.counts), "changed": dict(self.changes), "held": held}

    def row(self) -> tuple[object, ...]:
        counts = self.counts
        changed = [
            *_in_words(self.changes),
            *(gate_text(gate, until) for gate, until in self.gates.items()),
        ]
        return (
            self.name,
            counts.available,
            counts.waiting_at_limits,
            counts.later,
            counts.running,
            state_cell("discarded", str(counts.discarded)) if counts.discarded else 0,
            state_cell("paused", counts.paused_because or "yes") if counts.is_paused else "no",
            "; ".join(changed) or None,
        )


async def _list(settings: Settings) -> list[_Listed]:
    async with connected_queues(settings) as connected:
        return [await _Listed.of(queue) for queue in connected.by_name.values()]


async def _switch(settings: Settings, name: str, *, paused: bool) -> None:
    async with connected_queues(settings) as connected:
        queue = connected.named(name)
        await (queue.pause() if paused else queue.resume())


async def _set(settings: Settings, name: str, parts: Mapping[str, str]) -> dict[str, str]:
    """All that is changed of the queue afterwards."""
    async with connected_queues(settings) as connected:
        queue = connected.named(name)
        await queue.set(parts)
        return await queue.parts_set()


async def _reset(settings: Settings, name: str, names: Iterable[str]) -> dict[str, str]:
    async with connected_queues(settings) as connected:
        queue = connected.named(name)
        parts = names_of_parts(names, await queue.parts_set())
        if parts:
            await queue.unset(parts)
        return await queue.parts_set()


def _say(name: str, parts: Mapping[str, str], *, as_json: bool) -> None:
    changes = changes_of(parts)
    text = f"{name}: {'; '.join(_in_words(changes)) or 'as configured'}"
    answer({"queue": name, "changed": changes}, text, as_json=as_json)


def _in_words(changes: Mapping[str, str]) -> list[str]:
    return [f"{name} {value}" for name, value in changes.items()]
