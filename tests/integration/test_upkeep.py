"""The upkeep plugin on a real PostgreSQL: what it deletes, what it leaves, and what it puts into the cache."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from skycap import Cache, JobState, Unavailable
from skycap.demo.travel import create_travel_tables
from skycap.services.database import DatabasePool
from skycap.testing import Performed, perform
from skycap.testing.stand_ins import KeptForOneAttempt
from skycap_travel import upkeep
from skycap_travel.cleanup import CleanupRule, Pace, clean
from skycap_travel.hotel_searches import HotelSearch, load
from skycap_travel.upkeep import CleanupOldData, UpkeepSettings, WarmCache, cleanup_old_data, warm_cache
from tests.support.caches import cache_at

NOW = datetime(2026, 11, 28, 2, tzinfo=UTC)
QUICK = Pace(batch=100, pause=timedelta(0), most=1_000_000)
OLD_NOTIFICATIONS = CleanupRule(table="notifications", column="createdAt", older_than_days=30)

ADD_NOTIFICATION = """
    INSERT INTO notifications (id, "userId", type, title, message, "isRead", "createdAt")
    VALUES ($1, 'u', 'PROMOTION', 'Title', 'Message', $2, $3)
"""
ADD_HOTEL = """
    INSERT INTO hotels (
        id, name, slug, description, city, region, address, stars, rating, "hotelType", "roomCount", "mainImage",
        "priceMin", "priceMax", "isActive", "updatedAt"
    ) VALUES ($1, 'Hotel', $1, '', $2, '', '', $3, $4, 'RESORT', 1, 'image.jpg', 100.50, 500, $5, now())
