"""Price history: asks a partner for prices, and keeps each that is new."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, time
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from skycap import Cancel, Context, Plugin
from skycap_travel.payloads.price_alerts import EntityType
from skycap_travel.payloads.price_history import UpdatePriceHistory
from skycap_travel.providers import MOST_IDS, PriceQuote, Provider, guarded, is_currency, is_price, provider_called
from skycap_travel.row_ids import new_row_id
from skycap_travel.rows import stored

__all__ = ["PriceHistorySettings", "UpdatePriceHistory", "plugin", "update_price_history"]

_WATCHED = """
    SELECT DISTINCT "entityId" AS entity_id
      FROM price_alerts
     WHERE status = 'ACTIVE' AND "entityType" = $1 AND "entityId" > $2
     ORDER BY "entityId"
     LIMIT $3
"""

# Whoever writes prices waits here for the others, some milliseconds: what they have written is then seen.
_ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(hashtextextended('skycap: price_history', 0))"

# A price is new when the day's last one of the same source, currency and dates is another: a job that runs twice adds
# nothing, and a price that falls and rises again within a day is three.
_RECORD = """
    INSERT INTO price_history (id, "entityType", "entityId", price, currency, metadata, source, "checkInDate",
        "checkOutDate", "travelDate", "createdAt")
    SELECT seen.id, seen.entity_type, seen.entity_id, seen.price, seen.currency, seen.metadata::jsonb, $3,
           seen.check_in, seen.check_out, seen.travel_date, $1
      FROM unnest($4::text[], $5::text[], $6::text[], $7::numeric[], $8::text[], $9::text[], $10::timestamp[],
                  $11::timestamp[], $12::timestamp[])
        AS seen (id, entity_type, entity_id, price, currency, metadata, check_in, check_out, travel_date)
      LEFT JOIN LATERAL (
        SELECT h.price
          FROM price_history h
         WHERE h."entityType" = seen.entity_type AND h."entityId" = seen.entity_id AND h."createdAt" >= $2
           AND h.currency = seen.currency AND h.source = $3
           AND h."checkInDate" IS NOT DISTINCT FROM seen.check_in
           AND h."checkOutDate" IS NOT DISTINCT FROM seen.check_out
           AND h."travelDate" IS NOT DISTINCT FROM seen.travel_date
         ORDER BY h."createdAt" DESC
         LIMIT 1
     ) AS last ON TRUE
     WHERE last.price IS DISTINCT FROM seen.price
"""


class PriceHistorySettings(BaseModel):
    """``[plugins.price-history]``. ``provider``, which a plugin registers, is asked when the job names nobody.

    ``batch`` is how many entities the provider is asked about at once.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=64)] | None = None
    batch: Annotated[int, Field(ge=1, le=MOST_IDS)] = MOST_IDS


plugin = Plugin("price-history", settings=PriceHistorySettings)


@plugin.job(tables=("price_alerts", "price_history"))
async def update_price_history(ctx: Context[PriceHistorySettings], payload: UpdatePriceHistory) -> dict[str, int]:
    name = payload.provider or ctx.settings.provider
    if name is None:
        raise Cancel("nobody is named who knows prices: give the job a provider, or set plugins.price-history.provider")
    provider = provider_called(name)
    counts = {"entities": 0, "quoted": 0, "refused": 0, "recorded": 0}
    async for batch in _batches(ctx, payload):
        async with guarded(ctx, provider):
            quotes = await provider.prices(ctx, batch.entity_type, batch.entity_ids)
        usable = [quote for quote in quotes if is_price(quote.price) and is_currency(quote.currency)]
        counts["entities"] += len(batch.entity_ids)
        counts["quoted"] += len(quotes)
        counts["refused"] += len(quotes) - len(usable)
        counts["recorded"] += await _record(ctx, provider, batch.entity_type, usable) if usable else 0
        await ctx.progress(batch.share, f"{counts['recorded']} new prices of {counts['entities']} entities")
    return counts


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """Entities to ask about at once, and the share of the job that is done when that is done."""

    entity_type: EntityType
    entity_ids: Sequence[str]
    share: float


async def _batches(ctx: Context[PriceHistorySettings], payload: UpdatePriceHistory) -> AsyncIterator[_Batch]:
    size = ctx.settings.batch
    if payload.entity_type is not None and payload.entity_ids:
        named = tuple(dict.fromkeys(payload.entity_ids))
        for start in range(0, len(named), size):
            share = min(1.0, (start + size) / len(named))
            yield _Batch(entity_type=payload.entity_type, entity_ids=named[start : start + size], share=share)
        return
    types = [payload.entity_type] if payload.entity_type else list(EntityType)
    for number, entity_type in enumerate(types):
        last = ""
        while ids := [row["entity_id"] for row in await ctx.db.fetch(_WATCHED, entity_type, last, size)]:
            # Nobody knows how many of a type are left.
            share = (number + (len(ids) < size)) / len(types)
            yield _Batch(entity_type=entity_type, entity_ids=ids, share=share)
            last = ids[-1]


async def _record(
    ctx: Context[PriceHistorySettings], provider: Provider, entity_type: EntityType, quotes: Sequence[PriceQuote]
) -> int:
    now = ctx.now()
    # Of a series that comes twice in one answer the last one counts.
    series = {(quote.entity_id, quote.currency, *_dates(quote)): quote for quote in quotes}
    columns = zip(*((new_row_id(now), entity_type.value, *_columns(quote)) for quote in series.values()), strict=True)
    written = stored(now)
    async with ctx.db.transaction() as transaction:
        await transaction.execute(_ONE_AT_A_TIME)
        inserted = await transaction.execute(
            _RECORD, written, datetime.combine(written.date(), time.min), provider.name, *columns
        )
    return int(inserted.rpartition(" ")[2])


def _columns(quote: PriceQuote) -> tuple[object, ...]:
    metadata = json.dumps(dict(quote.metadata)) if quote.metadata else None
    return (quote.entity_id, quote.price, quote.currency, metadata, *_dates(quote))


def _dates(quote: PriceQuote) -> tuple[datetime | None, ...]:
    """As the columns have them."""
    dates = (quote.check_in, quote.check_out, quote.travel_date)
    return tuple(None if moment is None else stored(moment) for moment in dates)
