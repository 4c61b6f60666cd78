"""``skycap schedules``: what is enqueued by the clock, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skycap.cli.audited import audited
from skycap.cli.cells import state_cell
from skycap.cli.completing import schedule_names
from skycap.cli.installation import connected_queues, settings_of
from skycap.cli.options import config_option
from skycap.cli.output import answer, json_option, print_json, print_table
from skycap.cli.quantities import DURATION, duration_text

if TYPE_CHECKING:
    from skycap.maintenance.schedules import Schedules, ScheduleStatus
    from skycap.settings import Settings


@click.group
def schedules() -> None:
    """List schedules, pause and resume them, and run one now."""


@schedules.command("list")
@config_option
@json_option
def list_schedules(config: Path | None, as_json: bool) -> None:
    """List each schedule's times, its last tick and what became of it, and its next."""
    found = asyncio.run(_list(settings_of(config)))
    if as_json:
        print_json([each.document() for each in found])
    else:
        columns = ("schedule", "when", "zone", "kind", "plugin", "last", "outcome", "next", "standing")
        print_table(columns, [_row(each) for each in found], empty="no plugin has a schedule, and none is configured")


@schedules.command
@click.argument("name", metavar="SCHEDULE", shell_complete=schedule_names)
@click.option("--for", "duration", type=DURATION, metavar="10m", help="Only for so long.")
@config_option
@json_option
@audited("schedule.pause", target="name", asked=("duration",))
def pause(name: str, duration: timedelta | None, config: Path | None, as_json: bool) -> None:
    """Let no tick of SCHEDULE become a job, for the whole fleet, until it is resumed; what passes is not caught up."""
    asyncio.run(_pause(settings_of(config), name, duration))
    seconds = None if duration is None else duration.total_seconds()
    text = f"{name} is paused" + ("" if duration is None else f" for {duration_text(duration)}")
    answer({"schedule": name, "standing": "paused", "forSeconds": seconds}, text, as_json=as_json)


@schedules.command
@click.argument("name", metavar="SCHEDULE", shell_complete=schedule_names)
@config_option
@json_option
@audited("schedule.resume", target="name")
def resume(name: str, config: Path | None, as_json: bool) -> None:
    """Let the ticks of SCHEDULE become jobs again."""
    asyncio.run(_resume(settings_of(config), name))
    answer({"schedule": name, "standing": "on"}, f"{name} is not paused", as_json=as_json)


@schedules.command
@click.argument("name", metavar="SCHEDULE", shell_complete=schedule_names)
@click.option("--tick", is_flag=True, help="Only the latest tick that is due, and only if the fleet has not had it.")
@config_option
@json_option
@audited("schedule.run", target="name", when=lambda options: not options["tick"])
def run(name: str, tick: bool, config: Path | None, as_json: bool) -> None:
    """Enqueue SCHEDULE's job now, beside its ticks; with --tick, do what a daemon's clock would do, once for all."""
    settings = settings_of(config)
    done = asyncio.run(_run_tick(settings, name) if tick else _run(settings, name))
    text = _in_words(name, done) if tick else f"{name} is enqueued as {done['jobId']}"
    answer({"schedule": name, **done}, text, as_json=as_json)


@asynccontextmanager
async def _connected(settings: Settings, name: str | None = None) -> AsyncGenerator[Schedules]:
    """The schedules of the fleet; raises UsageError when ``name`` is none of them."""
    from skycap.installation import load_plugins
    from skycap.maintenance.clock import Clock
    from skycap.maintenance.schedules import Schedules
    from skycap.scheduling import schedules_of

    found = schedules_of(settings, load_plugins(settings))
    if name is not None and name not in {each.name for each in found}:
        known = ", ".join(each.name for each in found)
        raise click.UsageError(f"there is no schedule {name!r}; known: {known or 'none'}")
    async with connected_queues(settings) as connected:
        yield Schedules(Clock(found, connected.by_name, signer=settings.signing.signer))


async def _list(settings: Settings) -> list[ScheduleStatus]:
    async with _connected(settings) as known:
        return await known.list()


async def _pause(settings: Settings, name: str, duration: timedelta | None) -> None:
    async with _connected(settings, name) as known:
        await known.pause(name, duration)


async def _resume(settings: Settings, name: str) -> None:
    async with _connected(settings, name) as known:
        await known.resume(name)


async def _run(settings: Settings, name: str) -> dict[str, Any]:
    async with _connected(settings, name) as known:
        return {"jobId": await known.run(name)}


async def _run_tick(settings: Settings, name: str) -> dict[str, Any]:
    async with _connected(settings, name) as known:
        decided = await known.run_tick(name)
    if decided is None:
        return {"tick": None, "became": None}
    tick, became = decided
    return {"tick": tick, "became": became}


def _in_words(name: str, done: dict[str, Any]) -> str:
    from skycap.engine.schedule_book import Became

    tick, became = done["tick"], done["became"]
    if tick is None:
        return f"{name} has not been due in the last 31 days"
    said = {
        Became.ENQUEUED: "is enqueued",
        Became.KNOWN: "was decided before",
        Became.MISSED: "is skipped: it is late",
        Became.PAUSED: "is skipped: the schedule is paused",
        Became.OVERLAP: "is skipped: the job of an earlier one has not ended",
    }
    return f"{name}: the tick of {tick:%Y-%m-%d %H:%M:%S} UTC {said.get(became, became)}"


def _row(status: ScheduleStatus) -> tuple[object, ...]:
    schedule, until = status.schedule, status.record.paused_until
    return (
        schedule.name,
        schedule.when,
        schedule.zone,
        schedule.kind,
        schedule.plugin or "-",
        status.record.last_tick,
        status.outcome,
        status.next_tick,
        state_cell(
            status.standing,
            status.standing + (f" until {until:%Y-%m-%d %H:%M:%S}" if until and status.standing == "paused" else ""),
        ),
    )
