"""Recommenders: what puts hotels in an order for one guest. One asks an OpenAI-compatible chat; plugins add others.

None of them is told who the guest is: a Taste has places, stars and prices, and no names or addresses.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Protocol, cast

from pydantic import SecretStr

from skycap import Context, Unavailable
from skycap_travel.content.tastes import Hotel, Taste

BREAKER: Final = "openai"

_INSTRUCTION: Final = (
    "You order hotels for a traveller by how well they fit what the traveller booked before. "
    'Answer with JSON alone: {"hotelIds": ["…"]}, the best first, with ids of the given hotels only.'
)
_PATIENCE: Final = timedelta(seconds=20)


class Recommender(Protocol):
    """Returns ids of ``hotels``, the best first; those that it leaves out follow as the rules have them.

    What it raises of Unavailable, PartnerRefused and RateLimited leaves all to the rules.
    """

    async def order(self, ctx: Context[Any], taste: Taste, hotels: Sequence[Hotel], *, limit: int) -> Sequence[str]: ...


_registered: dict[str, Recommender] = {}


def register_recommender(name: str, recommender: Recommender) -> None:
    """Make ``recommender`` one that ``plugins.recommendations.recommender`` can name."""
    if name in {"rules", "chat"}:
        raise TypeError(f"the recommender {name!r} is skycap's own; give yours another name")
    _registered[name] = recommender


def recommender_called(name: str) -> Recommender | None:
    return _registered.get(name)


@dataclass(frozen=True, kw_only=True)
class Chat:
    """An endpoint as OpenAI's ``/v1/chat/completions``, behind the breaker ``openai``."""

    url: str
    key: SecretStr
    model: str

    async def order(self, ctx: Context[Any], taste: Taste, hotels: Sequence[Hotel], *, limit: int) -> Sequence[str]:
        reply = await ctx.http.request(
            "POST",
            self.url,
            breaker=BREAKER,
            headers={"Authorization": f"Bearer {self.key.get_secret_value()}"},
            json={
                "model": self.model,
                "temperature": 0,
                "messages": [
                    {"role": "system", "content": _INSTRUCTION},
                    {"role": "user", "content": _question(taste, hotels, limit)},
                ],
            },
            timeout=_PATIENCE,
        )
        try:
            return _answer(reply.json())
        except (ValueError, LookupError, TypeError, RecursionError):
            raise Unavailable(BREAKER, "its answer is not the JSON that was asked for") from None


def _question(taste: Taste, hotels: Sequence[Hotel], limit: int) -> str:
    return json.dumps(
        {
            "limit": limit,
            "traveller": {
                "cities": sorted(taste.cities),
                "regions": sorted(taste.regions),
                "stars": taste.stars,
                "nightlyPrices": {
                    currency: [f"{price.low:.2f}", f"{price.high:.2f}"] for currency, price in taste.nights.items()
                },
            },
            "hotels": [
                {
                    "id": hotel.hotel_id,
                    "city": hotel.city,
                    "region": hotel.region,
                    "stars": hotel.stars,
                    "rating": f"{hotel.rating:.1f}",
                    "nightlyPrice": [f"{hotel.price_min:.2f}", f"{hotel.price_max:.2f}", hotel.currency],
                }
                for hotel in hotels
            ],
        },
        ensure_ascii=False,
    )


def _answer(document: Any) -> list[str]:
    content = json.loads(document["choices"][0]["message"]["content"])
    ids = content["hotelIds"]
    if not isinstance(ids, list):
        raise TypeError("hotelIds is no list")
    return [each for each in cast("list[object]", ids) if isinstance(each, str)]
