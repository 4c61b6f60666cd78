"""Prices of a partner on their way into the history, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from skycap import BreakerOpen, Context, JobState
from skycap.outcome import Snoozed
from skycap.testing import Performed, perform
from skycap_travel.payloads import EntityType
from skycap_travel.price_history import PriceHistorySettings, UpdatePriceHistory, update_price_history
from skycap_travel.providers import HotelOffer, PriceQuote, register
from tests.support.price_alerts import NOW, THEN, Alert, Prices, prices_at


@dataclass(kw_only=True)
class Acme:
    """A partner of the test."""

    name: str = "acme-prices"
    breaker: str | None = "amadeus"
    answers: dict[str, list[PriceQuote]] = field(default_factory=dict[str, list[PriceQuote]])
    asked: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])
    error: Exception | None = None

    async def prices(
        self, ctx: Context[Any], entity_type: EntityType, entity_ids: Sequence[str]
    ) -> Sequence[PriceQuote]:
        self.asked.append(tuple(f"{entity_type} {entity_id}" for entity_id in entity_ids))
        if self.error is not None:
            raise self.error
        return [quote for entity_id in entity_ids for quote in self.answers.get(entity_id, [])]

    async def hotels(
        self, ctx: Context[Any], hotel_ids: Sequence[str], *, since: datetime | None
    ) -> Sequence[HotelOffer]:
        return ()


ACME = Acme()
register(ACME)


@pytest.fixture
async def prices(database_url: str) -> AsyncGenerator[Prices]:
    ACME.answers, ACME.asked, ACME.error = {}, [], None
    async with prices_at(database_url) as tables:
        yield tables


async def update(
    prices: Prices, *, provider: str | None = ACME.name, batch: int = 10, now: datetime = NOW, **payload: Any
) -> Performed:
    settings = PriceHistorySettings(provider=provider, batch=batch)
    return await perform(
        update_price_history, UpdatePriceHistory(**payload), settings=settings, db=prices.pool, now=now
    )


async def history(prices: Prices) -> list[tuple[Any, ...]]:
    rows = await prices.connection.fetch(
        'SELECT "entityId", price, currency, source FROM price_history ORDER BY "entityId", "createdAt", price'
    )
    return [tuple(row) for row in rows]


def quote(price: int | str, *, currency: str = "TRY", check_in: datetime | None = None) -> PriceQuote:
    return PriceQuote(entity_id="h1", price=Decimal(price), currency=currency, check_in=check_in)


async def test_a_job_that_runs_twice_adds_each_price_once(prices: Prices) -> None:
    ACME.answers = {"h1": [quote("100.5"), quote(120, check_in=NOW)]}
    first = await update(prices, entity_type="HOTEL", entity_ids=("h1",))
    second = await update(prices, entity_type="HOTEL", entity_ids=("h1",), now=NOW + timedelta(hours=1))
    assert first.result == {"entities": 1, "quoted": 2, "refused": 0, "recorded": 2}
    assert second.result == {"entities": 1, "quoted": 2, "refused": 0, "recorded": 0}
    assert await history(prices) == [
        ("h1", Decimal("100.5"), "TRY", ACME.name),
        ("h1", Decimal(120), "TRY", ACME.name),
    ]
    assert await prices.connection.fetchval('SELECT max("checkInDate") FROM price_history') == THEN


async def test_jobs_that_run_at_once_add_each_price_once(prices: Prices) -> None:
    ACME.answers = {"h1": [quote(100)]}
    done = await asyncio.gather(*(update(prices, entity_type="HOTEL", entity_ids=("h1",)) for _ in range(4)))
    assert sorted(each.result["recorded"] for each in done) == [0, 0, 0, 1]


async def test_a_price_that_falls_and_rises_again_is_three_and_the_next_day_has_its_own(prices: Prices) -> None:
    for hours, price in enumerate((100, 90, 100)):
        ACME.answers = {"h1": [quote(price)]}
        await update(prices, entity_type="HOTEL", entity_ids=("h1",), now=NOW + timedelta(hours=hours))
    await update(prices, entity_type="HOTEL", entity_ids=("h1",), now=NOW + timedelta(days=1))
    assert [row[1] for row in await history(prices)] == [100, 90, 100, 100]


async def test_without_ids_all_watched_entities_are_asked_about_in_batches(prices: Prices) -> None:
    alerts = [Alert(id=f"a{n}", entity=("HOTEL" if n % 2 else "TOUR", f"e{n // 2}")) for n in range(10)]
    await prices.fill(alerts=[*alerts, Alert(id="again", entity=("TOUR", "e1")), Alert(id="off", status="DISABLED")])
    done = await update(prices, batch=2)
    asked = [entity for batch in ACME.asked for entity in batch]
    assert sorted(asked) == sorted({" ".join(alert.entity) for alert in alerts})
    assert {len(batch) for batch in ACME.asked} == {1, 2}
    assert done.progress == sorted(done.progress)


async def test_an_open_breaker_snoozes_the_job(prices: Prices) -> None:
    ACME.error = BreakerOpen("acme", timedelta(seconds=20))
    done = await update(prices, entity_type="HOTEL", entity_ids=("h1",))
    assert isinstance(done.outcome, Snoozed)
    assert await history(prices) == []


async def test_without_a_provider_the_job_is_cancelled_with_the_setting_to_make(prices: Prices) -> None:
    done = await update(prices, provider=None)
    assert done.state is JobState.CANCELLED
    assert "plugins.price-history.provider" in str(done.outcome)


async def test_a_provider_that_nobody_has_is_a_dead_letter_that_names_those_there_are(prices: Prices) -> None:
    done = await update(prices, provider="nobody")
    assert done.state is JobState.DISCARDED
    assert ACME.name in str(done.outcome)


async def test_what_is_no_price_is_counted_and_not_kept(prices: Prices) -> None:
    ACME.answers = {"h1": [quote(-1), quote("NaN"), quote(0), quote(5, currency="lira"), quote(7)]}
    done = await update(prices, entity_type="HOTEL", entity_ids=("h1",))
    assert done.result == {"entities": 1, "quoted": 5, "refused": 4, "recorded": 1}


def test_ids_need_the_type_that_they_are_of() -> None:
    with pytest.raises(ValidationError, match="without the entityType"):
        UpdatePriceHistory(entity_ids=("h1",))
