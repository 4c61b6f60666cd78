"""Cleanup: deletes old rows of the backend's tables, a few at a time, so that nobody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from skycap import Database

KEPT_FOR_GOOD = frozenset({"bookings", "users"})
"""The company's books and its guests: whoever is to be forgotten is erased by name, not by age."""

LOCK_TIMEOUT = timedelta(seconds=1)
"""A table that somebody has locked is left for another time."""

_MOMENTS = {
    "timestamp without time zone": "$1::timestamptz AT TIME ZONE 'UTC'",  # as the backend writes it
    "timestamp with time zone": "$1::timestamptz",
    "date": "($1::timestamptz AT TIME ZONE 'UTC')::date",
}
"""How a moment is written to be compared with a column of each type."""

_COLUMNS = """
    SELECT attname AS name, atttypid::regtype::text AS type FROM pg_attribute
    WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped
"""


def _identifier(name: str) -> str:
    if not name or "\x00" in name or len(name.encode()) > 63:  # noqa: PLR2004 - what PostgreSQL keeps of a name
        raise ValueError("write the name of a table or column as the database has it, without quotes or schema")
    return name


def _of_a_table(name: str) -> str:
    if name in KEPT_FOR_GOOD:
        raise ValueError(f"rows of {name} are never deleted for their age")
    return name


Identifier = Annotated[str, AfterValidator(_identifier)]
TableName = Annotated[Identifier, AfterValidator(_of_a_table)]


class CleanupRule(BaseModel):
    """``[plugins.upkeep.cleanup.NAME]``: rows of ``table`` whose ``column`` is older than ``older_than_days``.

    With ``only``, of these the rows whose columns have just these values: ``only = { isRead = true }``. It takes no
    SQL, so that no slip of a condition can delete more than it says.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: TableName
    column: Identifier
    older_than_days: Annotated[float, Field(gt=0, le=36_500)]
    only: dict[Identifier, str | bool | int] = {}


@dataclass(frozen=True, kw_only=True)
class Pace:
    """``most`` bounds what one run deletes by one rule; the next run goes on."""

    batch: int
    pause: timedelta
    most: int


@dataclass(kw_only=True)
class Cleaned:
    """``is_done`` says that nothing of this age is left; ``off`` why a rule cannot be followed."""

    deleted: int = 0
    is_done: bool = True
    off: str | None = None

    def document(self) -> dict[str, object]:
        return {"deleted": self.deleted, "isDone": self.is_done} if self.off is None else {"off": self.off}


@dataclass(frozen=True, kw_only=True)
class _Deletion:
    sql: str = field(repr=False)
    values: tuple[str, ...]


async def clean(database: Database, rule: CleanupRule, now: datetime, pace: Pace) -> Cleaned:
    """Delete by one rule, the oldest rows first.

    Each batch is a transaction of its own, and passes over rows that somebody has locked. Raises Unavailable when the
    database is away, or the whole table locked.
    """
    columns = {row["name"]: row["type"] for row in await database.fresh.fetch(_COLUMNS, _quoted(rule.table))}
    if why := _why_not(rule, columns):
        return Cleaned(off=why)
    deletion = _deletion(rule, columns[rule.column])
    before = now.astimezone(UTC) - timedelta(days=rule.older_than_days)
    cleaned = Cleaned()
    while cleaned.deleted < pace.most:
        batch = min(pace.batch, pace.most - cleaned.deleted)
        count = await _delete(database, deletion, before, batch)
        cleaned.deleted += count
        if count < batch:
            return cleaned
        await asyncio.sleep(pace.pause.total_seconds())
    cleaned.is_done = False
    return cleaned


async def _delete(database: Database, deletion: _Deletion, before: datetime, batch: int) -> int:
    async with database.transaction() as transaction:
        await transaction.execute(f"SET LOCAL lock_timeout = {round(LOCK_TIMEOUT.total_seconds() * 1000)}")
        return int(await transaction.fetchval(deletion.sql, before, batch, *deletion.values))


def _why_not(rule: CleanupRule, columns: Mapping[str, str]) -> str | None:
    if not columns:
        return f"there is no table {rule.table}"
    missing = [name for name in (rule.column, *rule.only) if name not in columns]
    if missing:
        return f"{rule.table} has no column {missing[0]}"
    if columns[rule.column] not in _MOMENTS:
        return f"{rule.table}.{rule.column} is no time but {columns[rule.column]}"
    return None


def _deletion(rule: CleanupRule, type_of_column: str) -> _Deletion:
    """Values are compared as text, so that enumerations need no special care."""
    column = _quoted(rule.column)
    conditions = [f"{column} < {_MOMENTS[type_of_column]}"]
    conditions += [f"{_quoted(name)}::text = ${number}" for number, name in enumerate(rule.only, 3)]
    wanted, table = " AND ".join(conditions), _quoted(rule.table)
    # The condition once more, since a row's place may be another row's in another partition.
    sql = f"""
        WITH deleted AS (
            DELETE FROM {table} WHERE {wanted} AND ctid = ANY (ARRAY(
                SELECT ctid FROM {table} WHERE {wanted} ORDER BY {column} LIMIT $2 FOR UPDATE SKIP LOCKED
            )) RETURNING 1
        )
        SELECT count(*) FROM deleted
    """  # noqa: S608 - identifiers are quoted, values are parameters
    return _Deletion(sql=sql, values=tuple(map(_text, rule.only.values())))


def _text(value: str | bool | int) -> str:  # noqa: FBT001 - a value of the configuration
    return str(value).lower() if isinstance(value, bool) else str(value)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
