"""Recommendations: picks hotels for a guest by what was booked before, and says so once a day.

The rules need no service. A recommender that is configured improves on them while it answers; without it, they stand.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta
from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from skycap import Cancel, Context, Discard, PartnerRefused, Plugin, RateLimited, Ttl, Unavailable
from skycap_travel.content.tastes import History, Hotel, Pick, Taste, picks
from skycap_travel.metadata.moments import ZoneName
from skycap_travel.notices import hotels_recommended
from skycap_travel.payloads.recommendations import GenerateAiRecommendations
from skycap_travel.recommenders import Chat, Recommender, recommender_called
from skycap_travel.rows import stored

__all__ = ["GenerateAiRecommendations", "RecommendationsSettings", "generate_ai_recommendations", "plugin"]

_MOST_BOOKINGS: Final = 100
_MOST_HOTELS: Final = 200
_SENT_HOTELS: Final = 40
"""As many of them, the best by the rules, are shown to a recommender: a chat is paid by the word."""

_NAMED: Final = 3  # in the notification's text

USER = """
    SELECT "preferredLanguage" AS language, "isActive" AS is_active FROM users WHERE id = $1
"""

BOOKINGS_OF_USER = """
    SELECT "bookingType"::text AS booking_type, "totalAmount" AS total_amount, currency, "checkInDate" AS check_in,
           "checkOutDate" AS check_out, "metaData"::text AS meta_data
      FROM bookings
     WHERE "userId" = $1 AND status IN ('PENDING', 'CONFIRMED', 'COMPLETED')
     ORDER BY "createdAt" DESC, id
     LIMIT $2
"""

HOTELS_OF_HISTORY = """
    SELECT id, city, region, stars FROM hotels WHERE id = ANY($1::text[]) OR name = ANY($2::text[])
"""

CANDIDATES = """
    SELECT id AS hotel_id, name, city, region, stars, rating, "priceMin" AS price_min, "priceMax" AS price_max, currency
      FROM hotels
     WHERE "isActive" AND id <> ALL($1::text[])
     ORDER BY city = ANY($2::text[]) DESC, region = ANY($3::text[]) DESC, (rating <> 'NaN') DESC, rating DESC, id
     LIMIT $4
"""

POPULAR = """
    SELECT "metaData" ->> 'hotelId' AS hotel_id, count(*) AS bookings
      FROM bookings
     WHERE "createdAt" >= $1 AND status IN ('CONFIRMED', 'COMPLETED') AND jsonb_typeof("metaData") = 'object'
       AND "metaData" ->> 'hotelId' IS NOT NULL
     GROUP BY 1
     ORDER BY 2 DESC, 1
     LIMIT 500
"""

_POPULAR_FOR: Final = timedelta(days=90)

# The id says the user and the day, so that of two jobs at once one writes; the backend may have written, too.
NOTIFY_RECOMMENDED = """
    INSERT INTO notifications (id, "userId", type, title, message, data, "createdAt")
    SELECT $1, $2, 'AI_RECOMMENDATION', $3, $4, $5::text::jsonb, $6
     WHERE NOT EXISTS (
           SELECT FROM notifications
            WHERE "userId" = $2 AND type = 'AI_RECOMMENDATION' AND "createdAt" >= $7 AND "createdAt" < $8)
    ON CONFLICT (id) DO NOTHING
"""


def _https(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme != "https" or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError("write an address like https://api.openai.com/v1/chat/completions")
    return address


class RecommendationsSettings(BaseModel):
    """``[plugins.recommendations]``. ``recommender`` is ``rules``, ``chat``, or one that a plugin has registered.

    ``chat`` sends what a guest booked, without who the guest is, to ``chat_url``, with ``chat_key``; it needs both.
    ``time_zone`` is the one in which the day of a notification is reckoned.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    recommender: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$")] = "rules"
    chat_url: Annotated[str, AfterValidator(_https)] | None = None
    chat_key: SecretStr | None = None
    chat_model: Annotated[str, Field(min_length=1, max_length=100)] = "gpt-4o-mini"
    time_zone: ZoneName = "Europe/Istanbul"

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.recommender == "chat" and (self.chat_url is None or not self.chat_key):
            raise ValueError('recommender = "chat" needs chat_url and chat_key; or write recommender = "rules"')
        return self


plugin = Plugin("recommendations", settings=RecommendationsSettings)


# No breakers=("openai",): the rules stand in while that one is open.
@plugin.job(tables=("users", "bookings", "hotels", "notifications"))
async def generate_ai_recommendations(
    ctx: Context[RecommendationsSettings], payload: GenerateAiRecommendations
) -> dict[str, Any]:
    user = await ctx.db.fetchrow(USER, payload.user_id)
    if user is None:
        raise Discard(f"user {payload.user_id} does not exist")
    if not user["is_active"]:
        raise Cancel(f"user {payload.user_id}'s account is not active")
    taste, hotels = await _looked_up(ctx, payload.user_id)
    by_rules = picks(hotels, taste)
    chosen, source = await _improved(ctx, taste, by_rules, payload.limit)
    if not chosen:
        raise Cancel(f"there is no hotel that user {payload.user_id} has not booked")
    found = {
        "userId": payload.user_id,
        "generatedAt": ctx.now().isoformat(),
        "source": source,
        "hotels": [_shown(pick) for pick in chosen],
    }
    await ctx.cache.set(
        f"ai-recommendation:{payload.user_id}", found, ttl=Ttl.VERY_LONG, tags=(f"user:{payload.user_id}",)
    )
    notified = await _notify(ctx, payload.user_id, user["language"], chosen, source)
    return {"source": source, "hotelIds": [pick.hotel.hotel_id for pick in chosen], "notified": notified}


