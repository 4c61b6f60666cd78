"""A provider of prices that needs no network: ``skycap run --embedded --plugins-dir plugins/examples``.

Its prices follow from the id and the day, so that every run of a day says the same. Send it a job:

$ ./skycap enqueue sync-external-data --payload '{"provider": "sample"}' --plugins-dir plugins/examples
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import Any

from skycap import Context, Plugin
from skycap_travel.payloads import EntityType
from skycap_travel.providers import HotelOffer, PriceQuote, RoomOffer, register

plugin = Plugin("prices")

_ROOMS = """
    SELECT r."hotelId" AS hotel_id, h.currency, h."priceMin" AS low, h."priceMax" AS high, r.id
      FROM hotel_rooms r JOIN hotels h ON h.id = r."hotelId" AND h.currency = r.currency
     WHERE h.id = ANY($1::text[])
     ORDER BY r."hotelId", r.id
"""


class SamplePrices:
    """A real one would ask its partner by ``ctx.http.request(…, breaker=…)``."""

    name = "sample"
    breaker = None

    async def prices(
        self, ctx: Context[Any], entity_type: EntityType, entity_ids: Sequence[str]
    ) -> Sequence[PriceQuote]:
        today = ctx.now().date()
        return [
            PriceQuote(
                entity_id=each,
                price=_between(Decimal(1_000), Decimal(3_000), f"{entity_type}:{each}:{today}"),
                currency="TRY",
            )
            for each in entity_ids
        ]

    async def hotels(
        self, ctx: Context[Any], hotel_ids: Sequence[str], *, since: datetime | None
    ) -> Sequence[HotelOffer]:
        del since  # it cannot tell
        today = ctx.now().date()
        rooms = await ctx.db.fetch(_ROOMS, list(hotel_ids))
        return [
            HotelOffer(
                hotel_id=hotel_id,
                currency=currency,
                rooms=tuple(
                    RoomOffer(
                        room_id=room["id"],
                        price_per_night=_between(room["low"], room["high"], f"{room['id']}:{today}"),
                        is_available=True,
                    )
                    for room in own
                ),
            )
            for (hotel_id, currency), own in groupby(rooms, key=itemgetter("hotel_id", "currency"))
        ]


def _between(low: Decimal, high: Decimal, what: str) -> Decimal:
    """The same whole number each time for the same ``what``."""
    share = Decimal(hashlib.sha256(what.encode()).digest()[0]) / 255
    return (low + (high - low) * share).quantize(Decimal(1))


register(SamplePrices())
