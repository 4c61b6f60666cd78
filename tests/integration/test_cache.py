"""The cache on a real Valkey: what is kept, for how long, who loads it, and what is forgotten."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from pydantic import BaseModel

from skycap.cache import Asked
from skycap.services.cache import CacheRules, CacheService
from skycap.services.cache_figures import Figures
from tests.support.caches import Source, cache_at
from tests.support.redis import redis_at
from tests.support.workers import eventually

MINUTE = timedelta(minutes=1)


class Hotel(BaseModel):
    name: str
    opened: datetime | None = None


class Tower(BaseModel):
    name: str
    floors: int


ADA = Hotel(name="Ada's", opened=datetime(2026, 1, 2, tzinfo=UTC))


@pytest.fixture
async def cache(redis_url: str) -> AsyncGenerator[CacheService]:
    async with cache_at(redis_url) as service:
        yield service


@pytest.fixture
async def neighbour(redis_url: str) -> AsyncGenerator[CacheService]:
    """Another daemon's."""
    async with cache_at(redis_url) as service:
        yield service


async def stored(url: str, key: str) -> dict[str, bytes]:
    async with redis_at(url) as redis:
        found: dict[bytes, bytes] = await redis.hgetall(f"skycap:cache:{{{key}}}")
    return {name.decode(): value for name, value in found.items()}


async def test_a_value_comes_back_as_the_model_that_is_asked_for(cache: CacheService, neighbour: CacheService) -> None:
    assert await cache.get("hotel:1", Hotel) is None
    await cache.set("hotel:1", ADA)
    assert await neighbour.get("hotel:1", Hotel) == ADA
    assert await neighbour.get("hotel:1") == {"name": "Ada's", "opened": "2026-01-02T00:00:00Z"}
    await cache.set("hotels:all", [ADA, ADA])
    assert await neighbour.get("hotels:all", list[Hotel]) == [ADA, ADA]


async def test_a_value_that_does_not_fit_any_more_is_a_miss_and_loaded_anew(cache: CacheService) -> None:
    await cache.set("hotel:1", ADA)
    assert await cache.get("hotel:1", Tower) is None
    source = Source.opened(Tower(name="Ada's", floors=3))
    for _ in range(2):
        assert await cache.get_or_load("hotel:1", source.load, model=Tower) == source.value
    assert source.loads == 1


async def test_the_loader_gets_what_the_others_get(cache: CacheService) -> None:
    source = Source.opened({"at": datetime(2026, 1, 2, tzinfo=UTC), "pair": (1, 2)})
    first = await cache.get_or_load("hotel:1", source.load)
    assert first == await cache.get_or_load("hotel:1", source.load) == {"at": "2026-01-02T00:00:00Z", "pair": [1, 2]}


async def test_a_load_that_returns_something_else_than_its_model_is_an_error_that_says_so(cache: CacheService) -> None:
    with pytest.raises(TypeError, match=r"what was loaded for hotel .* does not fit the model: name: Field required"):
        await cache.get_or_load("hotel:1", Source.opened({}).load, model=Hotel)
    with pytest.raises(TypeError, match="the cache, which keeps JSON"):
        await cache.set("hotel:1", object())


@pytest.mark.parametrize("key", ["hotel", ":1", "Hotel:1", "hotel:", "{hotel}:1", f"hotel:{'x' * 1024}"])
async def test_what_is_no_key_is_refused_with_the_way_to_write_one(cache: CacheService, key: str) -> None:
    with pytest.raises(ValueError, match="write namespace:rest"):
        await cache.get(key)
    with pytest.raises(ValueError, match="write namespace:rest"):
        await cache.delete(key)


async def test_no_time_and_no_tag_are_refused(cache: CacheService) -> None:
    with pytest.raises(ValueError, match="give more than no time"):
        await cache.set("hotel:1", 1, ttl=timedelta(0))
    with pytest.raises(ValueError, match="cache tag ''"):
        await cache.invalidate("")
    with pytest.raises(TypeError, match=r"as in tags=\['hotels'\]"):
        await cache.set("hotel:1", 1, tags="hotels")


@pytest.mark.parametrize("key", ["hotel:a}b", "hotel:{a", "hotel:ü 1\n"])
async def test_any_text_may_follow_the_namespace(cache: CacheService, key: str) -> None:
    await cache.get_or_load(key, Source.opened().load, tags=["{all", "a}b"])
    assert await cache.get(key) == "a hotel"
    await cache.invalidate("a}b")
    assert await cache.get(key) is None