async def _looked_up(ctx: Context[RecommendationsSettings], user_id: str) -> tuple[Taste, list[Hotel]]:
    """The guest's taste, and hotels that the guest has not booked."""
    history = History.of(await ctx.db.fetch(BOOKINGS_OF_USER, user_id, _MOST_BOOKINGS))
    stayed = await ctx.db.fetch(HOTELS_OF_HISTORY, sorted(history.hotel_ids), sorted(history.hotel_names))
    cities = history.cities | {row["city"] for row in stayed}
    regions = {row["region"] for row in stayed}
    booked = history.hotel_ids | {row["id"] for row in stayed}
    records = await ctx.db.fetch(CANDIDATES, sorted(booked), sorted(cities), sorted(regions), _MOST_HOTELS)
    popular = await _popular(ctx)
    hotels = [Hotel.from_record(record, popular.get(record["hotel_id"], 0)) for record in records]
    stars = [row["stars"] for row in stayed]
    taste = Taste(
        # What a guest wrote as a city may be anything; what a hotel has as its city is one.
        cities=frozenset(cities & ({hotel.city for hotel in hotels} | {row["city"] for row in stayed})),
        regions=frozenset(regions),
        stars=sum(stars) / len(stars) if stars else None,
        nights=history.nights,
    )
    return taste, hotels


async def _popular(ctx: Context[RecommendationsSettings]) -> Mapping[str, int]:
    """Bookings of the last months by hotel; it reads many rows, and is the same for all guests."""

    async def load() -> dict[str, int]:
        since = stored(ctx.now() - _POPULAR_FOR)
        return {row["hotel_id"]: row["bookings"] for row in await ctx.db.fetch(POPULAR, since)}

    return await ctx.cache.get_or_load("hotel-popularity:bookings", load, model=dict[str, int], ttl=Ttl.VERY_LONG)


async def _improved(
    ctx: Context[RecommendationsSettings], taste: Taste, by_rules: Sequence[Pick], limit: int
) -> tuple[list[Pick], str]:
    """The first ``limit``, and who chose them."""
    recommender = _recommender(ctx.settings)
    if recommender is None or not by_rules:
        return list(by_rules[:limit]), "rules"
    shown = {pick.hotel.hotel_id: pick for pick in by_rules[:_SENT_HOTELS]}
    try:
        ids = await recommender.order(ctx, taste, [pick.hotel for pick in shown.values()], limit=limit)
    except (Unavailable, PartnerRefused, RateLimited, TimeoutError) as error:
        ctx.log.warning("the recommender does not answer; the rules stand in", problem=type(error).__name__)
        return list(by_rules[:limit]), "rules"
    ordered = [shown[each] for each in dict.fromkeys(ids) if each in shown]  # it may make up hotels
    rest = [pick for pick in by_rules if pick not in ordered]
    return [*ordered, *rest][:limit], ctx.settings.recommender if ordered else "rules"


def _recommender(settings: RecommendationsSettings) -> Recommender | None:
    if settings.recommender == "rules":
        return None
    if settings.recommender == "chat" and settings.chat_url and settings.chat_key:
        return Chat(url=settings.chat_url, key=settings.chat_key, model=settings.chat_model)
    found = recommender_called(settings.recommender)
    if found is None:
        raise Discard(
            f"no plugin has registered {settings.recommender!r}, which is plugins.recommendations.recommender: "
            "install its plugin, or write rules"
        )
    return found


async def _notify(
    ctx: Context[RecommendationsSettings], user_id: str, language: str, chosen: Sequence[Pick], source: str
) -> bool:
    now = ctx.now()
    zone = ZoneInfo(ctx.settings.time_zone)
    today = now.astimezone(zone).date()
    title, message = hotels_recommended(", ".join(pick.hotel.name for pick in chosen[:_NAMED]), language=language)
    data = {"hotelIds": [pick.hotel.hotel_id for pick in chosen], "source": source}
    done = await ctx.db.execute(
        NOTIFY_RECOMMENDED,
        f"c{hashlib.sha256(f'ai-recommendation:{user_id}:{today}'.encode()).hexdigest()[:24]}",
        user_id,
        title,
        message,
        json.dumps(data, ensure_ascii=False),
        stored(now),
        stored(datetime.combine(today, time(), tzinfo=zone)),
        stored(datetime.combine(today + timedelta(days=1), time(), tzinfo=zone)),
    )
    return done.endswith(" 1")


def _shown(pick: Pick) -> dict[str, Any]:
    hotel = pick.hotel
    return {
        "hotelId": hotel.hotel_id,
        "name": hotel.name,
        "city": hotel.city,
        "stars": hotel.stars,
        "reasons": list(pick.reasons),
    }
