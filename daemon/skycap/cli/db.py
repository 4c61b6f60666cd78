"""``skycap db``: skycap's own tables; the backend's are never altered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skycap.cli.installation import settings_of
from skycap.cli.options import config_option
from skycap.cli.output import answer, json_option
from skycap.cli.progress import working
from skycap.cli.verbs import Verbs
from skycap.errors import ConfigurationError, Unavailable
from skycap.exits import Exit

if TYPE_CHECKING:
    from skycap.settings import Settings


_VERBS = {
    "migrate": ("skycap.cli.db:migrate_schema", "Create or update the tables in schema skycap."),
    "grant": ("skycap.cli.db:grant", "Let a backend's role enqueue jobs in SQL."),
    "partition": ("skycap.cli.db_partition:partition", "Convert a table of the backend's to one of months, online."),
    "indexes": ("skycap.cli.db_indexes:indexes", "List the indexes that queries need, and create them."),
    "report": ("skycap.cli.db_report:report", "Show what makes the database slow or large."),
}


@click.group(cls=Verbs, verbs=_VERBS)
def db() -> None:
    """Bring skycap's own tables up to date, and keep the backend's fast."""


@click.command("migrate")
@click.option("--check", is_flag=True, help="Only say what is missing; exit 1 if anything is.")
@config_option
@json_option
def migrate_schema(check: bool, config: Path | None, as_json: bool) -> int:
    """Create or update the tables in schema skycap. Safe while daemons run and start."""
    names = asyncio.run(_migrate(settings_of(config), only_check=check))
    word = "missing" if check else "applied"
    lines = [f"{word}: {name}" for name in names] or ["skycap's tables are up to date"]
    answer({word: names}, *lines, as_json=as_json)
    return Exit.NOT_DONE if check and names else Exit.DONE


@click.command
@click.argument("role")
@click.option("--show", is_flag=True, help="Only print the statements.")
@config_option
@json_option
def grant(role: str, show: bool, config: Path | None, as_json: bool) -> None:
    """Let a backend's ROLE enqueue jobs in SQL (skycap.enqueue_v1), and nothing else of skycap's."""
    from skycap.services.outbox import grants_for

    statements = grants_for(role)
    if not show:
        asyncio.run(_grant(settings_of(config), role, statements))
    lines = [f"{statement};" for statement in statements]
    answer({"role": role, "isGranted": not show, "statements": lines}, *lines, as_json=as_json)


async def _grant(settings: Settings, role: str, statements: Sequence[str]) -> None:
    import asyncpg

    from skycap.cli.database import connected_database

    async with connected_database(settings) as database, database.transaction() as transaction:
        try:
            for statement in statements:
                await transaction.execute(statement)
        except asyncpg.UndefinedObjectError as error:
            raise click.UsageError(f"there is no role {role}: create it first, as the backend's own") from error
        except asyncpg.InsufficientPrivilegeError as error:
            raise ConfigurationError(
                f"the database role of skycap may not grant this ({error.args[0]}): run what --show prints as the "
                "role that owns the schema skycap"
            ) from error


async def _migrate(settings: Settings, *, only_check: bool) -> list[str]:
    import asyncpg

    from skycap.services.migrations import migrate, pending

    address = settings.database.direct or settings.require_database()
    try:
        # No prepared statement: a pooler that nobody has told us of would give it to the next one.
        connection = await asyncpg.connect(
            address.dsn, timeout=settings.database.connect_timeout_seconds, statement_cache_size=0
        )
    except (OSError, asyncpg.PostgresError) as error:
        raise Unavailable("database", f"{type(error).__name__}; is it running, and is {address} right?") from error
    try:
        if only_check:
            return await pending(connection)
        async with working("migrating; others that migrate are waited for"):
            return await migrate(connection)
    finally:
        await connection.close()