async def test_small_values_are_plain_json_and_large_ones_are_compressed(cache: CacheService, redis_url: str) -> None:
    small, large = {"name": "Ada's"}, {"name": "Ada's " * 1000}
    await cache.set("hotel:small", small)
    await cache.set("hotel:large", large)
    assert json.loads((await stored(redis_url, "hotel:small"))["json"]) == small
    compressed = (await stored(redis_url, "hotel:large"))["zlib"]
    assert len(compressed) < 200
    assert json.loads(zlib.decompress(compressed)) == large
    assert await cache.get("hotel:large") == large


async def test_a_backend_may_write_plain_json_too(cache: CacheService, redis_url: str) -> None:
    async with redis_at(redis_url) as redis:
        await redis.hset("skycap:cache:{hotel:1}", "json", '{"name": "theirs"}')
        assert await cache.get("hotel:1", Hotel) == Hotel(name="theirs")
        await redis.hset("skycap:cache:{hotel:2}", "zlib", b"no zlib")
        await redis.set("skycap:cache:{hotel:3}", "no hash")
        for key in ("hotel:2", "hotel:3"):
            assert await cache.get_or_load(key, Source.opened(1).load) == 1


async def test_a_value_that_is_too_large_is_not_kept_and_the_log_says_so_once(redis_url: str) -> None:
    rules = CacheRules(largest_bytes=1000)
    async with cache_at(redis_url, rules) as cache:
        await cache.set("hotel:1", "small")
        with structlog.testing.capture_logs() as lines:
            await cache.set("hotel:1", "x" * 1000)
            assert await cache.get("hotel:1") is None
            source = Source.opened("x" * 1000)
            for _ in range(2):
                assert await cache.get_or_load("hotel:1", source.load) == source.value
    assert source.loads == 2
    (line,) = lines
    assert (line["namespace"], line["bytes"], line["largest_bytes"]) == ("hotel", 1002, 1000)
    assert "set cache.largest_bytes" in line["event"]


async def test_values_that_are_kept_together_do_not_end_together(redis_url: str) -> None:
    async with cache_at(redis_url, CacheRules(jitter=0.2)) as cache, redis_at(redis_url) as redis:
        for number in range(50):
            await cache.set(f"hotel:{number}", number, ttl=MINUTE)
        lives = [await redis.pttl(f"skycap:cache:{{hotel:{number}}}") for number in range(50)]
    assert 40_000 < min(lives) < 50_000 < max(lives) <= 60_000


async def test_one_caller_of_the_fleet_loads_and_the_others_wait_for_it(
    cache: CacheService, neighbour: CacheService, redis_url: str
) -> None:
    source = Source()
    async with redis_at(redis_url) as redis:
        await redis.config_resetstat()
        asking = [
            asyncio.create_task(each.get_or_load("hotel:1", source.load))
            for each in (cache, neighbour)
            for _ in range(100)
        ]

        async def the_neighbour_waits() -> bool:
            return any(client["cmd"] == "blmove" for client in await redis.client_list())

        await eventually(the_neighbour_waits)
        scripts = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
        assert scripts <= 2 * 100 + 10, "each caller has looked once, and nobody looks again while it waits"
    source.open.set()
    assert await asyncio.gather(*asking) == ["a hotel"] * 200
    assert source.loads == 1


async def test_whoever_waits_takes_over_when_the_loader_is_cancelled(
    cache: CacheService, neighbour: CacheService
) -> None:
    stuck, source = Source(), Source.opened()
    loading = asyncio.create_task(cache.get_or_load("hotel:1", stuck.load))
    await stuck.begun.wait()
    waiting = [asyncio.create_task(each.get_or_load("hotel:1", source.load)) for each in (cache, neighbour)]
    loading.cancel()
    assert await asyncio.gather(*waiting) == ["a hotel"] * 2
    assert source.loads == 1


async def test_a_long_load_keeps_its_lease(redis_url: str) -> None:
    lease = timedelta(milliseconds=150)
    async with cache_at(redis_url, lease=lease) as cache, cache_at(redis_url, lease=lease) as neighbour:
        source = Source()
        asking = [asyncio.create_task(each.get_or_load("hotel:1", source.load)) for each in (cache, neighbour)]
        await source.begun.wait()
        await asyncio.sleep(5 * lease.total_seconds())  # it would have lost it by now
        source.open.set()
        assert await asyncio.gather(*asking) == ["a hotel"] * 2
        assert source.loads == 1


