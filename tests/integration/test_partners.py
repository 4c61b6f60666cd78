"""Hotels that are brought up to date from a partner, on a real PostgreSQL with the backend's tables."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from skycap import BreakerOpen, InvalidPayload, JobState, PartnerRefused
from skycap.discovery import PluginChoice, load
from skycap.outcome import Discarded, Snoozed
from skycap.services.database import DatabasePool
from skycap.testing import Performed, perform
from skycap_travel import providers
from skycap_travel.partners import sync_external_data
from skycap_travel.payloads import EntityType, SyncExternalData
from skycap_travel.providers import HotelOffer, PriceQuote, RoomOffer, provider_called, register
from tests.support.travel import WRITTEN, add_hotel, add_room, travel_database

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
EXAMPLE = Path(__file__).resolve().parents[2] / "plugins" / "examples" / "prices.py"

Answer = Callable[[Sequence[str]], Sequence[HotelOffer]]


class Partner:
    """Answers as the test says."""

    name = "partner"

    def __init__(self, answer: Answer, breaker: str | None = None) -> None:
        self.answer = answer
        self.breaker = breaker
        self.asked: list[list[str]] = []
        self.since: datetime | None = None

    async def prices(self, ctx: Any, entity_type: EntityType, entity_ids: Sequence[str]) -> Sequence[PriceQuote]:
        raise AssertionError("nobody asks for prices here")

    async def hotels(self, ctx: Any, hotel_ids: Sequence[str], *, since: datetime | None) -> Sequence[HotelOffer]:
        self.asked.append(list(hotel_ids))
        self.since = since
        return self.answer(hotel_ids)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "_registered", {})


@pytest.fixture
async def travel(database_url: str) -> AsyncGenerator[DatabasePool]:
    async with travel_database(database_url) as database:
        await add_hotel(database, "hotel-1")
        await add_hotel(database, "hotel-2", currency="EUR", priceMin=Decimal(100), priceMax=Decimal(200))
        await add_hotel(database, "hotel-3", isActive=False)
        await add_room(database, "room-1", "hotel-1")
        await add_room(database, "room-2", "hotel-2", currency="EUR", pricePerNight=Decimal(100))
        yield database


def hotel(hotel_id: str = "hotel-1", *rooms: RoomOffer, currency: str = "TRY", **prices: str) -> HotelOffer:
    amounts = {name: Decimal(price) for name, price in prices.items()}
    return HotelOffer(hotel_id=hotel_id, currency=currency, rooms=rooms, **amounts)


def room(room_id: str = "room-1", price: str | None = None, *, available: bool | None = None) -> RoomOffer:
    return RoomOffer(room_id=room_id, price_per_night=None if price is None else Decimal(price), is_available=available)


async def sync(travel: DatabasePool, *offers: HotelOffer, **fields: Any) -> Performed:
    register(Partner(lambda _ids: offers))
    payload = SyncExternalData.model_validate({"provider": "partner", "entity_ids": ["hotel-1"]} | fields)
    return await perform(sync_external_data, payload, db=travel, now=NOW)


async def rows(travel: DatabasePool) -> dict[str, tuple[Any, ...]]:
    hotels = await travel.fetch('SELECT id, "priceMin", "priceMax", "updatedAt" FROM hotels')
    rooms = await travel.fetch('SELECT id, "pricePerNight", "isAvailable", "updatedAt" FROM hotel_rooms')
    return {row["id"]: tuple(row.values())[1:] for row in (*hotels, *rooms)}


async def test_prices_and_availability_are_written_on_the_rows_that_are_there(travel: DatabasePool) -> None:
    before = await rows(travel)
    done = await sync(travel, hotel("hotel-1", room("room-1", "1250.5", available=False), price_min="1250.5"))
    after = await rows(travel)
    assert done.result == {
        "asked": 1,
        "hotelsChanged": 1,
        "roomsChanged": 1,
        "unknownIds": 0,
        "inAnotherCurrency": 0,
        "refused": 0,
    }
    written = NOW.replace(tzinfo=None)
    assert after["hotel-1"] == (Decimal("1250.5"), Decimal(2000), written)
    assert after["room-1"] == (Decimal("1250.5"), False, written)
    assert {name: after[name] for name in ("hotel-2", "hotel-3", "room-2")} == {
        name: before[name] for name in ("hotel-2", "hotel-3", "room-2")
    }


async def test_what_has_not_changed_is_not_written(travel: DatabasePool) -> None:
    done = await sync(travel, hotel("hotel-1", room("room-1", "1000", available=True), price_min="1000"))
    assert (done.result["hotelsChanged"], done.result["roomsChanged"]) == (0, 0)
    assert (await rows(travel))["room-1"][2] == WRITTEN


async def test_unknown_ids_are_counted_and_make_no_rows(travel: DatabasePool) -> None:
    before = await rows(travel)
    foreign = hotel("hotel-1", room("room-2", "5"), room("room-9", "5"))
    done = await sync(travel, hotel("hotel-9", room("room-1", "5"), price_min="5"), foreign)
    assert done.result["unknownIds"] == 3
    assert done.notes == ["the provider knows what we do not: hotel-9, room-2, room-9"]
    assert await rows(travel) == before


async def test_a_price_in_another_currency_is_not_written(travel: DatabasePool) -> None:
    before = await rows(travel)
    done = await sync(travel, hotel("hotel-1", room("room-1", "30"), currency="EUR", price_min="30", price_max="60"))
    assert done.result["inAnotherCurrency"] == 3
    assert await rows(travel) == before


@pytest.mark.parametrize("price", ["0", "-1", "NaN", "Infinity", "1E+40"])
async def test_what_is_no_price_is_refused(travel: DatabasePool, price: str) -> None:
    before = await rows(travel)
    done = await sync(travel, hotel("hotel-1", room("room-1", price), price_max=price))
    assert (done.state, done.result["refused"]) == (JobState.COMPLETED, 2)
    assert await rows(travel) == before


@pytest.mark.parametrize("prices", [{"price_min": "9", "price_max": "8"}, {"price_min": "3000"}, {"price_max": "999"}])
async def test_a_lowest_price_above_the_highest_is_not_written(travel: DatabasePool, prices: dict[str, str]) -> None:
    before = await rows(travel)
    assert (await sync(travel, hotel(**prices))).result["hotelsChanged"] == 0
    assert await rows(travel) == before


async def test_without_ids_every_active_hotel_is_asked_for_in_batches(
    travel: DatabasePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skycap_travel.partners.MOST_IDS", 1)
    partner = Partner(lambda ids: [hotel(ids[0], price_max="150", currency="EUR")])
    register(partner)
    since = datetime(2026, 11, 27, tzinfo=UTC)
    payload = SyncExternalData(provider="partner", since=since)
    done = await perform(sync_external_data, payload, db=travel, now=NOW)
    assert (partner.asked, partner.since) == ([["hotel-1"], ["hotel-2"]], since)
    assert (done.result["asked"], done.result["hotelsChanged"], done.result["inAnotherCurrency"]) == (2, 1, 1)


async def test_what_was_kept_of_a_hotel_that_has_changed_is_forgotten(
    travel: DatabasePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten: list[str] = []

    async def forget(_cache: object, *names: str) -> None:
        forgotten.extend(names)

    monkeypatch.setattr("skycap.testing.stand_ins.KeptForOneAttempt.invalidate", forget)
    await sync(travel, hotel("hotel-1", price_min="1001"), hotel("hotel-2", room("room-2"), currency="EUR"))
    assert forgotten == ["hotel:hotel-1", "hotel-search"]


async def test_a_provider_that_is_not_installed_is_named_with_those_that_are(travel: DatabasePool) -> None:
    done = await sync(travel, provider="amadeus")
    assert isinstance(done.outcome, Discarded)
    assert "no provider 'amadeus'; those of the installed plugins: partner" in done.outcome.error


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (BreakerOpen("amadeus", timedelta(seconds=30)), JobState.SCHEDULED),
        (PartnerRefused("amadeus", 403), JobState.DISCARDED),
        (RuntimeError("no JSON"), JobState.RETRYABLE),
    ],
)
async def test_what_a_provider_raises_decides_the_job(travel: DatabasePool, error: Exception, state: JobState) -> None:
    def fail(_ids: Sequence[str]) -> Sequence[HotelOffer]:
        raise error

    register(Partner(fail))
    payload = SyncExternalData(provider="partner", entity_ids=("hotel-1",))
    assert (await perform(sync_external_data, payload, db=travel)).state is state


async def test_a_provider_is_asked_behind_its_breaker(travel: DatabasePool, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed_to_all(breaker: Any, **_timeout: object) -> None:
        raise BreakerOpen(breaker.name, timedelta(seconds=30))

    monkeypatch.setattr("skycap.testing.stand_ins._ClosedBreaker.guard", closed_to_all)
    partner = Partner(lambda _ids: [], breaker="booking-com")
    register(partner)
    done = await perform(
        sync_external_data, SyncExternalData(provider="partner", entity_ids=("hotel-1",)), db=travel, now=NOW
    )
    assert isinstance(done.outcome, Snoozed)
    assert "booking-com" in done.outcome.reason
    assert partner.asked == []


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"provider": "Amadeus!"}, "provider: string should match pattern"),
        ({"provider": "x", "entityType": "FLIGHT"}, "entityType: input should be 'HOTEL'"),
        ({"provider": "x", "entityIds": []}, "entityIds: tuple should have at least 1 item"),
        ({"provider": "x", "entityIds": ["a b"]}, "entityIds.0: string should match pattern"),
        ({"provider": "x", "since": "2026-11-01T00:00:00"}, "since: input should have timezone info"),
        ({}, "provider: is missing; give a value"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_when_it_is_enqueued(fields: dict[str, Any], problem: str) -> None:
    registry = load(PluginChoice(only=frozenset({"partners"})))
    with pytest.raises(InvalidPayload) as refused:
        registry.checked_payload("sync-external-data", fields)
    assert any(each.startswith(problem) for each in refused.value.problems), refused.value.problems


async def test_the_sample_provider_says_the_same_all_day(travel: DatabasePool) -> None:
    spec = importlib.util.spec_from_file_location("sample_prices", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    payload = SyncExternalData(provider="sample")
    first = await perform(sync_external_data, payload, db=travel, now=NOW)
    again = await perform(sync_external_data, payload, db=travel, now=NOW + timedelta(hours=2))
    assert first.result["roomsChanged"] == 2
    assert again.result["roomsChanged"] == 0


@pytest.mark.parametrize("name", ["", "Acme", "acme_air", "a b"])
def test_a_provider_has_a_name_that_payloads_can_write(name: str) -> None:
    partner = Partner(lambda _ids: [])
    partner.name = name
    with pytest.raises(TypeError, match="write lower-case words joined by hyphens"):
        register(partner)


def test_two_plugins_cannot_have_one_provider() -> None:
    class Other(Partner):
        """Another of the same name."""

    register(Partner(lambda _ids: []))
    with pytest.raises(TypeError, match="there is a provider 'partner' already"):
        register(Other(lambda _ids: []))
    again = Partner(lambda _ids: [])
    register(again)
    assert provider_called("partner") is again
