"""Tastes: what a guest's bookings say about the next hotel, and how well a hotel fits; rules, without any service."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple, Self

from skycap_travel.metadata.facts import facts, first_text
from skycap_travel.rows import one_line, read_object

_HOTEL_IDS: Final = ("hotelId", "hotel.id")
_LONGEST_ID: Final = 128
_CHEAPER, _DEARER = Decimal("0.7"), Decimal("1.3")
_BEST_RATING: Final = 5


class PriceRange(NamedTuple):
    """For a night, in one currency."""

    low: Decimal
    high: Decimal


@dataclass(frozen=True, kw_only=True)
class History:
    """What the bookings themselves name; texts are as free as metaData is."""

    hotel_ids: frozenset[str] = frozenset()
    hotel_names: frozenset[str] = frozenset()
    cities: frozenset[str] = frozenset()
    nights: Mapping[str, PriceRange] = field(default_factory=dict[str, PriceRange])
    """By currency."""

    @classmethod
    def of(cls, records: Iterable[Mapping[str, Any]]) -> Self:
        ids: set[str] = set()
        names: set[str] = set()
        cities: set[str] = set()
        nights: dict[str, PriceRange] = {}
        for record in records:
            meta_data = read_object(record["meta_data"])
            found = facts(record["booking_type"], meta_data)
            hotel_id = first_text(meta_data, _HOTEL_IDS)
            ids |= {hotel_id} if hotel_id and len(hotel_id) <= _LONGEST_ID else set()
            name = found["hotel"] or (found["name"] if record["booking_type"] == "HOTEL" else None)
            names |= {name} if name else set()
            cities |= {found["city"]} if found["city"] else set()
            price = _night(record)
            if price is not None:
                known = nights.get(record["currency"], PriceRange(price, price))
                nights[record["currency"]] = PriceRange(min(known.low, price), max(known.high, price))
        return cls(hotel_ids=frozenset(ids), hotel_names=frozenset(names), cities=frozenset(cities), nights=nights)


@dataclass(frozen=True, kw_only=True)
class Hotel:
    """One that can be recommended. ``bookings`` are those of the last months."""

    hotel_id: str
    name: str
    city: str
    region: str
    stars: int
    rating: Decimal
    price_min: Decimal
    price_max: Decimal
    currency: str
    bookings: int = 0

    @classmethod
    def from_record(cls, record: Mapping[str, Any], bookings: int = 0) -> Self:
        name = one_line(record["name"]) or record["hotel_id"]
        columns: dict[str, Any] = {**record, "name": name, "bookings": bookings}
        return cls(**columns)


@dataclass(frozen=True, kw_only=True)
class Taste:
    """Places and stars are those of hotels that the backend has; nothing in it tells who the guest is."""

    cities: frozenset[str] = frozenset()
    regions: frozenset[str] = frozenset()
    stars: float | None = None
    """On average."""
    nights: Mapping[str, PriceRange] = field(default_factory=dict[str, PriceRange])


class Pick(NamedTuple):
    """A hotel, and why: ``city``, ``region``, ``stars``, ``price``, ``rating``, ``popular``."""

    hotel: Hotel
    reasons: tuple[str, ...]


def picks(hotels: Sequence[Hotel], taste: Taste) -> list[Pick]:
    """All of ``hotels``, the best first; of equals the one whose id comes first."""
    most = max((hotel.bookings for hotel in hotels), default=0)
    weighed = [(hotel, _weights(hotel, taste, most)) for hotel in hotels]
    weighed.sort(key=lambda each: (-sum(each[1].values()), each[0].hotel_id))
    return [Pick(hotel, tuple(reason for reason, weight in weights.items() if weight)) for hotel, weights in weighed]


def _weights(hotel: Hotel, taste: Taste, most_bookings: int) -> dict[str, float]:
    """Where it is counts most, then what it is like, then what others think."""
    price = taste.nights.get(hotel.currency) if hotel.price_min.is_finite() and hotel.price_max.is_finite() else None
    fits = price is not None and hotel.price_min <= price.high * _DEARER and hotel.price_max >= price.low * _CHEAPER
    rating = float(hotel.rating) if hotel.rating.is_finite() else 0.0
    return {
        "city": 3.0 if hotel.city in taste.cities else 0.0,
        "region": 1.5 if hotel.region in taste.regions else 0.0,
        "stars": 0.0 if taste.stars is None else max(0.0, 1 - abs(hotel.stars - taste.stars) / 2),
        "price": 1.0 if fits else 0.0,
        "rating": 2 * min(max(rating, 0.0), _BEST_RATING) / _BEST_RATING,
        "popular": hotel.bookings / most_bookings if most_bookings else 0.0,
    }


def _night(record: Mapping[str, Any]) -> Decimal | None:
    """What a night of a hotel booking cost."""
    starts, ends, total = record["check_in"], record["check_out"], record["total_amount"]
    if record["booking_type"] != "HOTEL" or not isinstance(starts, datetime) or not isinstance(ends, datetime):
        return None
    nights = (ends.date() - starts.date()).days
    return total / nights if nights > 0 and total.is_finite() and total > 0 else None
