"""``skycap db report``: what makes the database slow or large, and what could be done about it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skycap.cli.documents import document_of
from skycap.cli.failures import told_address
from skycap.cli.installation import settings_of
from skycap.cli.options import config_option
from skycap.cli.output import json_option, print_fields, print_json, print_table, size_text

if TYPE_CHECKING:
    from skycap.services.database_report import DatabaseReport
    from skycap.settings import Settings


@click.command
@config_option
@json_option
def report(config: Path | None, as_json: bool) -> None:
    """Show slow statements, tables that lack an index, indexes that nobody uses, bloat, and what is overdue.

    It reads PostgreSQL's statistics, and changes nothing. Sees more as a role with pg_read_all_stats.
    """
    found = asyncio.run(_look(settings_of(config)))
    if as_json:
        print_json(document_of(found))
    else:
        _print(found)


async def _look(settings: Settings) -> DatabaseReport:
    from skycap.services.database import DatabasePool
    from skycap.services.database_report import database_report

    address = settings.database.direct or settings.require_database()
    database = DatabasePool(
        dsn=address.dsn,
        size=1,
        connect_timeout=timedelta(seconds=settings.database.connect_timeout_seconds),
        statement_cache_size=0 if address.pgbouncer else 100,
    )
    try:
        with told_address("database", address):
            return await database_report(database)
    finally:
        await database.close()


def _print(found: DatabaseReport) -> None:
    used = found.transaction_ids / found.transaction_ids_limit
    oldest = found.oldest_transaction
    print_fields(
        {
            "database": f"{found.name} on PostgreSQL {found.version}, {size_text(found.bytes)}",
            "statistics since": found.statistics_since or "they began",
            "transaction ids": f"{found.transaction_ids:,}, {used:.0%} of what forces a vacuum",
            "oldest transaction": None
            if oldest is None
            else f"{_age(oldest.age)}, session {oldest.pid} ({oldest.application or '?'}), {oldest.state}",
        }
    )
    _part(
        "slow statements, by their total time",
        ("fingerprint", "calls", "mean ms", "total ms", "statement"),
        [
            (each.fingerprint, each.calls, f"{each.mean_ms:,.2f}", f"{each.total_ms:,.0f}", each.statement)
            for each in found.slow_statements
        ],
    )
    _part(
        "large tables that are read from end to end: maybe an index is missing",
        ("table", "rows", "scans", "rows a scan", "scans by index"),
        [(each.table, each.rows, each.scans, each.rows_per_scan, each.index_scans) for each in found.sequential_scans],
    )
    _part(
        "indexes that were never used",
        ("index", "table", "size"),
        [(each.index, each.table, size_text(each.bytes)) for each in found.unused_indexes],
    )
    _part(
        "indexes beside which another does the same",
        ("index", "table", "size", "beside"),
        [(each.index, each.table, size_text(each.bytes), each.beside) for each in found.duplicate_indexes],
    )
    _part(
        "bloat: REINDEX CONCURRENTLY an index, pg_repack or VACUUM FULL (which locks) a table",
        ("relation", "size", "wasted", "known by"),
        [(each.relation, size_text(each.bytes), size_text(each.wasted_bytes), each.method) for each in found.bloat],
    )
    _part(
        "tables that changed much since they were analysed or vacuumed",
        ("table", "rows", "dead", "changed", "analysed", "vacuumed"),
        [
            (each.table, each.rows, each.dead_rows, each.changed_rows, each.analyzed_at, each.vacuumed_at)
            for each in found.stale_tables
        ],
    )
    _part(
        "skycap's own tables",
        ("table", "size", "rows"),
        [(each.table, size_text(each.bytes), each.rows) for each in found.own_tables],
    )
    for each in found.hidden:
        click.echo(f"\nnot seen: {each}")


def _part(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    if rows:
        click.echo(f"\n{title}")
        print_table(columns, rows)


def _age(age: timedelta) -> timedelta:
    return timedelta(seconds=round(age.total_seconds()))
