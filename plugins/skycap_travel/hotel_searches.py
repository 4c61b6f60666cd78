"""HotelSearches: the searches that many guests make, found in the cache before they are made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Self
from urllib.parse import quote, unquote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from skycap import Cache, Database, Ttl

KEPT: timedelta = Ttl.LONG
"""Of a result: twice as long as the schedule takes to load it again."""

_KEY = re.compile(r"hotel-search:city=(?P<city>[^:]+):stars=(?P<stars>[1-5]|any)")

TAG = "hotel-search"
"""Whoever changes hotels invalidates it, and no search is found as it was."""

_SEARCH = """
    SELECT id, slug, name, city, region, country, stars, rating, "hotelType"::text AS "hotelType", "mainImage",
           "priceMin", "priceMax", currency, "isFeatured"
      FROM hotels
     WHERE "isActive" AND city = $1 AND ($2::int IS NULL OR stars = $2)
     ORDER BY rating DESC, id
     LIMIT $3
"""


class HotelSearch(BaseModel):
    """One of ``[[plugins.upkeep.hot_hotel_searches]]``; without ``stars``, hotels of any class."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    city: Annotated[str, Field(min_length=1, max_length=200)]
    stars: Annotated[int, Field(ge=1, le=5)] | None = None

    @property
    def key(self) -> str:
        """``hotel-search:city=Antalya:stars=5``; percent-encoded as in an address, and ``any`` for no stars."""
        return f"hotel-search:city={quote(self.city, safe='')}:stars={self.stars or 'any'}"

    @classmethod
    def of_key(cls, key: str) -> Self | None:
        """The search whose ``key`` this is; None for any other key of the cache."""
        found = _KEY.fullmatch(key)
        if found is None:
            return None
        stars = None if found["stars"] == "any" else int(found["stars"])
        try:
            search = cls(city=unquote(found["city"], errors="strict"), stars=stars)
        except (UnicodeDecodeError, ValidationError):
            return None
        return search if search.key == key else None  # another spelling is another key


async def load(database: Database, cache: Cache, search: HotelSearch, *, most: int) -> int:
    """Put the result into the cache; how many hotels it has.

    The value is a JSON list of hotels by the backend's column names, best rating first; amounts are texts, as in JSON
    that must not lose a digit.
    """
    rows = await database.fetch(_SEARCH, search.city, search.stars, most)
    await cache.set(search.key, [_plain(row) for row in rows], ttl=KEPT, tags=[TAG])
    return len(rows)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: f"{value.normalize():f}" if isinstance(value, Decimal) else value for name, value in row.items()}
