"""Indexes: which of those that plugins want are there, told by what they are and not only by their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import asyncpg

from skycap.errors import ConfigurationError, Unavailable
from skycap.index import Index, quoted

if TYPE_CHECKING:
    from skycap.services.database import Connection

_DESCENDING_NULLS_FIRST = 3
"""Both bits of pg_index.indoption: read backwards, an index has each of its keys with the other value of both."""

_TABLE = "SELECT c.oid, c.relkind::text AS kind FROM pg_class c WHERE c.oid = to_regclass($1)"

_SHAPES = """
    SELECT i.indexrelid AS id, c.relname AS name, am.amname AS method,
           i.indisvalid AND i.indisready AND i.indislive AS is_usable,
           i.indisunique OR EXISTS (SELECT FROM pg_constraint AS o WHERE o.conindid = i.indexrelid) AS is_constraint,
           ARRAY(
               SELECT pg_get_indexdef(i.indexrelid, k, TRUE) FROM generate_series(1, i.indnkeyatts) AS k ORDER BY k
           ) AS keys,
           string_to_array(i.indclass::text, ' ') AS classes,
           string_to_array(i.indcollation::text, ' ') AS collations,
           string_to_array(i.indoption::text, ' ')::int[] AS directions,
           ARRAY(
               SELECT pg_get_indexdef(i.indexrelid, k, TRUE)
               FROM generate_series(i.indnkeyatts + 1, i.indnatts) AS k ORDER BY k
           ) AS included,
           pg_get_expr(i.indpred, i.indrelid, TRUE) AS condition,
           pg_relation_size(i.indexrelid) AS bytes, s.idx_scan AS scans, d.stats_reset AS scans_since
    FROM pg_index AS i
    JOIN pg_class AS c ON c.oid = i.indexrelid
    JOIN pg_am AS am ON am.oid = c.relam
    LEFT JOIN pg_stat_all_indexes AS s ON s.indexrelid = i.indexrelid
    LEFT JOIN pg_stat_database AS d ON d.datname = current_database()
    WHERE i.indrelid = $1
"""

# Both hold a lock on the table that readers and writers do not notice. VACUUM's looks the same, and ends soon.
_IS_BUILT_BY_OTHERS = """
    SELECT EXISTS (SELECT FROM pg_stat_progress_create_index AS p WHERE p.index_relid = $2)
        OR EXISTS (
            SELECT FROM pg_locks AS l
            WHERE l.relation = $1 AND l.mode = 'ShareUpdateExclusiveLock' AND l.granted AND l.pid <> pg_backend_pid()
                AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum AS v WHERE v.pid = l.pid)
        )
"""
_IS_NAME_TAKEN = """
    SELECT EXISTS (
        SELECT FROM pg_class AS c JOIN pg_class AS t ON t.relnamespace = c.relnamespace
        WHERE t.oid = $1 AND c.relname = $2
    )
"""

_UNFIT = (
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedObjectError,
    asyncpg.UndefinedFunctionError,
    asyncpg.DatatypeMismatchError,
    asyncpg.InvalidTextRepresentationError,
    asyncpg.InvalidObjectDefinitionError,
    asyncpg.PostgresSyntaxError,
)
"""What PostgreSQL says of an index that this table cannot have."""


class IndexState(StrEnum):
    """How a wanted index stands; each but PRESENT, COVERED and MISSING is explained by the standing's ``note``."""

    PRESENT = "present"
    COVERED = "covered"
    MISSING = "missing"
    INVALID = "invalid"
    BUILDING = "building"
    TAKEN = "name taken"
    NO_TABLE = "no table"
    UNFIT = "does not fit"

    @property
    def is_served(self) -> bool:
        """Whether there is nothing to do: the query has its index, or the backend has no such table."""
        return self in {IndexState.PRESENT, IndexState.COVERED, IndexState.NO_TABLE}


@dataclass(frozen=True, kw_only=True)
class IndexStanding:
    """``scans`` are counted since ``scans_since``, or since the cluster was made.

    Of an index that covers the wanted one, scans and size are its own.
    """

    index: Index
    state: IndexState
    note: str = ""
    bytes: int | None = None
    scans: int | None = None
    scans_since: datetime | None = None

    def document(self) -> dict[str, object]:
        return {
            "name": self.index.name,
            "table": self.index.table,
            "keys": list(self.index.keys),
            "include": list(self.index.include),
            "where": self.index.where,
            "plugin": self.index.plugin,
            "purpose": self.index.purpose,
            "state": str(self.state),
            "note": self.note or None,
            "bytes": self.bytes,
            "scans": self.scans,
            "scans_since": self.scans_since,
        }


@dataclass(frozen=True, kw_only=True)
class _Key:
    what: str
    operators: str
    collation: str
    direction: int


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """An index in PostgreSQL's own words, so that two of them can be compared."""

    method: str
    keys: tuple[_Key, ...]
    included: frozenset[str]
    condition: str | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> _Shape:
        parts = zip(row["keys"], row["classes"], row["collations"], row["directions"], strict=True)
        return cls(
            method=row["method"],
            keys=tuple(
                _Key(what=what, operators=operators, collation=collation, direction=direction)
                for what, operators, collation, direction in parts
            ),
            included=frozenset(row["included"]),
            condition=row["condition"],
        )


