"""Partitioning: makes a plain table of the backend into one of monthly partitions while the backend goes on writing.

A partitioned table is made beside it, and a trigger does there whatever is done to the plain one. The rows that were
there before are copied in small batches, in the order of the primary key; each batch locks its rows, so that whoever
changes one of them waits until the trigger finds it, and is waited for otherwise. When both hold the same rows, they
change names in one transaction. Every step is committed together with the row in ``skycap.partitionings`` that tells of
it: a conversion that was killed goes on where it was.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import asyncpg

from skycap.errors import ConfigurationError, Unavailable
from skycap.services.table_shape import TableShape, quoted, shape_of

if TYPE_CHECKING:
    from skycap.services.database import Connection

MONTHS_AHEAD = 3

_MOST_PARTITIONS = 600
_BATCH_LOCK, _DEFINITION_LOCK = timedelta(milliseconds=500), timedelta(seconds=2)
"""A batch gives up before PostgreSQL looks for a deadlock (1 s), so that it is never the backend that is undone."""

_LIKE = "INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING COMPRESSION INCLUDING COMMENTS"
"""Indexes and keys have names and columns of their own."""

_TRIES = 30
_ONE_AT_A_TIME = "SELECT pg_try_advisory_lock(hashtextextended('skycap: partition ' || $1, 0))"
_NEXT_ONE = "SELECT pg_advisory_unlock(hashtextextended('skycap: partition ' || $1, 0))"
_TIMES = ("timestamp", "date")

_BUSY = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError, asyncpg.SerializationError)

_STATE = "SELECT column_name, step, last_key, copied FROM skycap.partitionings WHERE table_name = $1"
_BEGIN = "INSERT INTO skycap.partitionings (table_name, column_name, step) VALUES ($1, $2, 'copying')"
_ADVANCE = """
    UPDATE skycap.partitionings SET last_key = $2, copied = copied + $3, updated_at = now() WHERE table_name = $1