async def test_what_a_load_raises_is_raised_to_all_who_wait_for_it_and_the_next_caller_loads(
    cache: CacheService, neighbour: CacheService
) -> None:
    source = Source(OSError("the partner is away"))
    asking = [asyncio.create_task(cache.get_or_load("hotel:1", source.load)) for _ in range(10)]
    await source.begun.wait()
    elsewhere = Source.opened()
    waiting = asyncio.create_task(neighbour.get_or_load("hotel:1", elsewhere.load))
    source.open.set()
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert {str(outcome) for outcome in outcomes} == {"the partner is away"}
    assert source.loads == 1
    assert await waiting == "a hotel"


async def test_that_there_is_nothing_is_remembered_only_for_missing_ttl(cache: CacheService) -> None:
    nothing = Source.opened(None)
    for _ in range(2):
        assert await cache.get_or_load("hotel:1", nothing.load, model=Hotel) is None
    assert nothing.loads == 2
    for _ in range(2):
        assert await cache.get_or_load("hotel:1", nothing.load, model=Hotel, missing_ttl=MINUTE) is None
    assert nothing.loads == 3
    assert await cache.get("hotel:1", Hotel) is None


async def test_many_who_wait_for_nothing_load_once(cache: CacheService) -> None:
    nothing = Source(None)
    asking = [asyncio.create_task(cache.get_or_load("hotel:1", nothing.load)) for _ in range(50)]
    await nothing.begun.wait()
    nothing.open.set()
    assert await asyncio.gather(*asking) == [None] * 50
    assert nothing.loads == 1


async def _old(cache: CacheService, source: Source, url: str) -> None:
    """Have a value that is in the last part of its life."""
    await cache.get_or_load("hotel:1", source.load, ttl=MINUTE)
    async with redis_at(url) as redis:
        await redis.pexpire("skycap:cache:{hotel:1}", 5000)


async def test_a_value_that_is_about_to_end_is_loaded_anew_by_one_while_the_others_get_the_old_one(
    redis_url: str,
) -> None:
    rules = CacheRules(jitter=0, early=0.1)
    async with cache_at(redis_url, rules) as cache, cache_at(redis_url, rules) as neighbour:
        await _old(cache, Source.opened("old"), redis_url)
        new = Source("new")
        loading = asyncio.create_task(cache.get_or_load("hotel:1", new.load))
        await new.begun.wait()
        others = [each.get_or_load("hotel:1", new.load) for each in (cache, neighbour) for _ in range(20)]
        assert await asyncio.gather(*others) == ["old"] * 40
        new.open.set()
        assert await loading == "new"
        assert await neighbour.get("hotel:1") == "new"
        assert new.loads == 1


async def test_a_value_that_cannot_be_loaded_anew_holds_until_its_end(redis_url: str) -> None:
    async with cache_at(redis_url, CacheRules(jitter=0, early=0.1)) as cache:
        await _old(cache, Source.opened("old"), redis_url)
        assert await cache.get_or_load("hotel:1", Source.opened(OSError()).load) == "old"
        assert await cache.get_or_load("hotel:1", Source.opened(None).load) is None
        assert await cache.get("hotel:1") is None, "what does not exist any more is not kept"


async def test_an_invalidated_tag_takes_all_its_values_along(cache: CacheService, neighbour: CacheService) -> None:
    await cache.set("hotel:1", 1, tags=["izmir", "hotels"])
    await cache.set("hotel:2", 2, tags=["hotels"])
    await cache.set("hotel:3", 3, tags=["izmir"])
    await cache.set("hotel:4", 4)
    await neighbour.invalidate("izmir")
    assert [await cache.get(f"hotel:{number}") for number in (1, 2, 3, 4)] == [None, 2, None, 4]
    await cache.set("hotel:1", 5, tags=["izmir"])
    assert await neighbour.get("hotel:1") == 5


async def test_a_server_that_evicts_the_version_of_a_tag_evicts_its_values(cache: CacheService, redis_url: str) -> None:
    await cache.set("hotel:1", 1, tags=["izmir"])
    async with redis_at(redis_url) as redis:
        await redis.delete("skycap:cache:tag:{izmir}")
    assert await cache.get("hotel:1") is None


