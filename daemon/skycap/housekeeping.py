"""Housekeeping: skycap's own plugin: keeps its tables small and statistics fresh, and reports to the admin.

What waits in the outbox and what it keeps is up to the relay; finished jobs have their retention in Redis.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from skycap.context import Context, Database
from skycap.errors import QueryTimeout, Unavailable
from skycap.payload import Payload
from skycap.plugin import Plugin

if TYPE_CHECKING:
    from skycap.services.database_report import DatabaseReport

_BATCH = 1000

_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '1s'"

_HAS_TABLES = "SELECT to_regclass('skycap.mail_ledger') IS NOT NULL"

# The hash of the recipient and what became of the mail stay: without them, a mail could be sent a second time.
_BLANK_MAILS = """
    WITH blanked AS (
        UPDATE skycap.mail_ledger SET smtp_text = NULL, note = NULL, locale = NULL, verp_token = NULL
        WHERE key IN (
            SELECT key FROM skycap.mail_ledger
            WHERE state IN ('sent', 'failed', 'suppressed') AND updated_at < now() - $1::interval
                AND num_nonnulls(smtp_text, note, locale, verp_token) > 0
            LIMIT $2 FOR UPDATE SKIP LOCKED
        ) RETURNING 1
    )
    SELECT count(*) FROM blanked
"""
# What is in doubt, or under way, is for an admin to settle, however old it is.
_FORGET_MAILS = """
    WITH forgotten AS (
        DELETE FROM skycap.mail_ledger WHERE key IN (
            SELECT key FROM skycap.mail_ledger
            WHERE state IN ('sent', 'failed', 'suppressed') AND updated_at < now() - $1::interval
            LIMIT $2 FOR UPDATE SKIP LOCKED
        ) RETURNING 1
    )
    SELECT count(*) FROM forgotten
"""
_FORGET_LINKS = """
    WITH forgotten AS (
        DELETE FROM skycap.unsubscribe_links WHERE token_hash IN (
            SELECT token_hash FROM skycap.unsubscribe_links WHERE created_at < now() - $1::interval
            LIMIT $2 FOR UPDATE SKIP LOCKED
        ) RETURNING 1
    )
    SELECT count(*) FROM forgotten
"""
_FORGET_SUPPRESSIONS = """
    WITH forgotten AS (
        DELETE FROM skycap.mail_suppressions WHERE recipient_hash IN (
            SELECT recipient_hash FROM skycap.mail_suppressions WHERE expires_at < now() - $1::interval
            LIMIT $2 FOR UPDATE SKIP LOCKED
        ) RETURNING 1
    )
    SELECT count(*) FROM forgotten
"""

# Autovacuum comes after a tenth of a table has changed; where it has not come for a day, it is off or far behind.
_STALE = """
    SELECT format('%I.%I', s.schemaname, s.relname) AS table
    FROM pg_stat_user_tables AS s JOIN pg_class AS c ON c.oid = s.relid
    WHERE s.n_mod_since_analyze > 10000 + s.n_live_tup / 5
        AND coalesce(greatest(s.last_analyze, s.last_autoanalyze), '-infinity') < now() - INTERVAL '1 day'
        AND pg_has_role(c.relowner, 'USAGE')
    ORDER BY s.n_mod_since_analyze DESC
"""

_MAILS = """
    SELECT count(*) FILTER (WHERE state = 'failed' AND updated_at > now() - INTERVAL '1 day') AS failed,
           count(*) FILTER (WHERE state = 'unknown') AS unknown
    FROM skycap.mail_ledger WHERE state IN ('failed', 'unknown')
"""

Days = Annotated[float, Field(ge=0, le=36_500)]
Address = Annotated[str, Field(pattern=r"^[^@\s<>,]+@[^@\s<>,]+$", max_length=254)]


class HousekeepingSettings(BaseModel):
    """``[plugins.housekeeping]``. How long skycap's own records are kept, in days; 0 = for ever.

    ``mail_details_days``: the server's reply, notes and return address of a mail that has ended. The hash of its
    recipient and what became of it are kept for ``mail_days``, after which the same mail could be sent again. Links to
    unsubscribe stop working after ``unsubscribe_links_days``.

    ``report_to`` get a mail every morning: queues, dead letters, mails that failed, and the database's report. Its
    template, operations/report, comes with the travel plugins, and is in English.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mail_details_days: Days = 90
    mail_days: Days = 730
    unsubscribe_links_days: Days = 1095
    report_to: tuple[Address, ...] = Field(default=(), repr=False)


