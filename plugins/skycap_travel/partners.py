"""Partners: brings prices and availability of hotels up to date with what a provider says.

It changes rows that are there, and makes none: a hotel needs a name, an address and a picture, and prices have none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from skycap import Context, Plugin
from skycap_travel.payloads.partners import SyncExternalData
from skycap_travel.providers import MOST_IDS, HotelOffer, guarded, is_currency, is_price, provider_called
from skycap_travel.rows import stored

__all__ = ["SyncExternalData", "plugin", "sync_external_data"]

ACTIVE_HOTELS_AFTER = """
    SELECT id FROM hotels WHERE "isActive" AND id > $1 ORDER BY id LIMIT $2
"""

CURRENCIES_OF_HOTELS = """
    SELECT id, currency FROM hotels WHERE id = ANY($1::text[])
"""

ROOMS_OF_HOTELS = """
    SELECT id, "hotelId" AS hotel_id, currency FROM hotel_rooms WHERE "hotelId" = ANY($1::text[])
"""

# Rows are taken in the order of their ids, so that two such jobs never wait for each other.
UPDATE_HOTELS = """
    WITH offered AS (
        SELECT * FROM unnest($1::text[], $2::text[], $3::numeric[], $4::numeric[]) AS o (id, currency, low, high)
    ), locked AS (
        SELECT h.id, coalesce(o.low, h."priceMin") AS low, coalesce(o.high, h."priceMax") AS high
          FROM hotels h JOIN offered o ON o.id = h.id AND o.currency = h.currency
         ORDER BY h.id
           FOR NO KEY UPDATE OF h
    )
    UPDATE hotels h
       SET "priceMin" = l.low, "priceMax" = l.high, "updatedAt" = $5
      FROM locked l
     WHERE h.id = l.id AND l.low <= l.high AND (h."priceMin", h."priceMax") IS DISTINCT FROM (l.low, l.high)
    RETURNING h.id
"""

UPDATE_ROOMS = """
    WITH offered AS (
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::numeric[], $5::boolean[])
                   AS o (id, hotel_id, currency, price, available)
    ), locked AS (
        SELECT r.id,
               CASE WHEN o.currency = r.currency THEN coalesce(o.price, r."pricePerNight") ELSE r."pricePerNight" END
                   AS price,
               coalesce(o.available, r."isAvailable") AS available
          FROM hotel_rooms r JOIN offered o ON o.id = r.id AND o.hotel_id = r."hotelId"
         ORDER BY r.id
           FOR NO KEY UPDATE OF r
    )
    UPDATE hotel_rooms r
       SET "pricePerNight" = l.price, "isAvailable" = l.available, "updatedAt" = $6
      FROM locked l
     WHERE r.id = l.id AND (r."pricePerNight", r."isAvailable") IS DISTINCT FROM (l.price, l.available)
    RETURNING r.id, r."hotelId" AS hotel_id
"""

_SHOWN: Final = 10
"""Ids that a note of the job names; the result has the numbers."""

HOTEL_SEARCHES: Final = "hotel-search"
"""The tag of what was kept of searches, beside ``hotel:ID`` of what was kept of one hotel."""

plugin = Plugin("partners")


@dataclass(kw_only=True)
class _Counts:
    """What became of all that was offered."""

    asked: int = 0
    hotels: int = 0
    rooms: int = 0
    unknown: int = 0
    """Hotels and rooms that no row has."""
    in_another_currency: int = 0
    refused: int = 0
    """Amounts that are none, and currencies that are none."""

    def result(self) -> dict[str, int]:
        return {
            "asked": self.asked,
            "hotelsChanged": self.hotels,
            "roomsChanged": self.rooms,
            "unknownIds": self.unknown,
            "inAnotherCurrency": self.in_another_currency,
            "refused": self.refused,
        }


@plugin.job(timeout=timedelta(minutes=30), tables=("hotels", "hotel_rooms"))
async def sync_external_data(ctx: Context, payload: SyncExternalData) -> dict[str, int]:
    provider = provider_called(payload.provider)
    counts = _Counts()
    async for hotel_ids in _batches(ctx, payload):
        async with guarded(ctx, provider):
            offers = await provider.hotels(ctx, hotel_ids, since=payload.since)
        counts.asked += len(hotel_ids)
        await _take(ctx, offers, counts)
    return counts.result()


async def _batches(ctx: Context, payload: SyncExternalData) -> AsyncIterator[Sequence[str]]:
    if payload.entity_ids is not None:
        hotel_ids = list(dict.fromkeys(payload.entity_ids))
        for begin in range(0, len(hotel_ids), MOST_IDS):
            yield hotel_ids[begin : begin + MOST_IDS]
        return
    last = ""
    while hotel_ids := [row["id"] for row in await ctx.db.fetch(ACTIVE_HOTELS_AFTER, last, MOST_IDS)]:
        yield hotel_ids
        last = hotel_ids[-1]


async def _take(ctx: Context, offers: Iterable[HotelOffer], counts: _Counts) -> None:
    usable = await _usable(ctx, offers, counts)
    if not usable:
        return
    changed = await _write(ctx, usable, stored(ctx.now()), counts)
    if changed:
        # The backend keeps some without a tag.
        await ctx.cache.delete(*(f"hotel:{hotel_id}" for hotel_id in sorted(changed)))
        await ctx.cache.invalidate(*(f"hotel:{hotel_id}" for hotel_id in sorted(changed)), HOTEL_SEARCHES)


@dataclass(frozen=True, kw_only=True)
class _Room:
    room_id: str
    hotel_id: str
    currency: str
    price: Decimal | None
    is_available: bool | None


@dataclass(frozen=True, kw_only=True)
class _Usable:
    """What can be written: amounts that are prices, of rows that are there, in the rows' own currency."""

    hotels: tuple[HotelOffer, ...]
    rooms: tuple[_Room, ...]

    def __bool__(self) -> bool:
        return bool(self.hotels or self.rooms)


