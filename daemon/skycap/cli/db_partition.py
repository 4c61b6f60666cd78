"""``skycap db partition``: makes a large table of the backend into one of monthly partitions, while it is in use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skycap.cli.documents import document_of
from skycap.cli.installation import settings_of
from skycap.cli.options import config_option
from skycap.cli.output import answer, json_option, print_fields, print_json
from skycap.cli.progress import is_shown, working
from skycap.errors import ConfigurationError, Unavailable
from skycap.exits import Exit

if TYPE_CHECKING:
    from skycap.services.database import Connection
    from skycap.services.partitions import Partitioning, Plan, Standing
    from skycap.settings import Settings

_SHOWN_EVERY = 50


@click.command("partition")
@click.argument("table")
@click.option(
    "--by", "column", metavar="COLUMN", help="The time that a row belongs to: a timestamp that is never NULL."
)
@click.option("--interval", type=click.Choice(["month"]), default="month", expose_value=False, help="Of a partition.")
@click.option("--plan", "verb", flag_value="plan", default=True, help="Only say what would be done (the default).")
@click.option("--apply", "verb", flag_value="apply", help="Do it, or go on where it was interrupted.")
@click.option("--status", "verb", flag_value="status", help="Say how far it is; exit 1 if it was not begun.")
@click.option("--abort", "verb", flag_value="abort", help="Remove what was made so far.")
@click.option("--drop-old", "verb", flag_value="drop-old", help="After the swap: drop the plain table TABLE_old.")
@click.option("--batch", type=click.IntRange(1, 100_000), default=2_000, show_default=True, help="Rows copied at once.")
@click.option("--pause-ms", type=click.IntRange(0, 60_000), default=20, show_default=True, help="Between two batches.")
@config_option
@json_option
def partition(
    table: str,
    column: str | None,
    verb: str,
    batch: int,
    pause_ms: int,
    config: Path | None,
    as_json: bool,
) -> int:
    """Make TABLE a table of monthly partitions, while the backend goes on reading and writing.

    The plain table is kept as TABLE_old until --drop-old. Read --plan first: the backend's primary key changes.
    """
    if verb in {"plan", "apply"} and column is None:
        raise click.UsageError(f"say by which column: skycap db partition {table} --by createdAt --{verb}")
    work = _Work(table=table, column=column or "", batch=batch, pause=timedelta(milliseconds=pause_ms), as_json=as_json)
    return asyncio.run(work.run(verb, settings_of(config)))


class _Work:
    def __init__(self, *, table: str, column: str, batch: int, pause: timedelta, as_json: bool) -> None:
        self._table = table
        self._column = column
        self._batch = batch
        self._pause = pause
        self._as_json = as_json

    async def run(self, verb: str, settings: Settings) -> int:
        from skycap.services.partitions import Partitioning

        async with _connected(settings) as connection:
            partitioning = Partitioning(connection, self._table, batch=self._batch, pause=self._pause)
            if verb == "plan":
                self._show_plan(await partitioning.plan(self._column, now=datetime.now(UTC)))
            elif verb == "apply":
                await self._apply(partitioning)
            elif verb == "status":
                standing = await partitioning.standing()
                self._show(standing)
                return Exit.NOT_DONE if standing is None else Exit.DONE
            elif verb == "abort":
                await partitioning.abort()
                answer({"table": self._table, "aborted": True}, f"{self._table} is as it was", as_json=self._as_json)
            else:
                await partitioning.drop_old()
                name = f"{self._table}_old"
                answer({"dropped": name}, f"{name} is dropped", as_json=self._as_json)
        return Exit.DONE

    async def _apply(self, partitioning: Partitioning) -> None:
        standing, batches = None, 0
        async with working("preparing") as say:
            async for standing in partitioning.apply(self._column, now=datetime.now(UTC)):
                batches += 1
                how_far = f"{standing.step}: {standing.copied:,} rows"
                say(how_far)
                if not is_shown() and not self._as_json and batches % _SHOWN_EVERY == 0:
                    click.echo(how_far, err=True)
        self._show(standing)

    def _show_plan(self, plan: Plan) -> None:
        if self._as_json:
            print_json({**document_of(plan), "forTheBackend": plan.for_the_backend})
            return
        print_fields(
            {
                "table": plan.table,
                "by": plan.column,
                "rows": f"about {plan.rows:,}",
                "partitions": f"{len(plan.partitions)}: {plan.partitions[0]} … {plan.partitions[-1]}",
                "indexes": ", ".join(plan.indexes),
            }
        )
        click.echo("\nwhat changes for the backend:")
        for change in plan.for_the_backend:
            click.echo(f"- {change}")
        click.echo(f"\nskycap db partition {plan.table} --by {plan.column} --apply does it, and goes on if interrupted")

    def _show(self, standing: Standing | None) -> None:
        if self._as_json:
            how_far = {"step": None} if standing is None else document_of(standing)
            print_json({"table": self._table, **how_far})
        elif standing is None:
            click.echo(f"no conversion of {self._table} is under way")
        else:
            print_fields({"table": self._table, "by": standing.column, "step": standing.step, "rows": standing.copied})


@asynccontextmanager
async def _connected(settings: Settings) -> AsyncGenerator[Connection]:
    """To the server itself: what is locked for a session must stay so, and nothing may cut a long statement off."""
    import asyncpg

    from skycap.services.migrations import pending

    address = settings.database.direct
    if address is None:
        settings.require_database()
        raise ConfigurationError("database.direct_url: is needed to partition a table; database.url is a pooler's")
    try:
        connection = await asyncpg.connect(address.dsn, timeout=settings.database.connect_timeout_seconds)
    except (OSError, asyncpg.PostgresError) as error:
        raise Unavailable("database", f"{type(error).__name__}; is it running, and is {address} right?") from error
    try:
        missing = await pending(connection)
        if missing:
            raise ConfigurationError(f"the database lacks {', '.join(missing)}: run `skycap db migrate`")
        yield connection
    finally:
        await connection.close()