@pytest.mark.parametrize("what", ["invalidate", "delete", "set"])
async def test_what_was_being_loaded_when_it_was_forgotten_is_not_kept(
    cache: CacheService, neighbour: CacheService, what: str
) -> None:
    old, new = Source("old"), Source.opened("new")
    loading = asyncio.create_task(cache.get_or_load("hotel:1", old.load, tags=["izmir"]))
    await old.begun.wait()
    match what:
        case "invalidate":
            await neighbour.invalidate("izmir")
        case "delete":
            await neighbour.delete("hotel:1")
        case _:
            await neighbour.set("hotel:1", "new")
    # Whoever asks from now on, also here, must not get what that load brings.
    asking = [asyncio.create_task(each.get_or_load("hotel:1", new.load)) for each in (cache, neighbour)]
    old.open.set()
    assert await loading == "old"
    assert await asyncio.gather(*asking) == ["new", "new"]
    assert await cache.get("hotel:1") == "new"


async def test_after_an_invalidation_nobody_gets_what_was_loaded_before_it(redis_url: str) -> None:
    truth = 0

    async def load() -> int:
        seen = truth
        await asyncio.sleep(0.001)
        return seen

    async def ask(service: CacheService) -> Any:
        return await service.get_or_load("hotel:1", load, tags=["izmir"])

    async def ask_all_the_time(service: CacheService) -> None:
        while True:
            await ask(service)

    async with cache_at(redis_url) as cache, cache_at(redis_url) as neighbour:
        crowd = [asyncio.create_task(ask_all_the_time(each)) for each in (cache, neighbour) for _ in range(3)]
        for _ in range(100):
            truth += 1
            await neighbour.invalidate("izmir")
            assert [await ask(cache), await ask(neighbour)] == [truth, truth]
        for each in crowd:
            each.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)


async def test_hits_misses_and_loads_are_counted_for_the_fleet_and_for_this_daemon(
    cache: CacheService, neighbour: CacheService
) -> None:
    for service in (cache, neighbour):
        await service.get_or_load("hotel:1", Source.opened().load)
        await service.get("flight:1")
    await neighbour.fleet_figures()  # which reports its own
    assert await cache.fleet_figures() == {
        "flight": Figures(misses=2),
        "hotel": Figures(hits=1, misses=1, loads=1),
    }
    assert neighbour.own_figures() == {"flight": Figures(misses=1), "hotel": Figures(hits=1)}


async def test_a_daemon_that_stops_brings_its_figures_first(cache: CacheService, redis_url: str) -> None:
    async with cache_at(redis_url) as other:
        await other.get("hotel:1")
    assert await cache.fleet_figures() == {"hotel": Figures(misses=1)}


async def test_namespaces_that_are_made_of_data_are_counted_together(cache: CacheService) -> None:
    for number in range(150):
        await cache.get(f"n{number}:1")
    figures = cache.own_figures()
    assert len(figures) == 101
    assert figures["other"] == Figures(misses=50)


async def test_the_keys_that_are_asked_for_most_are_known_within_bounds(redis_url: str) -> None:
    rules = CacheRules(most_asked=3)
    async with cache_at(redis_url, rules) as cache, cache_at(redis_url, rules) as neighbour:
        for service in (cache, neighbour):
            for number, times in enumerate((5, 1, 9, 1, 7)):
                for _ in range(times):
                    await service.get(f"hotel-search:{number}")
            await service.fleet_figures()
        assert await cache.most_asked("hotel-search", 2) == [Asked("hotel-search:2", 18), Asked("hotel-search:4", 14)]
        assert len(await cache.most_asked("hotel-search")) == 3
        assert await cache.most_asked("flight-search") == []


async def test_a_cache_that_is_off_finds_and_keeps_nothing(redis_url: str) -> None:
    async with cache_at(redis_url, CacheRules(enabled=False)) as cache:
        source = Source.opened()
        await cache.set("hotel:1", 1)
        for _ in range(2):
            assert await cache.get_or_load("hotel:1", source.load) == "a hotel"
        await cache.delete("hotel:1")
        assert (source.loads, await cache.get("hotel:1"), await cache.most_asked("hotel")) == (2, None, [])
    async with redis_at(redis_url) as redis:
        assert await redis.dbsize() == 0
