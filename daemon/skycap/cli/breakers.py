"""``skycap breakers``: how the partners' breakers stand, and opening or closing one by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skycap.breaker import BreakerSpec
from skycap.cli.audited import audited
from skycap.cli.cells import state_cell
from skycap.cli.changes import end_of, until_text
from skycap.cli.completing import breaker_names
from skycap.cli.installation import connected_link, settings_of
from skycap.cli.options import config_option
from skycap.cli.output import answer, json_option, print_json, print_table
from skycap.cli.quantities import DURATION, duration_text

if TYPE_CHECKING:
    from skycap.engine.breakers import BreakerStatus, FleetBreakers
    from skycap.settings import Settings


@click.group
def breakers() -> None:
    """List, open, close and reset the breakers of partners."""


@breakers.command("list")
@config_option
@json_option
def list_breakers(config: Path | None, as_json: bool) -> None:
    """List the breakers: how they stand for the whole fleet, and the calls that failed in the last five minutes."""
    specs, found = asyncio.run(_list(settings_of(config)))
    if as_json:
        print_json([status.document(specs[status.name]) for status in found])
    else:
        columns = ("breaker", "state", "failed", "calls", "in a row", "opens after", "since", "tries again in")
        print_table(columns, [_row(status, specs[status.name]) for status in found])


@breakers.command("open")
@click.argument("name", metavar="NAME", shell_complete=breaker_names)
@click.option("--for", "duration", type=DURATION, metavar="DURATION", help="10m, 2h; else until it is reset.")
@config_option
@json_option
@audited("breaker.open", target="name", asked=("duration",))
def open_breaker(name: str, duration: timedelta | None, config: Path | None, as_json: bool) -> None:
    """Let no call to the partner pass: jobs that need it wait."""
    status = asyncio.run(_change(settings_of(config), name, lambda state, spec: state.open(spec, duration)))
    _say(status, f"{name} is open{until_text(end_of(duration)) or ' until it is reset'}", as_json=as_json)


@breakers.command
@click.argument("name", metavar="NAME", shell_complete=breaker_names)
@config_option
@json_option
@audited("breaker.close", target="name")
def close(name: str, config: Path | None, as_json: bool) -> None:
    """Let all calls to the partner pass, however they end, until it is reset."""
    status = asyncio.run(_change(settings_of(config), name, lambda state, spec: state.close(spec)))
    _say(status, f"{name} is closed until it is reset", as_json=as_json)


@breakers.command
@click.argument("name", metavar="NAME", shell_complete=breaker_names)
@config_option
@json_option
@audited("breaker.reset", target="name")
def reset(name: str, config: Path | None, as_json: bool) -> None:
    """Let NAME begin anew: closed, and to open by itself when calls fail."""
    status = asyncio.run(_change(settings_of(config), name, lambda state, spec: state.reset(spec)))
    _say(status, f"{name} is closed, and opens by itself", as_json=as_json)


@asynccontextmanager
async def _state(settings: Settings) -> AsyncGenerator[FleetBreakers]:
    from skycap.engine.breakers import FleetBreakers

    async with connected_link(settings) as link:
        yield FleetBreakers(link)


async def _list(settings: Settings) -> tuple[dict[str, BreakerSpec], list[BreakerStatus]]:
    from skycap.installation import breaker_specs, load_plugins

    specs = breaker_specs(settings, load_plugins(settings))
    async with _state(settings) as state:
        found = await state.statuses(specs)
    return specs, [found[name] for name in sorted(found)]


async def _change(
    settings: Settings, name: str, act: Callable[[FleetBreakers, BreakerSpec], Awaitable[None]]
) -> BreakerStatus:
    from skycap.installation import breaker_specs, load_plugins

    specs = breaker_specs(settings, load_plugins(settings))
    if name not in specs:
        raise click.UsageError(f"there is no breaker {name!r}; known: {', '.join(sorted(specs))}")
    async with _state(settings) as state:
        await act(state, specs[name])
        return await state.status(specs[name])


def _say(status: BreakerStatus, text: str, *, as_json: bool) -> None:
    answer({"breaker": status.name, "state": status.state, "forced": status.forced}, text, as_json=as_json)


def _row(status: BreakerStatus, spec: BreakerSpec) -> tuple[object, ...]:
    left = status.tries_again_in
    return (
        status.name,
        state_cell(status.state, f"{status.state}{', by hand' if status.forced else ''}"),
        f"{100 * status.failure_rate:.1f} %",
        status.calls,
        status.failures,
        spec.opens_after,
        status.since,
        None if left is None else duration_text(timedelta(seconds=round(left.total_seconds()))),
    )