async def _usable(ctx: Context, offers: Iterable[HotelOffer], counts: _Counts) -> _Usable:
    offered = {offer.hotel_id: offer for offer in offers}  # of two for one hotel, the last counts
    hotel_ids = sorted(offered)
    currencies = {row["id"]: row["currency"] for row in await ctx.db.fresh.fetch(CURRENCIES_OF_HOTELS, hotel_ids)}
    own_rooms = {
        (row["hotel_id"], row["id"]): row["currency"] for row in await ctx.db.fresh.fetch(ROOMS_OF_HOTELS, hotel_ids)
    }
    unknown: list[str] = []
    hotels: list[HotelOffer] = []
    rooms: list[_Room] = []
    for offer in offered.values():
        if offer.hotel_id not in currencies:
            unknown.append(offer.hotel_id)
            continue
        hotels += _hotel(offer, currencies[offer.hotel_id], counts)
        for room in {room.room_id: room for room in offer.rooms}.values():
            currency = own_rooms.get((offer.hotel_id, room.room_id))
            if currency is None:
                unknown.append(room.room_id)
                continue
            price = _price(room.price_per_night, offer.currency, currency, counts)
            if price is not None or room.is_available is not None:
                rooms.append(
                    _Room(
                        room_id=room.room_id,
                        hotel_id=offer.hotel_id,
                        currency=currency,
                        price=price,
                        is_available=room.is_available,
                    )
                )
    counts.unknown += len(unknown)
    if unknown:
        more = f" and {len(unknown) - _SHOWN:,} more" if len(unknown) > _SHOWN else ""
        await ctx.note(f"the provider knows what we do not: {', '.join(unknown[:_SHOWN])}{more}")
    return _Usable(hotels=tuple(hotels), rooms=tuple(rooms))


def _hotel(offer: HotelOffer, currency: str, counts: _Counts) -> list[HotelOffer]:
    low = _price(offer.price_min, offer.currency, currency, counts)
    high = _price(offer.price_max, offer.currency, currency, counts)
    if low is None and high is None:
        return []
    if low is not None and high is not None and low > high:
        counts.refused += 1
        return []
    return [HotelOffer(hotel_id=offer.hotel_id, currency=currency, price_min=low, price_max=high)]


def _price(amount: Decimal | None, offered_in: str, kept_in: str, counts: _Counts) -> Decimal | None:
    """None for what must not be written: a price in another currency would be compared with those of before."""
    if amount is None:
        return None
    if not is_price(amount) or not is_currency(offered_in):
        counts.refused += 1
        return None
    if offered_in != kept_in:
        counts.in_another_currency += 1
        return None
    return amount


async def _write(ctx: Context, usable: _Usable, written: datetime, counts: _Counts) -> set[str]:
    """The hotels of which anything has changed."""
    hotels, rooms = usable.hotels, usable.rooms
    async with ctx.db.transaction() as transaction:
        changed_hotels = await transaction.fetch(
            UPDATE_HOTELS,
            [offer.hotel_id for offer in hotels],
            [offer.currency for offer in hotels],
            [offer.price_min for offer in hotels],
            [offer.price_max for offer in hotels],
            written,
        )
        changed_rooms = await transaction.fetch(
            UPDATE_ROOMS,
            [room.room_id for room in rooms],
            [room.hotel_id for room in rooms],
            [room.currency for room in rooms],
            [room.price for room in rooms],
            [room.is_available for room in rooms],
            written,
        )
    counts.hotels += len(changed_hotels)
    counts.rooms += len(changed_rooms)
    return {row["id"] for row in changed_hotels} | {row["hotel_id"] for row in changed_rooms}
