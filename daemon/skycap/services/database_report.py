"""DatabaseReport: what makes the database slow or large. It reads statistics, and no row of anybody's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from skycap.context import Database

MOST_LINES = 20
"""Of each part; the worst come first."""

_LARGE_ROWS = 10_000
"""Of a smaller table it is right to read all rows."""

_LARGE_BYTES = 1024 * 1024
"""Less is not worth anybody's time."""

_MEASURED_BYTES = 1024 * 1024 * 1024
"""pgstattuple reads what it measures: of larger tables the estimate must do."""

_SOURCES = """
    SELECT current_database() AS name, current_setting('server_version') AS version,
           pg_database_size(current_database()) AS bytes, d.stats_reset AS statistics_since,
           pg_has_role('pg_read_all_stats', 'USAGE') AS sees_all,
           (SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries') AS libraries,
           (SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'pg_stat_statements')
               AS statements,
           (SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'pgstattuple') AS measures,
           (SELECT max(age(datfrozenxid)) FROM pg_database WHERE datname = current_database()) AS transaction_ids,
           current_setting('autovacuum_freeze_max_age')::bigint AS transaction_ids_limit
    FROM pg_stat_database AS d WHERE d.datname = current_database()
"""
_UNUSED = """
    SELECT s.schemaname || '.' || s.relname AS table, s.indexrelname AS index, pg_relation_size(s.indexrelid) AS bytes
    FROM pg_stat_user_indexes AS s JOIN pg_index AS i ON i.indexrelid = s.indexrelid
    WHERE s.idx_scan = 0 AND NOT i.indisunique AND NOT i.indisexclusion
        AND NOT EXISTS (SELECT FROM pg_constraint AS c WHERE c.conindid = i.indexrelid)
        AND pg_relation_size(s.indexrelid) >= $2
    ORDER BY bytes DESC, index LIMIT $1
"""
# The same keys in the same order, or the first ones of another index: what the shorter finds, the longer finds as well.
_DUPLICATES = """
    SELECT a.indrelid::regclass::text AS table, a.indexrelid::regclass::text AS index,
           min(b.indexrelid::regclass::text) AS beside, pg_relation_size(a.indexrelid) AS bytes
    FROM pg_index AS a
    JOIN pg_class AS ac ON ac.oid = a.indexrelid
    JOIN pg_index AS b ON b.indrelid = a.indrelid AND b.indexrelid <> a.indexrelid
    JOIN pg_class AS bc ON bc.oid = b.indexrelid AND bc.relam = ac.relam
    WHERE a.indrelid IN (SELECT relid FROM pg_stat_user_tables)
        AND NOT a.indisunique AND NOT EXISTS (SELECT FROM pg_constraint AS c WHERE c.conindid = a.indexrelid)
        AND b.indisvalid AND a.indnatts = a.indnkeyatts AND a.indnkeyatts <= b.indnkeyatts
        AND starts_with(b.indkey::text || ' ', a.indkey::text || ' ')
        AND starts_with(b.indclass::text || ' ', a.indclass::text || ' ')
        AND starts_with(b.indcollation::text || ' ', a.indcollation::text || ' ')
        AND starts_with(b.indoption::text || ' ', a.indoption::text || ' ')
        AND a.indexprs IS NULL AND b.indexprs IS NULL
        AND pg_get_expr(a.indpred, a.indrelid) IS NOT DISTINCT FROM pg_get_expr(b.indpred, b.indrelid)
        AND (a.indkey <> b.indkey OR b.indisunique OR a.indexrelid > b.indexrelid)
    GROUP BY a.indrelid, a.indexrelid
    ORDER BY bytes DESC, index LIMIT $1
"""
_SEQUENTIAL = """
    SELECT schemaname || '.' || relname AS table, n_live_tup AS rows, seq_scan AS scans,
           seq_tup_read / seq_scan AS rows_per_scan, coalesce(idx_scan, 0) AS index_scans
    FROM pg_stat_user_tables
    WHERE n_live_tup >= $2 AND seq_scan > 0 AND seq_tup_read / seq_scan >= $2
    ORDER BY seq_tup_read DESC LIMIT $1
"""
# A row has a header of 23 bytes, a pointer of 4, and begins at a multiple of 8; a page has a header of 24.
_TABLE_BLOAT = """
    SELECT t.schemaname || '.' || t.relname AS relation, c.oid::bigint AS id, pg_relation_size(c.oid) AS bytes,
           (ceil(c.reltuples * (4 + 8 * ceil((23 + w.width) / 8)) / (block.size - 24)) * block.size)::bigint AS needed
    FROM pg_stat_user_tables AS t
    JOIN pg_class AS c ON c.oid = t.relid
    CROSS JOIN (SELECT current_setting('block_size')::float8 AS size) AS block
    JOIN LATERAL (
        SELECT sum((1 - s.null_frac) * s.avg_width)::float8 AS width FROM pg_stats AS s
        WHERE s.schemaname = t.schemaname AND s.tablename = t.relname AND NOT s.inherited
    ) AS w ON w.width IS NOT NULL
    WHERE c.reltuples >= 0 AND pg_relation_size(c.oid) >= $1
"""
# An entry of a B-tree has a header of 8 bytes and a pointer of 4; pages are filled to nine tenths when it is built.
_INDEX_BLOAT = """
    SELECT t.schemaname || '.' || ic.relname AS relation, pg_relation_size(i.indexrelid) AS bytes,
           (ceil(ic.reltuples * (4 + 8 * ceil((8 + w.width) / 8)) / (0.9 * (block.size - 40))) * block.size)::bigint
               AS needed
    FROM pg_stat_user_tables AS t
    JOIN pg_index AS i ON i.indrelid = t.relid
    JOIN pg_class AS ic ON ic.oid = i.indexrelid
    JOIN pg_am AS am ON am.oid = ic.relam AND am.amname = 'btree'
    CROSS JOIN (SELECT current_setting('block_size')::float8 AS size) AS block
    JOIN LATERAL (
        SELECT sum((1 - s.null_frac) * s.avg_width)::float8 AS width, count(*) AS known
        FROM pg_attribute AS a
        JOIN pg_stats AS s ON s.schemaname = t.schemaname AND s.tablename = t.relname AND s.attname = a.attname
        WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[]) AND NOT s.inherited
    ) AS w ON w.known = i.indnatts
    WHERE ic.reltuples >= 0 AND pg_relation_size(i.indexrelid) >= $1
"""
_STALE = """
    SELECT schemaname || '.' || relname AS table, n_live_tup AS rows, n_dead_tup AS dead_rows,
           n_mod_since_analyze AS changed_rows, greatest(last_analyze, last_autoanalyze) AS analyzed_at,
           greatest(last_vacuum, last_autovacuum) AS vacuumed_at
    FROM pg_stat_user_tables
    WHERE n_mod_since_analyze > 1000 + n_live_tup / 5 OR n_dead_tup > 1000 + n_live_tup / 4
    ORDER BY greatest(n_mod_since_analyze, n_dead_tup) DESC LIMIT $1
"""
_OLDEST = """
    SELECT pid, application_name AS application, state, clock_timestamp() - xact_start AS age
    FROM pg_stat_activity
    WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid() AND backend_type = 'client backend'
    ORDER BY xact_start LIMIT 1
"""
_OWN = """
    SELECT relname AS table, pg_total_relation_size(relid) AS bytes, n_live_tup AS rows
    FROM pg_stat_user_tables WHERE schemaname = 'skycap' ORDER BY bytes DESC, relname
"""
# Values are $1 in these; other kinds of statements may hold passwords.
_STATEMENTS = """
    SELECT to_hex(queryid) AS fingerprint, sum(calls)::bigint AS calls,
           sum(total_exec_time) / sum(calls) AS mean_ms, sum(total_exec_time) AS total_ms,
           left(regexp_replace(min(query), '\\s+', ' ', 'g'), 200) AS statement
    FROM {schema}.pg_stat_statements
    WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND query ~* '^\\s*(select|insert|update|delete|with|merge)\\y' AND calls > 0
    GROUP BY queryid ORDER BY total_ms DESC LIMIT $1
"""

