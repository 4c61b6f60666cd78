"""``skycap db indexes``: the indexes of the backend's tables that plugins' queries need."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skycap.cli.cells import Cell, state_cell
from skycap.cli.documents import row_document
from skycap.cli.installation import settings_of
from skycap.cli.options import config_option, plugins_dir_option
from skycap.cli.output import json_option, print_json, print_table, size_text
from skycap.cli.progress import is_shown, working
from skycap.cli.quantities import DURATION
from skycap.errors import ConfigurationError
from skycap.exits import Exit
from skycap.index import Index

if TYPE_CHECKING:
    from skycap.services.index_builder import Server, Step
    from skycap.services.indexes import IndexStanding
    from skycap.settings import Settings


_LOCK_TIMEOUT = "5s"
"""To look; whoever is locked out of a table for longer says so."""


@click.command
@click.option("--apply", is_flag=True, help="Create those that are missing, while the backend goes on.")
@click.option("--show", is_flag=True, help="Only print the SQL of those that are missing, for a DBA.")
@click.option("--check", is_flag=True, help="Exit 1 if any is missing.")
@click.option(
    "--lock-timeout",
    default="1m",
    show_default=True,
    type=DURATION,
    metavar="DURATION",
    help="How long a build may wait for a transaction in its way.",
)
@click.option("--attempts", default=5, show_default=True, type=click.IntRange(1, 100), help="Of each index.")
@plugins_dir_option
@config_option
@json_option
def indexes(
    apply: bool,
    show: bool,
    check: bool,
    lock_timeout: timedelta,
    attempts: int,
    plugins_dir: Path | None,
    config: Path | None,
    as_json: bool,
) -> int:
    """List the indexes that plugins' queries need: whether each is there, its size, how often it was used, what for.

    With --apply, those that are missing are created one after the other, by one skycap at a time, without locking
    anybody out. Stopped in the midst of it, give the command again. An index that is not skycap's is never touched.
    """
    from skycap.installation import load_plugins

    if sum((apply, show, check)) > 1:
        raise click.UsageError("--apply, --show and --check: give one of them")
    settings = settings_of(config, {"plugins_dir": plugins_dir} if plugins_dir else None)
    wanted = load_plugins(settings).indexes()
    server = _server(settings)
    if apply:
        found = asyncio.run(_build(server, wanted, lock_timeout=lock_timeout, attempts=attempts))
    else:
        found = asyncio.run(_look(server, wanted))
    _print(found, show=show, as_json=as_json)
    is_done = all(each.state.is_served for each in found)
    return Exit.DONE if is_done or not (apply or check) else Exit.NOT_DONE


def _server(settings: Settings) -> Server:
    from skycap.services.index_builder import Server

    settings.require_database()
    address = settings.database.direct
    if address is None:
        raise ConfigurationError(
            "only a transaction pooler is known (pgbouncer=true), through which no index can be created: set "
            "database.direct_url (DIRECT_URL) to the address of the server itself"
        )
    return Server(
        dsn=address.dsn,
        connect_timeout=timedelta(seconds=settings.database.connect_timeout_seconds),
        schema=address.schema,
    )


async def _look(server: Server, wanted: Sequence[Index]) -> list[IndexStanding]:
    from skycap.services.indexes import standings

    async with server.connected(lock_timeout=_LOCK_TIMEOUT) as connection:
        return await standings(connection, wanted)


async def _build(
    server: Server, wanted: Sequence[Index], *, lock_timeout: timedelta, attempts: int
) -> list[IndexStanding]:
    from skycap.services.index_builder import IndexBuilder
    from skycap.services.indexes import IndexState

    at_work = {IndexState.MISSING, IndexState.INVALID, IndexState.BUILDING}
    found = await _look(server, wanted)
    async with working("looking at the tables") as say:
        builder = IndexBuilder(server, lock_timeout=lock_timeout, attempts=attempts, tell=_Teller(say))
        return [await builder.build(each.index) if each.state in at_work else each for each in found]


class _Teller:
    """Says what is new: in one line of a terminal, or in lines of stderr."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said = ""

    def __call__(self, step: Step) -> None:
        if str(step) == self._said:
            return
        self._said = str(step)
        if is_shown():
            self._say(self._said)
        else:
            click.echo(self._said, err=True)


def _print(found: Sequence[IndexStanding], *, show: bool, as_json: bool) -> None:
    if as_json:
        print_json([row_document(each.document()) | {"statement": each.index.statement} for each in found])
    elif show:
        for each in found:
            _print_statements(each)
    else:
        rows = [
            (each.index.name, each.index.table, _state(each), size_text(each.bytes), each.scans, each.index.purpose)
            for each in found
        ]
        print_table(("index", "table", "state", "size", "scans", "for"), rows, empty="no plugin asks for an index")


def _print_statements(each: IndexStanding) -> None:
    from skycap.services.indexes import IndexState

    if each.state.is_served:
        return
    click.echo(f"-- {each.index.table}: {each.index.purpose}")
    if each.state is IndexState.INVALID:
        click.echo(f"DROP INDEX CONCURRENTLY {each.index.name};")
    if each.state in {IndexState.MISSING, IndexState.INVALID}:
        click.echo(f"{each.index.statement};")
    else:
        click.echo(f"-- {each.index.name}: {_state(each).text}")


def _state(each: IndexStanding) -> Cell:
    return state_cell(each.state, f"{each.state} ({each.note})" if each.note else None)
