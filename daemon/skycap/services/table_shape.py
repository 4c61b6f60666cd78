"""TableShape: what a table of the backend is made of, read from the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skycap.errors import ConfigurationError

if TYPE_CHECKING:
    from skycap.services.database import Connection

LONGEST_NAME = 45
"""Bytes of a table's name; PostgreSQL cuts names at 63, and partitions have longer ones."""

_TABLE = """
    SELECT c.oid, c.relkind::text AS kind, c.relrowsecurity AS has_policies, pg_get_userbyid(c.relowner) AS owner,
           c.relispartition OR EXISTS (SELECT FROM pg_inherits WHERE c.oid IN (inhrelid, inhparent)) AS inherits
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = 'public' AND c.relname = $1
"""
_COLUMNS = """
    SELECT attname AS name, format_type(atttypid, atttypmod) AS type, attnotnull AS is_required,
           attgenerated <> '' OR attidentity <> '' AS is_generated
      FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
_PRIMARY_KEY = """
    SELECT con.conname AS name, array(
        SELECT a.attname::text FROM unnest(con.conkey) WITH ORDINALITY AS key (number, place)
        JOIN pg_attribute a ON a.attrelid = con.conrelid AND a.attnum = key.number ORDER BY key.place
    ) AS columns
    FROM pg_constraint con WHERE con.conrelid = $1 AND con.contype = 'p'
"""
_INDEXES = """
    SELECT c.relname AS name, i.indisunique AS is_unique, pg_get_indexdef(i.indexrelid) AS definition
      FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
     WHERE i.indrelid = $1 AND NOT i.indisprimary AND i.indisvalid ORDER BY 1
"""
_FOREIGN_KEYS = """
    SELECT conname AS name, pg_get_constraintdef(oid) AS definition
      FROM pg_constraint WHERE conrelid = $1 AND contype = 'f' ORDER BY 1
"""
_GRANTS = """
    SELECT format('GRANT %s ON public.%I TO %s', acl.privilege_type, $2::text,
                  CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(acl.grantee)) END)
           || CASE WHEN acl.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS statement
      FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) AS acl
     WHERE c.oid = $1 AND acl.grantee <> c.relowner ORDER BY 1
"""
_SEQUENCES = """
    SELECT s.oid::regclass::text AS name, a.attname AS column
      FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
      JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
     WHERE d.refobjid = $1 AND d.deptype = 'a'
"""
_REFERRERS = (
    "SELECT DISTINCT conrelid::regclass::text AS name FROM pg_constraint WHERE confrelid = $1 AND contype = 'f'"
)
_VIEWS = """
    SELECT DISTINCT r.ev_class::regclass::text AS name
      FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
     WHERE d.refobjid = $1 AND d.classid = 'pg_rewrite'::regclass AND r.ev_class <> $1
"""
_TRIGGERS = (
    "SELECT tgname AS name FROM pg_trigger WHERE tgrelid = $1 AND NOT tgisinternal AND tgname NOT LIKE 'skycap%'"
)

_OTHER_CONSTRAINTS = "SELECT conname AS name FROM pg_constraint WHERE conrelid = $1 AND contype IN ('x', 't')"


@dataclass(frozen=True, kw_only=True)
class Column:
    name: str
    type: str
    is_required: bool
    is_generated: bool


@dataclass(frozen=True, kw_only=True)
class Index:
    """``body`` is all behind the table's name: ``USING btree (…) WHERE …``."""

    name: str
    is_unique: bool
    body: str


@dataclass(frozen=True, kw_only=True)
class Named:
    """A constraint with its definition, or a sequence with its column."""

    name: str
    definition: str


@dataclass(frozen=True, kw_only=True)
class TableShape:
    """A plain table in the schema public that can be partitioned."""

    name: str
    owner: str
    columns: Sequence[Column]
    primary_key_name: str
    primary_key: Sequence[str]
    indexes: Sequence[Index]
    foreign_keys: Sequence[Named]
    sequences: Sequence[Named]
    grants: Sequence[str]

    def column(self, name: str) -> Column:
        """Raises ConfigurationError for one that there is not."""
        for column in self.columns:
            if column.name == name:
                return column
        known = ", ".join(column.name for column in self.columns)
        raise ConfigurationError(f"table {self.name} has no column {name}; it has {known}")


def quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


async def shape_of(connection: Connection, table: str, *, grants_for: str) -> TableShape:
    """``grants_for`` is the table whose grants are to be the same.

    Raises ConfigurationError for a table that is none, or that has what a partitioned one could not take over.
    """
    found = await connection.fetchrow(_TABLE, table)
    if found is None:
        raise ConfigurationError(f"there is no table {table} in schema public")
    oid = found["oid"]
    columns = [Column(**row) for row in await connection.fetch(_COLUMNS, oid)]
    key = await connection.fetchrow(_PRIMARY_KEY, oid)
    marker = f" ON public.{await connection.fetchval('SELECT quote_ident($1)', table)} "
    indexes = [
        Index(name=row["name"], is_unique=row["is_unique"], body=row["definition"].partition(marker)[2])
        for row in await connection.fetch(_INDEXES, oid)
    ]
    problems = [
        (found["kind"] == "p", "is partitioned already"),
        (found["kind"] not in {"r", "p"}, "is no plain table"),
        (found["inherits"], "inherits, or is inherited from"),
        (found["has_policies"], "has row level security, whose policies would have to be made anew by hand"),
        (key is None, "has no primary key: nothing tells its rows apart"),
        (len(table.encode()) > LONGEST_NAME, f"has a name of more than {LONGEST_NAME} bytes"),
        (any(column.is_generated for column in columns), "has generated or identity columns"),
        *[
            (bool(names), f"{words} {', '.join(names)}: {way_out}")
            for words, way_out, names in (
                (
                    "is referred to by foreign keys of",
                    "a partitioned table has no unique id for them; drop them first, or leave the table as it is",
                    await _names(connection, _REFERRERS, oid),
                ),
                (
                    "is read by",
                    "views would go on reading the old table; drop them first",
                    await _views(connection, oid),
                ),
                ("has the triggers", "drop them first", await _names(connection, _TRIGGERS, oid)),
                ("has the constraints", "drop them first", await _names(connection, _OTHER_CONSTRAINTS, oid)),
                (
                    "has the unique indexes",
                    "a partitioned table can only have those with the partition column; drop them first",
                    [index.name for index in indexes if index.is_unique],
                ),
            )
        ],
    ]
    for is_so, problem in problems:
        if is_so:
            raise ConfigurationError(f"table {table} {problem}")
    assert key is not None  # noqa: S101 - refused above
    return TableShape(
        name=table,
        owner=found["owner"],
        columns=columns,
        primary_key_name=key["name"],
        primary_key=key["columns"],
        indexes=indexes,
        foreign_keys=[Named(**row) for row in await connection.fetch(_FOREIGN_KEYS, oid)],
        sequences=[
            Named(name=row["name"], definition=row["column"]) for row in await connection.fetch(_SEQUENCES, oid)
        ],
        grants=[row["statement"] for row in await connection.fetch(_GRANTS, oid, grants_for)],
    )


async def _names(connection: Connection, query: str, oid: int) -> list[str]:
    return [row["name"] for row in await connection.fetch(query, oid)]


async def _views(connection: Connection, oid: int) -> list[str]:
    return await _names(connection, _VIEWS, oid)