_NO_EXTENSION = "slow statements: run CREATE EXTENSION pg_stat_statements in this database"
_NO_LIBRARY = (
    "slow statements: set shared_preload_libraries = 'pg_stat_statements' in postgresql.conf, restart PostgreSQL, and "
    "run CREATE EXTENSION pg_stat_statements in this database"
)
_NOT_ALL = "other roles' sessions and statements: GRANT pg_read_all_stats to the role of database.url"


@dataclass(frozen=True, kw_only=True)
class UnusedIndex:
    """Never read since statistics began; on replicas it may have been, which only they know."""

    table: str
    index: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class DuplicateIndex:
    """What it finds, the one ``beside`` it finds as well."""

    table: str
    index: str
    beside: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class SequentialScans:
    """A large table that is read from end to end."""

    table: str
    rows: int
    scans: int
    rows_per_scan: int
    index_scans: int


@dataclass(frozen=True, kw_only=True)
class Bloat:
    """``method`` says whether ``wasted_bytes`` was measured by pgstattuple or is an estimate from statistics."""

    relation: str
    bytes: int
    wasted_bytes: int
    method: str


@dataclass(frozen=True, kw_only=True)
class SlowStatement:
    """``fingerprint`` is pg_stat_statements' queryid, in hex; the statement's values are left out."""

    fingerprint: str
    calls: int
    mean_ms: float
    total_ms: float
    statement: str


@dataclass(frozen=True, kw_only=True)
class StaleTable:
    """Too much has changed since the last ANALYZE or VACUUM."""

    table: str
    rows: int
    dead_rows: int
    changed_rows: int
    analyzed_at: datetime | None
    vacuumed_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class OldestTransaction:
    """Nothing that was deleted since it began can be vacuumed."""

    pid: int
    application: str
    state: str
    age: timedelta


@dataclass(frozen=True, kw_only=True)
class OwnTable:
    """A table of the schema skycap, with its indexes; ``rows`` is an estimate."""

    table: str
    bytes: int
    rows: int


