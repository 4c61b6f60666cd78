"""Price retention: makes the monthly partitions of the price history ahead, and takes away what is too old.

A table that is not partitioned loses its old rows in small batches. The backend's table is partitioned by an admin
(``skycap db partition``), never by this job.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from skycap import Cancel, Context, Plugin
from skycap_travel.payloads.price_retention import TendPriceHistory

__all__ = ["PriceRetentionSettings", "TendPriceHistory", "plugin", "tend_price_history"]

LONGEST = timedelta(hours=1)

_KIND = """
    SELECT c.relkind::text AS kind, pg_get_partkeydef(c.oid) AS key
      FROM pg_class c WHERE c.oid = to_regclass('price_history')
"""
_PARTITIONS = """
    SELECT c.relname AS name, pg_get_expr(c.relpartbound, c.oid) AS bounds, i.inhdetachpending AS is_leaving
      FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
     WHERE i.inhparent = to_regclass('price_history')
     ORDER BY c.relname
"""
_BOUNDS = re.compile(r"FOR VALUES FROM \('(?P<first>[^']+)'\) TO \('(?P<end>[^']+)'\)")

# The primary key is left alone: a list of ctids is read once, and a batch needs no index of its own.
_PURGE = """
    DELETE FROM price_history
     WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM price_history WHERE "createdAt" < $1 ORDER BY "createdAt" LIMIT $2 FOR UPDATE SKIP LOCKED
     ))
"""


class PriceRetentionSettings(BaseModel):
    """``[plugins.price-retention]``. ``keep_months`` is how long prices are kept; without it, for ever.

    ``months_ahead`` is for how many coming months there are partitions. ``drop_detached`` also drops the partitions
    that are taken away; otherwise they stay as tables of their own, for an admin to archive. In a table that is not
    partitioned, ``batch`` rows are deleted at once, with ``pause_ms`` in between.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    keep_months: Annotated[int, Field(ge=1, le=1_200)] | None = None
    months_ahead: Annotated[int, Field(ge=1, le=24)] = 3
    drop_detached: bool = False
    batch: Annotated[int, Field(ge=1, le=50_000)] = 2_000
    pause_ms: Annotated[int, Field(ge=0, le=60_000)] = 100


plugin = Plugin("price-retention", settings=PriceRetentionSettings)
plugin.schedule("40 1 * * *", TendPriceHistory())


@plugin.job(timeout=LONGEST, tables=("price_history",))
async def tend_price_history(ctx: Context[PriceRetentionSettings], payload: TendPriceHistory) -> dict[str, int]:
    table = await ctx.db.fresh.fetchrow(_KIND)
    if table is None:
        raise Cancel("the database has no table price_history: there is nothing to tend")
    today = ctx.now().astimezone(UTC).date()
    keep = ctx.settings.keep_months
    oldest = None if keep is None else months_later(today, -keep)
    if table["kind"] != "p":
        return {"deleted": 0 if oldest is None else await _purge(ctx, oldest)}
    if table["key"] != 'RANGE ("createdAt")':
        raise Cancel(f"price_history is partitioned by {table['key']}, and not by createdAt: it is left to its admin")
    partitions = await _partitions(ctx)
    return {
        "made": await _make_ahead(ctx, partitions, today),
        "detached": 0 if oldest is None else await _detach(ctx, partitions, oldest),
    }


@dataclass(frozen=True, kw_only=True)
class Partition:
    """Of ``first`` up to, and without, ``end``; both None for the default one."""

    name: str
    first: datetime | None
    end: datetime | None
    is_leaving: bool
    """A detachment that was interrupted, and must be finished."""

    @property
    def is_default(self) -> bool:
        return self.end is None

    def holds(self, month: date) -> bool:
        start = datetime(month.year, month.month, 1)  # noqa: DTZ001 - the column has no zone
        return self.first is not None and self.end is not None and self.first <= start < self.end


async def _partitions(ctx: Context[PriceRetentionSettings]) -> list[Partition]:
    found: list[Partition] = []
    for row in await ctx.db.fresh.fetch(_PARTITIONS):
        bounds = _BOUNDS.fullmatch(row["bounds"] or "")
        first, end = (datetime.fromisoformat(bounds[name]) for name in ("first", "end")) if bounds else (None, None)
        found.append(Partition(name=row["name"], first=first, end=end, is_leaving=row["is_leaving"]))
    return found


async def _make_ahead(ctx: Context[PriceRetentionSettings], partitions: Sequence[Partition], today: date) -> int:
    """A table is made and then attached, for which readers and writers need not wait; only PARTITION OF stops them."""
    months = [months_later(today, number) for number in range(ctx.settings.months_ahead + 1)]
    missing = [month for month in months if not any(partition.holds(month) for partition in partitions)]
    for month in missing:
        name = _quoted(f"price_history_p{month:%Y_%m}")
        async with ctx.db.transaction() as transaction:
            await transaction.execute(f"CREATE TABLE {name} (LIKE price_history INCLUDING ALL)")
            await transaction.execute(
                f"ALTER TABLE price_history ATTACH PARTITION {name} "
                f"FOR VALUES FROM ('{month}') TO ('{months_later(month, 1)}')"
            )
        ctx.log.info("partition made", partition=f"price_history_p{month:%Y_%m}")
    return len(missing)


async def _detach(ctx: Context[PriceRetentionSettings], partitions: Sequence[Partition], oldest: date) -> int:
    # Beside a default partition PostgreSQL detaches only with a lock on the whole table, for which it waits no longer
    # than the lock_timeout of the installation; the job then comes back.
    how = "" if any(partition.is_default for partition in partitions) else " CONCURRENTLY"
    limit = datetime(oldest.year, oldest.month, 1)  # noqa: DTZ001 - the column has no zone
    old = [partition for partition in partitions if partition.end is not None and partition.end <= limit]
    for partition in old:
        name = _quoted(partition.name)
        way = " FINALIZE" if partition.is_leaving else how
        await ctx.db.execute(f"ALTER TABLE price_history DETACH PARTITION {name}{way}")
        if ctx.settings.drop_detached:
            await ctx.db.execute(f"DROP TABLE {name}")
        ctx.log.info("partition detached", partition=partition.name, dropped=ctx.settings.drop_detached)
    return len(old)


async def _purge(ctx: Context[PriceRetentionSettings], oldest: date) -> int:
    limit = datetime(oldest.year, oldest.month, 1)  # noqa: DTZ001 - the column has no zone
    deleted = 0
    while True:
        answer = await ctx.db.execute(_PURGE, limit, ctx.settings.batch)
        count = int(answer.rpartition(" ")[2])
        deleted += count
        if count < ctx.settings.batch:
            return deleted
        await ctx.note(f"{deleted} prices deleted")
        await asyncio.sleep(ctx.settings.pause_ms / 1000)


def months_later(day: date, months: int) -> date:
    """The first day of a month so many later, or earlier."""
    number = day.year * 12 + day.month - 1 + months
    return date(number // 12, number % 12 + 1, 1)


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'