"""


@pytest.fixture
async def travel(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[DatabasePool]:
    monkeypatch.setattr(upkeep, "_said", set[str]())
    connection = await asyncpg.connect(database_url)
    await create_travel_tables(connection)
    await connection.execute("INSERT INTO users (id, email, \"updatedAt\") VALUES ('u', 'u@example.com', now())")
    await connection.close()
    pool = DatabasePool(dsn=database_url, size=3)
    yield pool
    await pool.close()


async def notify(travel: DatabasePool, name: str, *, days: float, is_read: bool = False) -> None:
    made = (NOW - timedelta(days=days)).replace(tzinfo=None)
    await travel.execute(ADD_NOTIFICATION, name, is_read, made)


async def notifications(travel: DatabasePool) -> set[str]:
    return {row["id"] for row in await travel.fetch("SELECT id FROM notifications")}


async def run(travel: DatabasePool, **settings: Any) -> Performed:
    configured = UpkeepSettings.model_validate({"cleanup_pause_ms": 0, **settings})
    return await perform(cleanup_old_data, CleanupOldData(), settings=configured, db=travel, now=NOW)


async def test_read_notifications_go_earlier_than_others_and_young_ones_stay(travel: DatabasePool) -> None:
    await notify(travel, "read and young", days=89.9, is_read=True)
    await notify(travel, "read and old", days=90.1, is_read=True)
    await notify(travel, "unread", days=364.9)
    await notify(travel, "unread and very old", days=365.1)
    done = await run(travel)
    assert await notifications(travel) == {"read and young", "unread"}
    assert done.result == {
        "read-notifications": {"deleted": 1, "isDone": True},
        "notifications": {"deleted": 1, "isDone": True},
    }
    assert done.progress == [0.5, 1.0]


async def test_nothing_is_deleted_where_nothing_is_to_be(travel: DatabasePool) -> None:
    await notify(travel, "ancient", days=10_000, is_read=True)
    done = await run(travel, read_notifications_days=0, notifications_days=0)
    assert (done.state, done.result) == (JobState.COMPLETED, {})
    assert await notifications(travel) == {"ancient"}


async def test_any_table_may_be_named_with_the_values_that_its_rows_must_have(travel: DatabasePool) -> None:
    await travel.execute('CREATE TABLE "Session" (id TEXT, expires TIMESTAMPTZ, kind "NotificationType")')
    await travel.execute(
        """
        INSERT INTO "Session" VALUES
            ('old', $1, 'PROMOTION'), ('old of another kind', $1, 'PRICE_DROP'), ('young', $2, 'PROMOTION'),
            ('of no time', NULL, 'PROMOTION')
        """,
        NOW - timedelta(days=8),
        NOW - timedelta(days=6),
    )
    rule = {"table": "Session", "column": "expires", "older_than_days": 7, "only": {"kind": "PROMOTION"}}
    done = await run(travel, cleanup={"sessions": rule})
    assert done.result["sessions"] == {"deleted": 1, "isDone": True}
    left = {row["id"] for row in await travel.fetch('SELECT id FROM "Session"')}
    assert left == {"old of another kind", "young", "of no time"}


@pytest.mark.parametrize(
    ("rule", "off"),
    [
        ({"table": "sessions", "column": "expires"}, "there is no table sessions"),
        ({"table": "hotels", "column": "expires"}, "hotels has no column expires"),
        ({"table": "hotels", "column": "updatedAt", "only": {"seen": True}}, "hotels has no column seen"),
        ({"table": "hotels", "column": "stars"}, "hotels.stars is no time but integer"),
        ({"table": 'x"; DROP TABLE hotels; --', "column": "y"}, 'there is no table x"; DROP TABLE hotels; --'),
    ],
)
async def test_a_rule_that_cannot_be_followed_is_off_which_is_said_once_and_the_others_run(
    travel: DatabasePool, rule: dict[str, Any], off: str
) -> None:
    await notify(travel, "unread and very old", days=366)
    with capture_logs() as logged:
        first = await run(travel, cleanup={"mine": {"older_than_days": 1} | rule})
        second = await run(travel, cleanup={"mine": {"older_than_days": 1} | rule})
    assert first.result["mine"] == second.result["mine"] == {"off": off}
    assert first.result["notifications"]["deleted"] == 1
    assert [(line["event"], line["rule"], line["reason"]) for line in logged] == [("this cleanup is off", "mine", off)]


@pytest.mark.parametrize("table", ["users", "bookings", "", "x" * 64])
def test_what_must_not_be_deleted_and_what_is_no_table_is_refused(table: str) -> None:
    with pytest.raises(ValidationError):
        CleanupRule(table=table, column="createdAt", older_than_days=1)


async def test_one_run_deletes_so_many_and_the_next_goes_on_with_the_oldest_first(travel: DatabasePool) -> None:
    for number in range(10):
        await notify(travel, f"n{number}", days=400 + number)
    first = await run(travel, cleanup_batch=2, cleanup_most=5, read_notifications_days=0)
    assert first.result == {"notifications": {"deleted": 5, "isDone": False}}
    assert await notifications(travel) == {"n0", "n1", "n2", "n3", "n4"}
    second = await run(travel, cleanup_batch=2, cleanup_most=6, read_notifications_days=0)
    assert second.result == {"notifications": {"deleted": 5, "isDone": True}}


async def test_while_others_insert_and_update_only_what_is_old_goes(travel: DatabasePool) -> None:
    for number in range(200):
        await notify(travel, f"old {number}", days=31)
    added = 0
    done = asyncio.Event()

    async def keep_writing() -> None:
        nonlocal added
        while not done.is_set() or added < 50:
            await notify(travel, f"young {added}", days=29)
            await travel.execute("UPDATE notifications SET title = $1 WHERE id LIKE 'young%'", f"Title {added}")
            added += 1

    writing = asyncio.create_task(keep_writing())
    cleaned = await clean(travel, OLD_NOTIFICATIONS, NOW, Pace(batch=7, pause=timedelta(0), most=1000))
    done.set()
    await writing
    assert (cleaned.deleted, cleaned.is_done) == (200, True)
    assert await notifications(travel) == {f"young {number}" for number in range(added)}


async def test_a_row_that_somebody_has_locked_is_passed_over_and_one_that_was_made_young_stays(
    travel: DatabasePool,
) -> None:
    await notify(travel, "locked", days=31)
    await notify(travel, "free", days=31)
    async with travel.transaction() as theirs:
        await theirs.execute(
            "UPDATE notifications SET \"createdAt\" = $1 WHERE id = 'locked'", NOW.replace(tzinfo=None)
        )
        assert (await clean(travel, OLD_NOTIFICATIONS, NOW, QUICK)).deleted == 1
    assert (await clean(travel, OLD_NOTIFICATIONS, NOW, QUICK)).deleted == 0
    assert await notifications(travel) == {"locked"}


async def test_partitions_whose_rows_lie_at_the_same_places_lose_only_what_is_old(travel: DatabasePool) -> None:
    await travel.execute('CREATE TABLE events (id TEXT, "createdAt" TIMESTAMP(3)) PARTITION BY LIST (id)')
    for name in ("a", "b"):
        await travel.execute(f"CREATE TABLE events_{name} PARTITION OF events FOR VALUES IN ('{name}')")
    old, young = (NOW.replace(tzinfo=None) - timedelta(days=days) for days in (31, 1))
    await travel.execute("INSERT INTO events VALUES ('a', $1), ('b', $2), ('b', $1), ('a', $2)", old, young)
    rule = CleanupRule(table="events", column="createdAt", older_than_days=30)
    assert (await clean(travel, rule, NOW, Pace(batch=1, pause=timedelta(0), most=100))).deleted == 2
    left = await travel.fetch('SELECT id, "createdAt" AS made FROM events ORDER BY id')
    assert [(row["id"], row["made"]) for row in left] == [("a", young), ("b", young)]


async def test_a_table_that_is_locked_as_a_whole_puts_the_job_off(travel: DatabasePool) -> None:
    async with travel.transaction() as theirs:
        await theirs.execute("LOCK TABLE notifications IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(Unavailable, match="a lock was not free within lock_timeout"):
            await clean(travel, OLD_NOTIFICATIONS, NOW, QUICK)


async def test_hot_searches_lie_in_the_cache_as_the_backend_would_find_them(
    travel: DatabasePool, redis_url: str
) -> None:
    async with cache_at(redis_url) as cache:
        await warm_and_look(travel, cache)


async def test_an_authors_stand_in_for_the_cache_keeps_the_same(travel: DatabasePool) -> None:
    await warm_and_look(travel, KeptForOneAttempt())


async def warm_and_look(travel: DatabasePool, cache: Cache) -> None:
    await travel.execute(ADD_HOTEL, "good", "Antalya", 5, 8, True)
    await travel.execute(ADD_HOTEL, "better", "Antalya", 5, 9, True)
    await travel.execute(ADD_HOTEL, "closed", "Antalya", 5, 9, False)
    await travel.execute(ADD_HOTEL, "simple", "Antalya", 3, 9, True)
    assert await load(travel, cache, HotelSearch(city="Antalya", stars=5), most=50) == 2
    found = await cache.get("hotel-search:city=Antalya:stars=5")
    assert [hotel["id"] for hotel in found] == ["better", "good"]
    assert found[0]["priceMin"] == "100.5"
    await cache.invalidate("hotel-search")
    assert await cache.get("hotel-search:city=Antalya:stars=5") is None
    assert await load(travel, cache, HotelSearch(city="Antalya"), most=1) == 1
    assert len(await cache.get("hotel-search:city=Antalya:stars=any")) == 1


async def test_the_cache_is_warmed_with_what_is_configured(travel: DatabasePool) -> None:
    searches = (HotelSearch(city="Şanlıurfa / Merkez", stars=4),)
    done = await perform(warm_cache, WarmCache(), settings=UpkeepSettings(hot_hotel_searches=searches), db=travel)
    assert done.result == {"hotel-search:city=%C5%9Eanl%C4%B1urfa%20%2F%20Merkez:stars=4": 0}


async def test_the_cache_is_warmed_with_what_was_asked_for_most(travel: DatabasePool, redis_url: str) -> None:
    await travel.execute(ADD_HOTEL, "good", "Muğla", 5, 8, True)
    asked, rare = HotelSearch(city="Muğla"), HotelSearch(city="Antalya", stars=5)
    async with cache_at(redis_url) as cache:
        for key in (asked.key, asked.key, rare.key, "hotel-search:Antalya", "hotel-search:city=Mu%C4%9Fla:stars=9"):
            await cache.get(key)
        settings = UpkeepSettings(hot_hotel_searches=(rare,), most_asked_searches=10)
        done = await perform(warm_cache, WarmCache(), settings=settings, db=travel, cache=cache)
        assert done.result == {rare.key: 0, asked.key: 1}
        assert [hotel["id"] for hotel in await cache.get(asked.key)] == ["good"]
        settings = UpkeepSettings(most_asked_searches=0)
        assert (await perform(warm_cache, WarmCache(), settings=settings, db=travel, cache=cache)).result == {}