@dataclass(frozen=True, kw_only=True)
class DatabaseReport:
    """``hidden`` says what this role may not see, or this server does not know, and how to change that.

    ``transaction_ids`` are those used since the oldest row was frozen; at ``transaction_ids_limit`` the server forces a
    vacuum of whole tables.
    """

    name: str
    version: str
    bytes: int
    statistics_since: datetime | None
    transaction_ids: int
    transaction_ids_limit: int
    oldest_transaction: OldestTransaction | None
    slow_statements: Sequence[SlowStatement]
    sequential_scans: Sequence[SequentialScans]
    unused_indexes: Sequence[UnusedIndex]
    duplicate_indexes: Sequence[DuplicateIndex]
    bloat: Sequence[Bloat]
    stale_tables: Sequence[StaleTable]
    own_tables: Sequence[OwnTable]
    hidden: Sequence[str]


async def database_report(database: Database) -> DatabaseReport:
    """Look at the primary server. Raises Unavailable; what the role may not see is left out, and said."""
    database = database.fresh
    source = await database.fetchrow(_SOURCES)
    if source is None:
        raise AssertionError("unreachable: every database has a row in pg_stat_database")
    hidden = [] if source["sees_all"] else [_NOT_ALL]
    oldest = await database.fetchrow(_OLDEST)
    return DatabaseReport(
        name=source["name"],
        version=source["version"],
        bytes=source["bytes"],
        statistics_since=source["statistics_since"],
        transaction_ids=source["transaction_ids"],
        transaction_ids_limit=source["transaction_ids_limit"],
        oldest_transaction=None if oldest is None else _oldest(oldest),
        slow_statements=await _slow_statements(database, source, hidden),
        sequential_scans=[SequentialScans(**row) for row in await database.fetch(_SEQUENTIAL, MOST_LINES, _LARGE_ROWS)],
        unused_indexes=[UnusedIndex(**row) for row in await database.fetch(_UNUSED, MOST_LINES, _LARGE_BYTES)],
        duplicate_indexes=[DuplicateIndex(**row) for row in await database.fetch(_DUPLICATES, MOST_LINES)],
        bloat=await _bloat(database, source["measures"]),
        stale_tables=[StaleTable(**row) for row in await database.fetch(_STALE, MOST_LINES)],
        own_tables=[OwnTable(**row) for row in await database.fetch(_OWN)],
        hidden=hidden,
    )


def _oldest(row: Mapping[str, Any]) -> OldestTransaction:
    return OldestTransaction(
        pid=row["pid"], application=row["application"] or "", state=row["state"] or "unknown", age=row["age"]
    )


async def _slow_statements(database: Database, source: Mapping[str, Any], hidden: list[str]) -> list[SlowStatement]:
    if source["statements"] is None:
        is_loaded = "pg_stat_statements" in (source["libraries"] or "")
        hidden.append(_NO_EXTENSION if is_loaded else _NO_LIBRARY)
        return []
    try:
        rows = await database.fetch(_STATEMENTS.format(schema=source["statements"]), MOST_LINES)
    except asyncpg.ObjectNotInPrerequisiteStateError:  # the extension is there, but its library was not loaded
        hidden.append(_NO_LIBRARY)
        return []
    except (asyncpg.InsufficientPrivilegeError, asyncpg.UndefinedColumnError, asyncpg.UndefinedTableError) as error:
        hidden.append(f"slow statements: pg_stat_statements cannot be read ({error.args[0]})")
        return []
    return [SlowStatement(**row) for row in rows]


async def _bloat(database: Database, measures: str | None) -> list[Bloat]:
    found = [await _table_bloat(database, row, measures) for row in await database.fetch(_TABLE_BLOAT, _LARGE_BYTES)]
    found += [_estimated(row) for row in await database.fetch(_INDEX_BLOAT, _LARGE_BYTES)]
    worst = sorted(found, key=lambda each: each.wasted_bytes, reverse=True)
    # A fifth is what a table that is written to has anyway.
    return [each for each in worst if each.wasted_bytes >= max(_LARGE_BYTES, each.bytes / 5)][:MOST_LINES]


async def _table_bloat(database: Database, row: Mapping[str, Any], measures: str | None) -> Bloat:
    if measures is None or row["bytes"] > _MEASURED_BYTES:
        return _estimated(row)
    measure = f"SELECT approx_free_space + dead_tuple_len FROM {measures}.pgstattuple_approx($1::bigint::oid::regclass)"  # noqa: S608 - PostgreSQL's own spelling of the schema
    try:
        wasted = await database.fetchval(measure, row["id"])
    except (asyncpg.InsufficientPrivilegeError, asyncpg.FeatureNotSupportedError, asyncpg.UndefinedTableError):
        return _estimated(row)
    return Bloat(relation=row["relation"], bytes=row["bytes"], wasted_bytes=int(wasted), method="pgstattuple")


def _estimated(row: Mapping[str, Any]) -> Bloat:
    wasted = max(0, row["bytes"] - row["needed"])
    return Bloat(relation=row["relation"], bytes=row["bytes"], wasted_bytes=wasted, method="estimate")
