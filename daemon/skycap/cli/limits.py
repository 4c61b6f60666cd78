"""``skycap limits``: what they allow, in all queues that use them, and the values that are held back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skycap.cli.audited import audited
from skycap.cli.changes import LIMIT_PART, end_of, figures_of, figures_text, until_text
from skycap.cli.completing import limit_names
from skycap.cli.installation import connected_link, settings_of
from skycap.cli.options import config_option
from skycap.cli.output import answer, json_option, print_json, print_table
from skycap.cli.quantities import DURATION, NoBound, Typed, count_of, or_none, rate_of, rate_text
from skycap.engine.policy import SHARED, Figures, Limit, Rate

if TYPE_CHECKING:
    from skycap.engine.queue import Queue
    from skycap.settings import Settings


@click.group
def limits() -> None:
    """List and change limits, and hold back what they count."""


@limits.command("list")
@config_option
@json_option
def list_limits(config: Path | None, as_json: bool) -> None:
    """List the limits by name: what they allow now, where, and what is held back."""
    found = asyncio.run(_list(settings_of(config)))
    if as_json:
        print_json([each.document() for each in found])
    else:
        columns = ("limit", "counts by", "rate", "at a time", "queues", "changed", "held")
        print_table(columns, [each.row() for each in found], empty="no limit is configured")


@limits.command("set")
@click.argument("name", metavar="LIMIT", shell_complete=limit_names)
@click.option("--rate", type=Typed("rate", or_none(rate_of)), metavar="5/1s|none", help="So many starts in a time.")
@click.option(
    "--concurrency",
    type=Typed("count", or_none(count_of("fleet_concurrency"))),
    metavar="N|none",
    help="So many jobs at a time.",
)
@config_option
@json_option
@audited("limit.set", target="name", asked=("rate", "concurrency"))
def set_limit(
    name: str, rate: Rate | NoBound | None, concurrency: int | NoBound | None, config: Path | None, as_json: bool
) -> None:
    """Change what LIMIT allows for the whole fleet, from now on, over restarts, whatever is configured."""
    if rate is None and concurrency is None:
        raise click.UsageError("say what to change: --rate 5/1s, --concurrency 2 or both")
    figures = asyncio.run(_set(settings_of(config), name, rate, concurrency))
    answer({"limit": name, **_document(figures)}, f"{name}: {figures_text(figures)}", as_json=as_json)


@limits.command
@click.argument("name", metavar="LIMIT", shell_complete=limit_names)
@config_option
@json_option
@audited("limit.reset", target="name")
def reset(name: str, config: Path | None, as_json: bool) -> None:
    """Let LIMIT allow what is configured again."""
    figures = asyncio.run(_reset(settings_of(config), name))
    answer({"limit": name, **_document(figures)}, f"{name}: {figures_text(figures)}", as_json=as_json)


@limits.command
@click.argument("gate", metavar="LIMIT[:VALUE]", shell_complete=limit_names)
@click.option("--for", "duration", type=DURATION, metavar="DURATION", help="5m, 2h; else until it is released.")
@config_option
@json_option
@audited("limit.hold", target="gate", asked=("duration",))
def hold(gate: str, duration: timedelta | None, config: Path | None, as_json: bool) -> None:
    """Let no job start that LIMIT counts, or counts by VALUE; others go on."""
    held = asyncio.run(_switch(settings_of(config), gate, lambda queue, gate: queue.shut(gate, duration)))
    until = end_of(duration)
    answer({"gate": held, "isHeld": True, "until": until}, f"{held} is held{until_text(until)}", as_json=as_json)


@limits.command
@click.argument("gate", metavar="LIMIT[:VALUE]", shell_complete=limit_names)
@config_option
@json_option
@audited("limit.release", target="gate")
def release(gate: str, config: Path | None, as_json: bool) -> None:
    """Let such jobs start again."""
    released = asyncio.run(_switch(settings_of(config), gate, lambda queue, gate: queue.open(gate)))
    answer({"gate": released, "isHeld": False}, f"{released} is not held", as_json=as_json)


@dataclass(frozen=True, kw_only=True)
class _Used:
    """A limit, and the queues with jobs that it counts."""

    limit: Limit
    queues: tuple[Queue, ...]

    @property
    def name_in_redis(self) -> str:
        return f"{SHARED if self.limit.shared else ''}{self.limit.name}"

    @property
    def part(self) -> str:
        return f"{LIMIT_PART}{self.name_in_redis}"

    async def set_figures(self) -> Figures | None:
        """What was set while running; None: nothing."""
        for queue in self.queues:
            parts = await queue.parts_set()
            if self.part in parts:
                return figures_of(json.loads(parts[self.part]))
        return None

    async def held(self) -> dict[str, datetime | None]:
        """The values that are held in any queue, '' for the limit as a whole, and until when."""
        gates = [gate for queue in self.queues for gate in (await queue.gates_shut()).items()]
        split = [(*gate.partition(":"), until) for gate, until in gates]
        return {value: until for name, _, value, until in split if name == self.name_in_redis}

    def gate(self, value: str | None) -> str:
        """The gate for a value of what the limit counts by, or for all; raises UsageError when there is none."""
        name, key = self.limit.name, self.limit.key
        if value is None:
            return self.name_in_redis
        if key is None:
            raise click.UsageError(f"{name} counts all jobs as one; leave out :{value}")
        if not value:
            raise click.UsageError(
                f"{name} counts by {key}; say which value, as in {name}:VALUE, or leave out the colon"
            )
        return f"{self.name_in_redis}:{_shaped(value, self.limit.shape)}"


@dataclass(frozen=True, kw_only=True)
class _Listed:
    """One limit as it stands."""

    limit: Limit
    queues: list[str]
    changed: Figures | None
    held: dict[str, datetime | None]

    @property
    def figures(self) -> Figures:
        return self.limit.figures if self.changed is None else self.changed

    @property
    def counts_by(self) -> str | None:
        return "|".join(part for part in (self.limit.key, self.limit.shape) if part) or None

    def document(self) -> dict[str, Any]:
        return {
            "limit": self.limit.name,
            "key": self.counts_by,
            **_document(self.figures),
            "own": {value: _document(figures) for value, figures in self.limit.own.items()},
            "queues": self.queues,
            "changed": self.changed is not None,
            "held": [{"value": value or None, "until": until} for value, until in self.held.items()],
        }

    def row(self) -> tuple[object, ...]:
        held = [f"{value or 'all'}{until_text(until)}" for value, until in self.held.items()]
        return (
            self.limit.name,
            self.counts_by,
            *_document(self.figures).values(),
            ", ".join(self.queues),
            "yes" if self.changed is not None else "no",
            "; ".join(held) or None,
        )


@asynccontextmanager
async def _used(settings: Settings) -> AsyncGenerator[dict[str, _Used]]:
    """The limits by name that jobs of some queue must pass."""
    from skycap.installation import load_plugins, queues

    async with connected_link(settings) as link:
        found: dict[str, _Used] = {}
        for queue in queues(link, settings, load_plugins(settings)):
            for limit in queue.policy.limits:
                if limit.name in settings.limits:  # the others are of kinds, which have their own commands
                    used = found.get(limit.name, _Used(limit=limit, queues=()))
                    found[limit.name] = replace(used, queues=(*used.queues, queue))
        yield found


def _named(name: str, used: dict[str, _Used], settings: Settings) -> _Used:
    if name in used:
        return used[name]
    if name in settings.limits:
        raise click.UsageError(
            f"no queue and no kind has {name} in its limits, so that it limits nothing; add it there"
        )
    raise click.UsageError(f"there is no limit {name!r}; configured: {', '.join(settings.limits) or 'none'}")


async def _list(settings: Settings) -> list[_Listed]:
    async with _used(settings) as used:
        return [
            _Listed(
                limit=each.limit,
                queues=[queue.name for queue in each.queues],
                changed=await each.set_figures(),
                held=await each.held(),
            )
            for each in used.values()
        ]


async def _set(
    settings: Settings, name: str, rate: Rate | NoBound | None, concurrency: int | NoBound | None
) -> Figures:
    """What the limit allows then; what is not given stays as it is."""
    async with _used(settings) as used:
        limit = _named(name, used, settings)
        figures = await limit.set_figures() or limit.limit.figures
        if rate is not None:
            figures = replace(figures, rate=None if isinstance(rate, NoBound) else rate)
        if concurrency is not None:
            figures = replace(figures, concurrency=None if isinstance(concurrency, NoBound) else concurrency)
        for queue in limit.queues:
            await queue.set({limit.part: json.dumps(figures.document())})
        return figures


async def _reset(settings: Settings, name: str) -> Figures:
    async with _used(settings) as used:
        limit = _named(name, used, settings)
        for queue in limit.queues:
            # Under both names: it may have been shared by several queues when it was set, or not yet.
            await queue.unset([f"{LIMIT_PART}{name}", f"{LIMIT_PART}{SHARED}{name}"])
        return limit.limit.figures


async def _switch(settings: Settings, text: str, act: Callable[[Queue, str], Awaitable[None]]) -> str:
    """The gate that was shut or opened, as one would type it."""
    name, colon, value = text.partition(":")
    async with _used(settings) as used:
        limit = _named(name, used, settings)
        gate = limit.gate(value if colon else None)
        for queue in limit.queues:
            await act(queue, gate)
        return gate.removeprefix(SHARED)


def _shaped(value: str, shape: str | None) -> str:
    """As the limit makes of a job's value what it counts by."""
    if shape == "domain":
        value = value.rpartition("@")[2]
    return value.lower() if shape else value


def _document(figures: Figures) -> dict[str, Any]:
    return {"rate": rate_text(figures.rate) if figures.rate else None, "concurrency": figures.concurrency}
