"""``skycap db``: skycap's own tables; the backend's are never altered."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from skycap.cli.installation import settings_of
from skycap.cli.options import config_option
from skycap.errors import Unavailable
from skycap.exits import Exit
from skycap.settings import Settings


@click.group
def db() -> None:
    """Bring skycap's own tables up to date."""


@db.command("migrate")
@click.option("--check", is_flag=True, help="Only say what is missing; exit 1 if anything is.")
@config_option
def migrate_schema(check: bool, config: Path | None) -> int:
    """Create or update the tables in schema skycap. Safe while daemons run and start."""
    names = asyncio.run(_migrate(settings_of(config), only_check=check))
    for name in names:
        click.echo(f"{'missing' if check else 'applied'}: {name}")
    if not names:
        click.echo("skycap's tables are up to date")
    return Exit.NOT_DONE if check and names else Exit.DONE


async def _migrate(settings: Settings, *, only_check: bool) -> list[str]:
    import asyncpg

    from skycap.services.migrations import migrate, pending

    address = settings.database.direct or settings.require_database()
    try:
        connection = await asyncpg.connect(address.dsn, timeout=settings.database.connect_timeout_seconds)
    except (OSError, asyncpg.PostgresError) as error:
        raise Unavailable("database", f"{type(error).__name__}; is it running, and is {address} right?") from error
    try:
        return await (pending if only_check else migrate)(connection)
    finally:
        await connection.close()