class TidyRecords(Payload, kind="tidy-records", queue="scheduled"):
    """Delete what skycap's own tables need not keep any more."""


class AnalyzeStaleTables(Payload, kind="analyze-stale-tables", queue="scheduled"):
    """ANALYZE tables that have changed much, and to which autovacuum has not come."""


class MakeDatabaseReport(Payload, kind="database-report", queue="scheduled"):
    """Look for what makes the database slow or large, and mail it to whom it concerns."""


plugin = Plugin("housekeeping", settings=HousekeepingSettings)

plugin.schedule("30 2 * * *", TidyRecords())
plugin.schedule("15 3 * * *", AnalyzeStaleTables())
plugin.schedule("0 6 * * *", MakeDatabaseReport())


@plugin.job(timeout=timedelta(hours=1))
async def tidy_records(ctx: Context[HousekeepingSettings], payload: TidyRecords) -> dict[str, int]:
    del payload
    if not await ctx.db.fetchval(_HAS_TABLES):
        return {}
    settings = ctx.settings
    return {
        "mailsForgotten": await _in_batches(ctx.db, _FORGET_MAILS, settings.mail_days),
        "mailsBlanked": await _in_batches(ctx.db, _BLANK_MAILS, settings.mail_details_days),
        "linksForgotten": await _in_batches(ctx.db, _FORGET_LINKS, settings.unsubscribe_links_days),
        "suppressionsForgotten": await _in_batches(ctx.db, _FORGET_SUPPRESSIONS, settings.mail_details_days),
    }


@plugin.job(timeout=timedelta(hours=1))
async def analyze_stale_tables(
    ctx: Context[HousekeepingSettings], payload: AnalyzeStaleTables
) -> Mapping[str, list[str]]:
    del payload
    done: dict[str, list[str]] = {"analyzed": [], "skipped": []}
    for row in await ctx.db.fresh.fetch(_STALE):
        done["analyzed" if await _analyze(ctx, row["table"]) else "skipped"].append(row["table"])
    return done


@plugin.job(timeout=timedelta(minutes=10))
async def make_database_report(ctx: Context[HousekeepingSettings], payload: MakeDatabaseReport) -> dict[str, Any]:
    """Its result is short: the report itself is `skycap db report`."""
    del payload
    from skycap.services.database_report import database_report

    report = await database_report(ctx.db)
    if ctx.settings.report_to:
        await _mail(ctx, report)
    return {
        "slowStatements": len(report.slow_statements),
        "sequentialScans": len(report.sequential_scans),
        "unusedIndexes": len(report.unused_indexes),
        "duplicateIndexes": len(report.duplicate_indexes),
        "bloated": len(report.bloat),
        "staleTables": len(report.stale_tables),
        "databaseBytes": report.bytes,
    }


async def _mail(ctx: Context[HousekeepingSettings], report: DatabaseReport) -> None:
    day = ctx.now().date()
    queues = await ctx.queues()
    mails = await ctx.db.fetchrow(_MAILS) if await ctx.db.fetchval(_HAS_TABLES) else None
    for address in ctx.settings.report_to:
        await ctx.mailer.send(
            address,
            "operations/report",
            key=f"operations-report:{day}:{address}",
            locale="en",
            day=day,
            report=report,
            queues=queues,
            failed_mails=mails["failed"] if mails else 0,
            unknown_mails=mails["unknown"] if mails else 0,
        )


async def _in_batches(database: Database, statement: str, days: float) -> int:
    total = 0
    while days:
        async with database.transaction() as transaction:
            await transaction.execute(_LOCK_TIMEOUT)
            count = int(await transaction.fetchval(statement, timedelta(days=days), _BATCH))
        total += count
        if count < _BATCH:
            break
    return total


async def _analyze(ctx: Context[Any], table: str) -> bool:
    """False when somebody, such as autovacuum, is at the table, or when it takes too long."""
    try:
        async with ctx.db.transaction() as transaction:
            await transaction.execute(_LOCK_TIMEOUT)
            await transaction.execute(f"ANALYZE {table}")
    except (QueryTimeout, Unavailable) as error:
        ctx.log.info("a table is not analysed now", table=table, reason=str(error))
        return False
    return True