async def standings(connection: Connection, wanted: Sequence[Index]) -> list[IndexStanding]:
    """How each stands, in their order. Raises ConfigurationError when the role may not look."""
    return [await standing(connection, index) for index in wanted]


async def standing(connection: Connection, index: Index) -> IndexStanding:
    """See ``standings``. A transaction is begun and undone, in which a temporary table shows what is meant."""
    found = await connection.fetchrow(_TABLE, quoted(index.table))
    table = None if found is None else dict(found.items())
    if table is None or table["kind"] not in {"r", "p", "m"}:
        return IndexStanding(index=index, state=IndexState.NO_TABLE, note="there is none that this role can see")
    try:
        shape = await _meant(connection, index)
    except _UNFIT as error:
        return IndexStanding(index=index, state=IndexState.UNFIT, note=f"{index.table}: {error.args[0]}")
    except asyncpg.InsufficientPrivilegeError as error:
        raise ConfigurationError(
            f"the database role may not look at {index.table} ({error.args[0]}): it needs SELECT on the table, and "
            "TEMPORARY on the database"
        ) from error
    except asyncpg.LockNotAvailableError as error:
        raise Unavailable("database", f"somebody has locked {index.table}; try again") from error
    except asyncpg.ReadOnlySQLTransactionError as error:
        raise ConfigurationError(
            "this server is read-only (a standby?): set database.direct_url to the primary's address"
        ) from error
    return await _compared(connection, index, shape, table)


async def _compared(connection: Connection, index: Index, shape: _Shape, table: Mapping[str, Any]) -> IndexStanding:
    there = await _indexes_of(connection, table["oid"])
    named = next((row for row in there if row["name"] == index.name), None)
    if named is not None:
        return await _named(connection, index, shape, named, table=table["oid"])
    covering = next((row for row in there if row["is_usable"] and _covers(_Shape.of(row), shape, index)), None)
    if covering is not None:
        return _found(index, IndexState.COVERED, covering, f"by {covering['name']}")
    if await connection.fetchval(_IS_NAME_TAKEN, table["oid"], index.name):
        return IndexStanding(index=index, state=IndexState.TAKEN, note="something else has this name")
    if table["kind"] == "p":
        note = "the table is partitioned: create it on each partition, then on the table, as its owner"
        return IndexStanding(index=index, state=IndexState.UNFIT, note=note)
    return IndexStanding(index=index, state=IndexState.MISSING)


async def _indexes_of(connection: Connection, table: int) -> list[dict[str, Any]]:
    return [dict(row.items()) for row in await connection.fetch(_SHAPES, table)]


async def _named(
    connection: Connection, index: Index, shape: _Shape, row: Mapping[str, Any], *, table: int
) -> IndexStanding:
    if row["is_constraint"] or _Shape.of(row) != shape:
        return _found(index, IndexState.TAKEN, row, "an index that is defined otherwise has this name")
    if row["is_usable"]:
        return _found(index, IndexState.PRESENT, row)
    if await connection.fetchval(_IS_BUILT_BY_OTHERS, table, row["id"]):
        return _found(index, IndexState.BUILDING, row, "a session is at it")
    return _found(index, IndexState.INVALID, row, "left behind by a build that did not end")


def _found(index: Index, state: IndexState, row: Mapping[str, Any], note: str = "") -> IndexStanding:
    return IndexStanding(
        index=index,
        state=state,
        note=note,
        bytes=row["bytes"],
        scans=row["scans"],
        scans_since=row["scans_since"],
    )


async def _meant(connection: Connection, index: Index) -> _Shape:
    """How PostgreSQL itself writes the definition: names resolved, conditions in its own spelling."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(f"CREATE TEMPORARY TABLE skycap_meant (LIKE {quoted(index.table)}) ON COMMIT DROP")
        await connection.execute(f"CREATE INDEX ON pg_temp.skycap_meant {index.definition}")
        meant = await connection.fetchval("SELECT 'pg_temp.skycap_meant'::regclass::oid")
        (row,) = await _indexes_of(connection, meant)
        return _Shape.of(row)
    finally:
        await transaction.rollback()


def _covers(there: _Shape, wanted: _Shape, index: Index) -> bool:
    """Whether an index answers all that the wanted one would, maybe with more columns and rows in it."""
    first = there.keys[: len(wanted.keys)]
    return (
        there.method == wanted.method
        and [_comparison(key) for key in first] == [_comparison(key) for key in wanted.keys]
        and _is_in_order(first, wanted.keys, index)
        and wanted.included <= there.included | {key.what for key in there.keys}
        and there.condition in {None, wanted.condition}
    )


def _comparison(key: _Key) -> tuple[str, str, str]:
    return key.what, key.operators, key.collation


def _is_in_order(there: Sequence[_Key], wanted: Sequence[_Key], index: Index) -> bool:
    """Forwards or backwards; of a key that is only compared for equality, the direction does not matter."""
    sorted_by = [
        (have.direction, want.direction)
        for have, want, key in zip(there, wanted, index.parsed_keys, strict=True)
        if key.direction
    ]
    return all(have == want for have, want in sorted_by) or all(
        have == want ^ _DESCENDING_NULLS_FIRST for have, want in sorted_by
    )