"""
_STEP = "UPDATE skycap.partitionings SET step = $2, updated_at = now() WHERE table_name = $1"
_FORGET = "DELETE FROM skycap.partitionings WHERE table_name = $1"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a conversion is. ``step`` is copying, copied or swapped."""

    column: str
    step: str
    last_key: Sequence[str] | None
    copied: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a conversion does, and what of it the backend notices."""

    table: str
    column: str
    rows: int
    """By the statistics of the table."""
    partitions: Sequence[str]
    primary_key: Sequence[str]
    indexes: Sequence[str]

    @property
    def for_the_backend(self) -> tuple[str, ...]:
        key = ", ".join(self.primary_key)
        wider = ", ".join((*self.primary_key, self.column))
        return (
            f"the primary key becomes ({wider}): PostgreSQL can keep ({key}) unique within a partition only",
            f"Prisma: @id of {self.table} becomes @@id([{wider}])",
            f"findUnique, upsert and connect by {key} alone are no longer possible; findFirst is",
            f"ON CONFLICT ({key}) is refused; ON CONFLICT ({wider}), or without columns, works",
            "no foreign key may refer to the table",
            "prisma migrate must not be run with the old schema afterwards: it would make the old key again",
            f"queries without a condition on {self.column} look into every partition",
        )


class Partitioning:
    """One table's conversion, on a connection of its own to the server itself (no transaction pooler)."""

    def __init__(self, connection: Connection, table: str, *, batch: int = 2_000, pause: timedelta) -> None:
        self._connection = connection
        self._table = table
        self._batch = batch
        self._pause = pause

    async def standing(self) -> Standing | None:
        """None when no conversion of this table is under way."""
        row = await self._connection.fetchrow(_STATE, self._table)
        if row is None:
            return None
        return Standing(column=row["column_name"], step=row["step"], last_key=row["last_key"], copied=row["copied"])

    async def plan(self, column: str, *, now: datetime) -> Plan:
        """Raises ConfigurationError when the table cannot be converted by this column; changes nothing."""
        shape = await self._shape(column)
        months = await self._months(column, now)
        rows = await self._connection.fetchval(
            "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = to_regclass($1)",
            f"public.{quoted(self._table)}",
        )
        return Plan(
            table=self._table,
            column=column,
            rows=rows,
            partitions=[*(_partition(self._table, month) for month in months), f"{self._table}_default"],
            primary_key=shape.primary_key,
            indexes=[index.name for index in shape.indexes],
        )

    async def apply(self, column: str, *, now: datetime) -> AsyncGenerator[Standing]:
        """Convert, or go on with it; yields where it stands after each batch and step.

        Raises ConfigurationError when it cannot be done, or another process is at it, and Unavailable when a lock was
        not to be had in a minute: the table is too busy, and later it may work.
        """
        if not await self._connection.fetchval(_ONE_AT_A_TIME, self._table):
            raise ConfigurationError(f"table {self._table} is being partitioned by another process; see --status")
        try:
            async for standing in self._steps(column, now):
                yield standing
        finally:
            if not self._connection.is_closed():
                await self._connection.execute(_NEXT_ONE, self._table)

    async def _steps(self, column: str, now: datetime) -> AsyncGenerator[Standing]:
        standing = await self.standing()
        if standing is None:
            shape = await self._shape(column)
            months = await self._months(column, now)
            await self._surely(lambda: self._prepare(shape, column, months))
            standing = await self._standing_now()
        elif standing.column != column:
            raise ConfigurationError(
                f"table {self._table} is being partitioned by {standing.column}; go on with that, or --abort"
            )
        yield standing
        while standing.step == "copying":
            began = time.monotonic()
            await self._surely(partial(self._copy, standing.last_key))
            standing = await self._standing_now()
            yield standing
            # At least as long as it has worked: half of the server is the backend's.
            await asyncio.sleep(max(self._pause.total_seconds(), time.monotonic() - began))
        if standing.step == "copied":
            await self._verify()
            await self._surely(self._swap)
            yield await self._standing_now()

    async def abort(self) -> None:
        """Remove what was made so far; the plain table was never touched. Raises ConfigurationError after the swap."""
        standing = await self.standing()
        if standing is None:
            raise ConfigurationError(f"table {self._table} is not being partitioned")
        if standing.step == "swapped":
            raise ConfigurationError(
                f"table {self._table} is partitioned, and {self._table}_old lacks what was written since; "
                "it cannot be undone"
            )
        await self._surely(self._remove)

    async def drop_old(self) -> None:
        """Drop the plain table. Raises ConfigurationError before the swap."""
        standing = await self.standing()
        if standing is None or standing.step != "swapped":
            raise ConfigurationError(f"table {self._table} has not been partitioned, so there is no old one")
        await self._surely(self._drop_old)

    async def _shape(self, column: str) -> TableShape:
        shape = await shape_of(self._connection, self._table, grants_for=self._name_beside)
        found = shape.column(column)
        if not found.type.startswith(_TIMES):
            raise ConfigurationError(f"column {column} is a {found.type}; give a timestamp or date to partition by")
        if not found.is_required:
            raise ConfigurationError(f"column {column} may be NULL, which is in no partition; make it NOT NULL first")
        return shape

    async def _months(self, column: str, now: datetime) -> list[date]:
        first, last = [
            await self._connection.fetchval(f"SELECT {end}({quoted(column)})::date FROM {_public(self._table)}")  # noqa: S608 - quoted
            for end in ("min", "max")
        ]
        today = now.astimezone(UTC).date()
        months = list(
            months_between(min(first or today, today), max(last or today, _months_later(today, MONTHS_AHEAD)))
        )
        if len(months) > _MOST_PARTITIONS:
            raise ConfigurationError(
                f"{column} reaches from {first} to {last}, which is {len(months)} months, over {_MOST_PARTITIONS}; "
                "correct the dates that are wrong first"
            )
        return months

    async def _prepare(self, shape: TableShape, column: str, months: Sequence[date]) -> None:
        beside = _public(self._name_beside)
        key = ", ".join(quoted(name) for name in dict.fromkeys((*shape.primary_key, column)))
        statements = [
            f"CREATE TABLE {beside} (LIKE {_public(self._table)} {_LIKE}) PARTITION BY RANGE ({quoted(column)})",
            f"ALTER TABLE {beside} ADD CONSTRAINT {quoted(_beside(shape.primary_key_name))} PRIMARY KEY ({key})",
            *(f"CREATE INDEX {quoted(_beside(index.name))} ON {beside} {index.body}" for index in shape.indexes),
            *(
                f"ALTER TABLE {beside} ADD CONSTRAINT {quoted(each.name)} {each.definition}"
                for each in shape.foreign_keys
            ),
            *(_partition_of(beside, self._table, month) for month in months),
            f"CREATE TABLE {_public(f'{self._table}_default')} PARTITION OF {beside} DEFAULT",
            f"ALTER TABLE {beside} OWNER TO {quoted(shape.owner)}",
            *shape.grants,
            *self._feed(shape, column),
        ]
        async with self._transaction(_DEFINITION_LOCK):
            for statement in statements:
                await self._connection.execute(statement)
            await self._connection.execute(_BEGIN, self._table, column)

    def _feed(self, shape: TableShape, column: str) -> Iterator[str]:
        """The trigger that does beside what is done to the table, and its functions."""
        table, beside = _public(self._table), _public(self._name_beside)
        columns = [quoted(each.name) for each in shape.columns]
        same = " AND ".join(f"{name} = OLD.{name}" for name in map(quoted, (*shape.primary_key, column)))
        new = ", ".join(f"NEW.{name}" for name in columns)
        # With its owner's rights: whoever may write the table knows nothing of the one beside it.
        yield f"""
            CREATE FUNCTION {self._function}() RETURNS TRIGGER
            LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $feed$
            BEGIN
                IF TG_OP = 'TRUNCATE' THEN
                    TRUNCATE {beside};
                    RETURN NULL;
                END IF;
                IF TG_OP <> 'INSERT' THEN
                    DELETE FROM {beside} WHERE {same};
                END IF;
                IF TG_OP <> 'DELETE' THEN
                    INSERT INTO {beside} ({", ".join(columns)}) VALUES ({new});
                END IF;
                RETURN NULL;
            END
            $feed$
        """  # noqa: S608 - quoted
        yield f"REVOKE ALL ON FUNCTION {self._function}() FROM PUBLIC"
        yield (
            f"CREATE TRIGGER skycap_partition_rows AFTER INSERT OR UPDATE OR DELETE ON {table} "
            f"FOR EACH ROW EXECUTE FUNCTION {self._function}()"
        )
        yield (
            f"CREATE TRIGGER skycap_partition_truncate AFTER TRUNCATE ON {table} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {self._function}()"
        )
        # Also for what comes by replication, for which ordinary triggers are off.
        yield f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER skycap_partition_rows"
        yield f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER skycap_partition_truncate"

    async def _copy(self, last_key: Sequence[str] | None) -> None:
        shape = await self._shape_now()
        key = [quoted(name) for name in shape.primary_key]
        types = [shape.column(name).type for name in shape.primary_key]
        columns = ", ".join(quoted(column.name) for column in shape.columns)
        bounds = ", ".join(f"($2::text[])[{place}]::{kind}" for place, kind in enumerate(types, start=1))
        rest = "TRUE" if last_key is None else f"({', '.join(key)}) > ({bounds})"
        query = f"""
            WITH batch AS MATERIALIZED (
                SELECT {columns} FROM {_public(self._table)}
                WHERE {rest} ORDER BY {", ".join(key)} LIMIT $1 FOR SHARE
            ), copied AS (
                INSERT INTO {_public(self._name_beside)} ({columns}) SELECT {columns} FROM batch ON CONFLICT DO NOTHING
            )
            SELECT ARRAY[{", ".join(f"{name}::text" for name in key)}] AS key, (SELECT count(*) FROM batch) AS rows
            FROM batch ORDER BY {", ".join(f"{name} DESC" for name in key)} LIMIT 1
        """  # noqa: S608 - quoted
        async with self._transaction(_BATCH_LOCK):
            copied = await self._connection.fetchrow(query, self._batch, *(() if last_key is None else (last_key,)))
            if copied is None:
                await self._connection.execute(_STEP, self._table, "copied")
            else:
                await self._connection.execute(_ADVANCE, self._table, copied["key"], copied["rows"])

    async def _verify(self) -> None:
        """Number and contents of all rows, in one snapshot; raises ConfigurationError when they differ."""
        shape = await self._shape_now()
        columns = ", ".join(quoted(column.name) for column in shape.columns)
        plain, beside = (_sum_of(name, columns) for name in (self._table, self._name_beside))
        async with self._transaction(_DEFINITION_LOCK):
            row = await self._connection.fetchrow(
                f"""
                SELECT plain.rows AS plain_rows, beside.rows AS beside_rows,
                       plain IS NOT DISTINCT FROM beside AS are_equal
                FROM ({plain}) AS plain, ({beside}) AS beside
                """  # noqa: S608 - quoted
            )
        assert row is not None  # noqa: S101 - aggregates are one row
        if not row["are_equal"]:
            raise ConfigurationError(
                f"table {self._table} has {row['plain_rows']} rows and {self._name_beside} has {row['beside_rows']}, "
                "or others: nothing was swapped. Undo it with --abort, and see who writes past the trigger"
            )

    async def _swap(self) -> None:
        shape = await self._shape_now()
        old = f"{self._table}_old"
        async with self._transaction(_DEFINITION_LOCK):
            execute = self._connection.execute
            await execute(f"LOCK TABLE {_public(self._table)}, {_public(self._name_beside)} IN ACCESS EXCLUSIVE MODE")
            await self._drop_feed()
            await execute(f"ALTER TABLE {_public(self._table)} RENAME TO {quoted(old)}")
            for name in (shape.primary_key_name, *(index.name for index in shape.indexes)):
                await execute(f"ALTER INDEX {_public(name)} RENAME TO {quoted(_old(name))}")
                await execute(f"ALTER INDEX {_public(_beside(name))} RENAME TO {quoted(name)}")
            await execute(f"ALTER TABLE {_public(self._name_beside)} RENAME TO {quoted(self._table)}")
            for sequence in shape.sequences:
                owner = f"{_public(self._table)}.{quoted(sequence.definition)}"
                await execute(f"ALTER SEQUENCE {sequence.name} OWNED BY {owner}")
            await execute(_STEP, self._table, "swapped")
        await self._connection.execute(f"ANALYZE {_public(self._table)}")

    async def _remove(self) -> None:
        async with self._transaction(_DEFINITION_LOCK):
            await self._drop_feed()
            await self._connection.execute(f"DROP TABLE {_public(self._name_beside)}")
            await self._connection.execute(_FORGET, self._table)

    async def _drop_feed(self) -> None:
        for trigger in ("skycap_partition_rows", "skycap_partition_truncate"):
            await self._connection.execute(f"DROP TRIGGER {trigger} ON {_public(self._table)}")
        await self._connection.execute(f"DROP FUNCTION {self._function}()")

    async def _drop_old(self) -> None:
        async with self._transaction(_DEFINITION_LOCK):
            await self._connection.execute(f"DROP TABLE {_public(f'{self._table}_old')}")
            await self._connection.execute(_FORGET, self._table)

    async def _surely(self, step: Callable[[], Awaitable[None]]) -> None:
        """Again and again while somebody else holds what is needed, with pauses in which they can go on."""
        for attempt in range(_TRIES):
            try:
                await step()
            except _BUSY:
                await asyncio.sleep(min(2.0, 0.1 * 2**attempt))
            else:
                return
        raise Unavailable("database", f"table {self._table} was locked by others {_TRIES} times; try again later")

    def _transaction(self, lock_timeout: timedelta) -> _LimitedTransaction:
        return _LimitedTransaction(self._connection, lock_timeout)

    async def _shape_now(self) -> TableShape:
        return await shape_of(self._connection, self._table, grants_for=self._name_beside)

    async def _standing_now(self) -> Standing:
        standing = await self.standing()
        if standing is None:
            raise ConfigurationError(f"the partitioning of {self._table} was aborted by somebody else")
        return standing

    @property
    def _name_beside(self) -> str:
        return _beside(self._table)

    @property
    def _function(self) -> str:
        return f"skycap.{quoted(f'partition_{self._table}')}"


