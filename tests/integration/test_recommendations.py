"""Hotels picked for a guest, on a real PostgreSQL with the backend's tables; a chat that answers and fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from skycap import BreakerOpen, HttpReply, InvalidPayload, JobState, PartnerRefused, RateLimited, Unavailable
from skycap.discovery import PluginChoice, load
from skycap.outcome import Cancelled, Discarded
from skycap.services.database import DatabasePool
from skycap.testing import Performed, perform
from skycap.testing.stand_ins import KeptForOneAttempt
from skycap_travel.payloads import GenerateAiRecommendations
from skycap_travel.recommendations import RecommendationsSettings, generate_ai_recommendations
from skycap_travel.recommenders import register_recommender
from tests.support.travel import add_booking, add_hotel, add_user, travel_database

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
CHAT = RecommendationsSettings(
    recommender="chat", chat_url="https://ai.example.com/v1/chat/completions", chat_key=SecretStr("key-1")
)


class Partner:
    """An endpoint that answers with these ids, with this text, or with an error."""

    def __init__(self, answer: Sequence[str] | str | BaseException) -> None:
        self._answer = answer
        self.calls: list[dict[str, Any]] = []

    async def request(self, method: str, url: str, **options: Any) -> HttpReply:
        self.calls.append({"method": method, "url": url} | options)
        if isinstance(self._answer, BaseException):
            raise self._answer
        text = self._answer if isinstance(self._answer, str) else json.dumps({"hotelIds": list(self._answer)})
        return HttpReply(status=200, content=json.dumps({"choices": [{"message": {"content": text}}]}).encode())


@pytest.fixture
async def travel(database_url: str) -> AsyncGenerator[DatabasePool]:
    """A guest who stayed in Çeşme, for 1,000 lira a night; two hotels there, one in its region, and two elsewhere."""
    async with travel_database(database_url) as database:
        await add_user(database, name="Ayşe Yılmaz", preferredLanguage="de")
        await add_hotel(database, "stayed")
        await add_hotel(database, "same-city", rating=Decimal(3))
        await add_hotel(database, "same-city-dear", rating=Decimal(3), priceMin=Decimal(9000), priceMax=Decimal(9900))
        await add_hotel(database, "same-region", city="Foça")
        await add_hotel(database, "elsewhere", city="Kaş", region="Antalya", rating=Decimal("4.9"))
        await add_hotel(database, "elsewhere-euro", city="Kaş", region="Antalya", currency="EUR")
        await add_hotel(database, "closed", isActive=False, rating=Decimal(5))
        await add_booking(
            database,
            metaData={"hotelId": "stayed", "city": "Çeşme", "guestNames": ["Deniz"], "address": "Ev 7"},
            totalAmount=Decimal(4000),
            checkInDate=datetime.fromisoformat("2026-06-11"),
            checkOutDate=datetime.fromisoformat("2026-06-15"),
            status="COMPLETED",
        )
        yield database


async def recommend(
    travel: DatabasePool,
    *,
    settings: RecommendationsSettings | None = None,
    http: Partner | None = None,
    now: datetime = NOW,
    **fields: Any,
) -> Performed:
    payload = GenerateAiRecommendations.model_validate({"user_id": "user-1"} | fields)
    return await perform(
        generate_ai_recommendations,
        payload,
        settings=settings or RecommendationsSettings(),
        db=travel,
        http=http,
        now=now,
    )


async def notices(travel: DatabasePool) -> Sequence[Any]:
    return await travel.fetch(
        'SELECT id, type::text, title, message, data::text FROM notifications ORDER BY "createdAt"'
    )


async def test_places_stars_and_prices_of_earlier_stays_come_first(travel: DatabasePool) -> None:
    done = await recommend(travel)
    assert done.result == {
        "source": "rules",
        "hotelIds": ["same-city", "same-city-dear", "same-region", "elsewhere", "elsewhere-euro"],
        "notified": True,
    }


async def test_the_result_is_kept_for_the_backend_with_its_reasons(
    travel: DatabasePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: dict[str, Any] = {}

    keep = KeptForOneAttempt.set

    async def note(cache: KeptForOneAttempt, key: str, value: Any, **options: Any) -> None:
        kept[key] = (value, options)
        await keep(cache, key, value, **options)

    monkeypatch.setattr(KeptForOneAttempt, "set", note)
    await recommend(travel, limit=1)
    value, options = kept["ai-recommendation:user-1"]
    assert options == {"ttl": timedelta(days=1), "tags": ("user:user-1",)}
    assert value == {
        "userId": "user-1",
        "generatedAt": "2026-11-28T12:00:00+00:00",
        "source": "rules",
        "hotels": [
            {
                "hotelId": "same-city",
                "name": "Hotel same-city",
                "city": "Çeşme",
                "stars": 4,
                "reasons": ["city", "region", "stars", "price", "rating"],
            }
        ],
    }


async def test_a_guest_is_told_once_a_day_however_many_jobs_there_are(travel: DatabasePool) -> None:
    done = await asyncio.gather(*(recommend(travel) for _ in range(5)))
    assert sorted(each.result["notified"] for each in done) == [False] * 4 + [True]
    (notice,) = await notices(travel)
    assert (notice["type"], notice["title"]) == ("AI_RECOMMENDATION", "Hotels für Sie")
    assert notice["message"] == "Für Sie ausgesucht: Hotel same-city, Hotel same-city-dear, Hotel same-region"
    assert json.loads(notice["data"])["hotelIds"][0] == "same-city"
    # 21:00 UTC is the next day in Istanbul.
    assert (await recommend(travel, now=NOW.replace(hour=20, minute=59))).result["notified"] is False
    assert (await recommend(travel, now=NOW.replace(hour=21))).result["notified"] is True
    assert len(await notices(travel)) == 2


async def test_a_guest_without_bookings_gets_what_others_like(travel: DatabasePool) -> None:
    await add_user(travel, "user-2")
    await add_booking(
        travel,
        "other",
        metaData={"hotelId": "same-region"},
        status="CONFIRMED",
        createdAt=datetime.fromisoformat("2026-11-01"),
    )
    done = await recommend(travel, user_id="user-2", limit=2)
    assert done.result["hotelIds"] == ["same-region", "stayed"]  # one booking each


@pytest.mark.parametrize(
    "meta_data", [None, [], "hotel", 7, {"hotelId": {"a": 1}}, {"hotel": []}, {"city": 7, "hotelId": "x" * 999}]
)
async def test_meta_data_of_any_shape_is_survived(travel: DatabasePool, meta_data: object) -> None:
    await add_booking(travel, "strange", metaData=meta_data, totalAmount=Decimal("NaN"), status="CONFIRMED")
    await travel.execute("""UPDATE hotels SET rating = 'NaN', "priceMin" = 'NaN' WHERE id = 'elsewhere'""")
    assert (await recommend(travel)).result["hotelIds"][0] == "same-city"


async def test_a_hotel_is_known_by_its_name_where_there_is_no_id(travel: DatabasePool) -> None:
    await add_booking(travel, "named", metaData={"hotel": {"name": "Hotel same-city"}}, status="CONFIRMED")
    assert "same-city" not in (await recommend(travel)).result["hotelIds"]


@pytest.mark.parametrize(
    ("change", "outcome", "reason"),
    [
        ("DELETE FROM bookings; DELETE FROM users", Discarded, "user user-1 does not exist"),
        ('UPDATE users SET "isActive" = false', Cancelled, "user user-1's account is not active"),
        ('UPDATE hotels SET "isActive" = false', Cancelled, "there is no hotel that user user-1 has not booked"),
    ],
)
async def test_where_there_is_nothing_to_recommend_the_job_says_why(
    travel: DatabasePool, change: str, outcome: type[Cancelled | Discarded], reason: str
) -> None:
    await travel.execute(change)
    done = await recommend(travel)
    assert isinstance(done.outcome, outcome)
    assert (done.outcome.reason if isinstance(done.outcome, Cancelled) else done.outcome.error) == reason
    assert await notices(travel) == []


async def test_a_chat_puts_hotels_in_order_and_the_rules_fill_up(travel: DatabasePool) -> None:
    partner = Partner(["elsewhere", "made-up", "elsewhere", "same-region"])
    done = await recommend(travel, settings=CHAT, http=partner, limit=3)
    assert done.result["hotelIds"] == ["elsewhere", "same-region", "same-city"]
    assert done.result["source"] == "chat"
    (call,) = partner.calls
    assert (call["method"], call["url"], call["breaker"]) == (
        "POST",
        "https://ai.example.com/v1/chat/completions",
        "openai",
    )
    assert call["headers"] == {"Authorization": "Bearer key-1"}


async def test_a_chat_is_never_told_who_the_guest_is(travel: DatabasePool) -> None:
    await add_booking(
        travel, "free", metaData={"city": "Ayşe Yılmaz, Ev 7"}, specialRequests="Ayşe", status="CONFIRMED"
    )
    partner = Partner([])
    await recommend(travel, settings=CHAT, http=partner)
    sent = json.dumps(partner.calls[0]["json"], ensure_ascii=False)
    assert "Çeşme" in sent
    for secret in ("Ayşe", "Deniz", "Ev 7", "user-1", "@", "BK-", "booking-1", "key-1"):
        assert secret not in sent


@pytest.mark.parametrize(
    "failure",
    [
        BreakerOpen("openai", timedelta(seconds=20)),
        Unavailable("openai", "no answer"),
        PartnerRefused("openai", 401),
        RateLimited(timedelta(seconds=20)),
        TimeoutError(),
        "I would rather not say.",
        "[]",
        '{"hotelIds": "elsewhere"}',
        '{"hotels": []}',
        '{"hotelIds": [7, null]}',
    ],
    ids=lambda failure: failure if isinstance(failure, str) else type(failure).__name__,
)
async def test_the_rules_stand_in_for_a_chat_that_does_not_answer(
    travel: DatabasePool, failure: BaseException | str
) -> None:
    done = await recommend(travel, settings=CHAT, http=Partner(failure), limit=1)
    assert (done.state, done.result["source"], done.result["hotelIds"]) == (
        JobState.COMPLETED,
        "rules",
        ["same-city"],
    )


async def test_a_plugin_can_bring_a_recommender(travel: DatabasePool) -> None:
    class Backwards:
        async def order(self, ctx: object, taste: object, hotels: Sequence[Any], *, limit: int) -> Sequence[str]:
            del ctx, taste
            return [hotel.hotel_id for hotel in reversed(hotels)][:limit]

    register_recommender("backwards", Backwards())
    done = await recommend(travel, settings=RecommendationsSettings(recommender="backwards"), limit=1)
    assert (done.result["source"], done.result["hotelIds"]) == ("backwards", ["elsewhere-euro"])
    missing = await recommend(travel, settings=RecommendationsSettings(recommender="missing"))
    assert isinstance(missing.outcome, Discarded)
    assert "no plugin has registered 'missing'" in missing.outcome.error
    with pytest.raises(TypeError, match="is skycap's own"):
        register_recommender("chat", Backwards())


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"recommender": "chat"}, 'recommender = "chat" needs chat_url and chat_key'),
        ({"chat_url": "http://ai.example.com/v1"}, "write an address like https://"),
        ({"chat_url": "https://user@ai.example.com/v1"}, "write an address like https://"),
        ({"time_zone": "Europe"}, "give an IANA name"),
    ],
)
def test_settings_that_cannot_work_stop_the_start(settings: dict[str, str], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        RecommendationsSettings.model_validate(settings)


def test_the_key_is_shown_nowhere() -> None:
    assert "key-1" not in repr(CHAT)
    with pytest.raises(ValidationError) as refused:
        RecommendationsSettings.model_validate({"chat_key": "key-1", "chat_url": "no"})
    assert "key-1" not in str(refused.value)


def test_no_breaker_holds_the_kind_back_since_the_rules_stand_in() -> None:
    assert generate_ai_recommendations.breakers == ()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "userId: is missing; give a value"),
        ({"userId": "u", "limit": 0}, "limit: input should be greater than or equal to 1"),
        ({"userId": "u", "limit": 21}, "limit: input should be less than or equal to 20"),
        ({"userId": "u", "limit": "5"}, "limit: input should be a valid integer"),
        ({"userId": ""}, "userId: string should have at least 1 character"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_when_it_is_enqueued(fields: dict[str, Any], problem: str) -> None:
    registry = load(PluginChoice(only=frozenset({"recommendations"})))
    with pytest.raises(InvalidPayload) as refused:
        registry.checked_payload("generate-ai-recommendations", fields)
    assert refused.value.problems == [problem]
