"""The cache when processes die, when Redis is away or silent, behind Sentinel and in a cluster."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import structlog

from skycap.services.cache import CacheRules, CacheService
from skycap.services.cache_figures import Figures
from tests.support.caches import Source, cache_at
from tests.support.redis import redis_at
from tests.support.redis_servers import RedisServer, cluster, proxy, redis_server, sentinel
from tests.support.redis_users import RULE_OF_DAEMONS
from tests.support.workers import eventually

CALLS = 1000
QUICK = CacheRules(jitter=0, early=0, patience=timedelta(seconds=1), pause=timedelta(milliseconds=100))
ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def fleet(
    url: str, *, calls: int, seconds: float, size: int = 3
) -> AsyncGenerator[list[asyncio.subprocess.Process]]:
    """Processes that are ready to ask for the same key."""
    async with AsyncExitStack() as stack:
        processes = [
            await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "tests.support.cache_process", url, "hotel:1", str(calls), str(seconds)),
                cwd=ROOT,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            for _ in range(size)
        ]
        for process in processes:
            stack.push_async_callback(_end, process)
        for process in processes:
            assert await _line(process) == "ready"
        yield processes


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


async def _line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


def _go(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")


async def test_a_thousand_misses_at_once_in_three_processes_load_once(redis_url: str) -> None:
    async with fleet(redis_url, calls=CALLS // 3 + 1, seconds=0.3) as processes:
        for process in processes:
            _go(process)
        outputs = [(await process.communicate())[0].decode().split("\n") for process in processes]
    assert sum(lines.count("load") for lines in outputs) == 1
    assert [json.loads(lines[-2]) for lines in outputs] == [["a hotel", CALLS // 3 + 1]] * 3


async def test_when_the_loader_is_killed_another_process_loads(redis_url: str) -> None:
    async with fleet(redis_url, calls=10, seconds=1) as (first, second, third):
        _go(first)
        assert await _line(first) == "load"
        for process in (second, third):
            _go(process)
        first.kill()
        outputs = [(await process.communicate())[0].decode().split("\n") for process in (second, third)]
    assert sum(lines.count("load") for lines in outputs) == 1
    assert [json.loads(lines[-2]) for lines in outputs] == [["a hotel", 10]] * 2


async def _asked(cache: CacheService, source: Source, calls: int) -> None:
    for found in await asyncio.gather(*(cache.get_or_load("hotel:1", source.load) for _ in range(calls))):
        assert found == "a hotel"


async def test_handlers_go_on_while_redis_is_stopped_and_use_it_again_when_it_is_back(tmp_path: Path) -> None:
    async with redis_server(tmp_path / "redis") as server, cache_at(server.url, QUICK) as cache:
        source = Source.opened()
        await cache.set("hotel:2", "an old one", tags=["izmir"])
        await cache.set("hotel:3", "an old one")
        with structlog.testing.capture_logs() as lines:
            await server.kill()
            for _ in range(5):
                await _asked(cache, source, 100)
                await cache.set("hotel:1", "a hotel")
                assert await cache.get("hotel:1") is None
            assert 1 <= source.loads <= 10, "one for all who ask at the same time"
            await cache.invalidate("izmir")
            await cache.delete("hotel:3")
            assert await cache.most_asked("hotel") == []
            assert await cache.fleet_figures() is None
            await server.start("--save", "")

            async def is_back() -> bool:
                await cache.set("hotel:1", "a hotel")
                return bool(await cache.get("hotel:1") == "a hotel")

            await eventually(is_back)
        assert [line["event"] for line in lines] == [
            "the cache is away; handlers go on without it",
            "the cache is back",
        ]
        assert cache.own_figures()["hotel"].errors >= 500


async def test_what_was_invalidated_while_redis_was_out_of_reach_is_not_found_when_it_is_back(redis_url: str) -> None:
    async with proxy(redis_url) as between, cache_at(between.url, QUICK) as cache, cache_at(redis_url) as neighbour:
        await neighbour.set("hotel:1", 1, tags=["izmir"])
        await neighbour.set("hotel:2", 2)
        await neighbour.set("hotel:3", 3)
        assert await cache.get("hotel:1") == 1
        await between.close()
        await cache.invalidate("izmir")
        await cache.delete("hotel:2")
        await cache.set("hotel:3", 4)
        await between.open()

        async def is_back() -> bool:
            return await cache.fleet_figures() is not None

        await eventually(is_back)
        assert [await neighbour.get(f"hotel:{number}") for number in (1, 2, 3)] == [None, None, None]


async def test_a_silent_redis_holds_a_crowd_up_once_and_for_the_time_that_is_set(redis_url: str) -> None:
    patience = timedelta(milliseconds=300)
    rules = CacheRules(patience=patience, pause=timedelta(minutes=1))
    async with proxy(redis_url) as between, cache_at(between.url, rules) as cache:
        source = Source.opened()
        await _asked(cache, source, 1)
        between.go_silent()
        began = asyncio.get_running_loop().time()
        for _ in range(20):
            await _asked(cache, source, 50)
        took = asyncio.get_running_loop().time() - began
        assert took >= patience.total_seconds()
        assert took < 20 * patience.total_seconds(), "only the first of twenty crowds has waited"
        between.speak()


async def test_who_waits_for_a_load_elsewhere_goes_on_when_redis_dies(tmp_path: Path) -> None:
    async with (
        redis_server(tmp_path / "redis") as server,
        cache_at(server.url, QUICK) as cache,
        cache_at(server.url, QUICK) as neighbour,
    ):
        stuck, source = Source(), Source.opened()
        loading = asyncio.create_task(cache.get_or_load("hotel:1", stuck.load))
        await stuck.begun.wait()
        waiting = [asyncio.create_task(neighbour.get_or_load("hotel:1", source.load)) for _ in range(10)]
        await _is_waited_for(server)
        await server.kill()
        assert await asyncio.gather(*waiting) == ["a hotel"] * 10
        stuck.open.set()
        assert await loading == "a hotel"


async def _is_waited_for(server: RedisServer) -> None:
    async def somebody_waits() -> bool:
        async with redis_at(server.url) as redis:
            return any(client["cmd"] == "blmove" for client in await redis.client_list())

    await eventually(somebody_waits)


async def test_a_full_redis_keeps_nothing_more_and_still_gives_what_it_has(tmp_path: Path) -> None:
    async with redis_server(tmp_path / "redis") as server, cache_at(server.url, QUICK) as cache:
        await cache.set("hotel:1", "kept")
        async with redis_at(server.url) as redis:
            await redis.config_set("maxmemory", "1")
            source = Source.opened()
            with structlog.testing.capture_logs() as lines:
                for _ in range(3):
                    assert await cache.get_or_load("hotel:2", source.load) == "a hotel"
                    assert await cache.get("hotel:1") == "kept"
            await redis.config_set("maxmemory", "0")
        assert source.loads == 3
        assert [line["event"] for line in lines] == ["the cache's memory is full; nothing more is kept"]


async def _does_its_work(cache: CacheService, neighbour: CacheService) -> None:
    """Everything that the cache does, over several slots."""
    source = Source()
    asking = [asyncio.create_task(each.get_or_load("hotel:1", source.load)) for each in (cache, neighbour)]
    await source.begun.wait()
    source.open.set()
    assert await asyncio.gather(*asking) == ["a hotel"] * 2
    assert source.loads == 1
    for number in range(20):
        await cache.set(f"hotel:{number}", number, tags=["hotels", f"city {number % 2}"])
    assert [await neighbour.get(f"hotel:{number}") for number in range(20)] == [*range(20)]
    await neighbour.invalidate("city 1")
    assert [await cache.get(f"hotel:{number}") for number in range(4)] == [0, None, 2, None]
    stale = Source("stale")
    loading = asyncio.create_task(cache.get_or_load("hotel:1", stale.load, tags=["hotels"]))
    await stale.begun.wait()
    await neighbour.invalidate("hotels")
    again = asyncio.create_task(cache.get_or_load("hotel:1", Source.opened("new").load, tags=["hotels"]))
    stale.open.set()
    assert [await loading, await again] == ["stale", "new"]
    assert await neighbour.get_or_load("hotel:0", Source.opened("fresh").load) == "fresh"
    assert await neighbour.get_or_load("hotel:1", source.load) == "new"
    await cache.delete("hotel:0", "hotel:1", "hotel:2")
    assert await neighbour.get("hotel:1") is None
    await neighbour.fleet_figures()
    fleet = await cache.fleet_figures()
    assert fleet is not None
    assert fleet["hotel"].errors == 0
    assert fleet["hotel"].hits > 20
    assert (await cache.most_asked("hotel", 1))[0].key == "hotel:1"


async def test_it_works_in_a_cluster(tmp_path: Path) -> None:
    async with cluster(tmp_path) as sharded, cache_at(sharded.url) as cache, cache_at(sharded.url) as neighbour:
        await _does_its_work(cache, neighbour)


async def test_it_works_behind_sentinel(tmp_path: Path) -> None:
    async with sentinel(tmp_path) as guarded, cache_at(guarded.url) as cache, cache_at(guarded.url) as neighbour:
        await _does_its_work(cache, neighbour)


async def test_it_works_with_the_rights_that_the_readme_lists(tmp_path: Path) -> None:
    async with redis_server(tmp_path / "redis") as server, redis_at(server.url) as admin:
        await admin.execute_command("ACL", "SETUSER", "skycap", "on", ">secret", *RULE_OF_DAEMONS.split())
        url = server.url.replace("redis://", "redis://skycap:secret@")
        async with cache_at(url) as cache, cache_at(url) as neighbour:
            await _does_its_work(cache, neighbour)
        assert await admin.acl_log() == []


async def test_figures_that_could_not_be_reported_are_reported_later(tmp_path: Path) -> None:
    async with redis_server(tmp_path / "redis") as server, cache_at(server.url, QUICK) as cache:
        await cache.get("hotel:1")
        await server.kill()
        assert await cache.fleet_figures() is None
        await server.start("--save", "")

        async def are_there() -> bool:
            return await cache.fleet_figures() == {"hotel": Figures(misses=1)}

        await eventually(are_there)