class _LimitedTransaction:
    """A transaction that waits for no lock longer than that, and for its own work as long as it takes."""

    def __init__(self, connection: Connection, lock_timeout: timedelta) -> None:
        self._connection = connection
        self._milliseconds = round(lock_timeout / timedelta(milliseconds=1))
        self._transaction: Any = connection.transaction()

    async def __aenter__(self) -> Self:
        await self._transaction.__aenter__()
        await self._connection.execute(
            f"SET LOCAL lock_timeout = {self._milliseconds}; SET LOCAL statement_timeout = 0"
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._transaction.__aexit__(*error)


def months_between(first: date, last: date) -> Iterator[date]:
    """The first day of each month, both ends included."""
    month = first.replace(day=1)
    while month <= last:
        yield month
        month = _months_later(month, 1)


def _months_later(day: date, months: int) -> date:
    """The first of a month."""
    number = day.year * 12 + day.month - 1 + months
    return date(number // 12, number % 12 + 1, 1)


def _partition(table: str, month: date) -> str:
    return f"{table}_p{month:%Y_%m}"


def _partition_of(parent: str, table: str, month: date) -> str:
    bounds = f"FROM ('{month}') TO ('{_months_later(month, 1)}')"
    return f"CREATE TABLE {_public(_partition(table, month))} PARTITION OF {parent} FOR VALUES {bounds}"


def _beside(name: str) -> str:
    return _within(name, "_partitioned")


def _old(name: str) -> str:
    return _within(name, "_old")


def _within(name: str, ending: str) -> str:
    """PostgreSQL would cut the ending off a long name, and find it taken."""
    most = 63 - len(ending)
    return name.encode()[:most].decode(errors="ignore") + ending


def _sum_of(table: str, columns: str) -> str:
    """The query for the number of rows, and a sum in which each row's text has a part."""
    return f"""
        SELECT count(*) AS rows, sum(hashtextextended(ROW({columns})::text, 0)::numeric) AS sum FROM {_public(table)}
    """  # noqa: S608 - quoted


def _public(name: str) -> str:
    return f"public.{quoted(name)}"
