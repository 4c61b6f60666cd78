"""The cache of a daemon as it is run: what handlers keep, what its endpoints and ``skycap cache`` say of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from skycap import AsyncClient, Payload
from skycap.http.cache import cache_document
from skycap.http.metrics_of_daemon import of_cache
from skycap.observe.exposition import exposition
from skycap.services.cache_figures import Figures
from tests.support.commands import command
from tests.support.daemons import Site
from tests.support.golden import assert_golden
from tests.support.redis import redis_at
from tests.support.redis_servers import RedisServer, redis_server
from tests.support.workers import PATIENCE

PLUGIN = """
from skycap import Payload, Plugin, Ttl

plugin = Plugin("hotels")


class Look(Payload, kind="look-at-hotel"):
    hotel: str


class LookInAThread(Payload, kind="look-in-a-thread"):
    hotel: str


@plugin.job()
async def look_at_hotel(ctx, payload: Look) -> str:
    async def load() -> str:
        return f"loaded for {ctx.job.id}"

    return await ctx.cache.get_or_load(f"hotel:{payload.hotel}", load, ttl=Ttl.LONG, tags=["hotels"])


@plugin.job()
def look_in_a_thread(ctx, payload: LookInAThread) -> str:
    return ctx.run(ctx.cache.get(f"hotel:{payload.hotel}"))
"""


class Look(Payload, kind="look-at-hotel"):
    """Handled by the plugin above."""

    hotel: str


class LookInAThread(Payload, kind="look-in-a-thread"):
    """Handled by the plugin above."""

    hotel: str


FIGURES = {
    "flight-search": Figures(hits=3, misses=1, loads=1),
    "hotel": Figures(hits=17, misses=3, errors=2, loads=3),
}


@pytest.fixture
def site(redis_url: str, tmp_path: Path, plugins_folder: Path) -> Site:
    (plugins_folder / "hotels.py").write_text(PLUGIN)
    return Site(folder=tmp_path, redis_url=redis_url, plugins_dir=plugins_folder)


async def result_of(client: AsyncClient, payload: Payload) -> Any:
    enqueued = await client.enqueue(payload)
    job = await client.wait(enqueued.job_id, queue="default", timeout=PATIENCE)
    assert job is not None
    assert job.state.is_final
    return job.result


async def test_handlers_keep_values_and_endpoints_and_commands_say_how_often(site: Site, redis_url: str) -> None:
    async with AsyncClient(redis_url) as client, site.daemon() as daemon, ClientSession(daemon.http_url) as http:
        first = await result_of(client, Look(hotel="1"))
        assert first.startswith("loaded for ")
        for _ in range(3):
            assert await result_of(client, Look(hotel="1")) == first
        assert await result_of(client, LookInAThread(hotel="1")) == first
        async with http.get("/api/system/cache-stats") as answer:
            stats = await answer.json()
        counted = {"hits": 4, "misses": 1, "hitRate": 0.8, "totalRequests": 5, "loads": 1, "errors": 0}
        same = {**counted, "namespaces": {"hotel": counted}}
        assert stats == {**same, "scope": "fleet", "worker": same}
        async with http.get("/api/system/health") as answer:
            assert (await answer.json())["redis"] == {"connected": True, "hitRate": 0.8}
        async with http.get("/metrics") as answer:
            assert 'skycap_cache_requests_total{namespace="hotel",result="hit"} 4.0\n' in await answer.text()

        listed = await command("cache", "stats", "--config", site.config, "--json")
        own = {"hits": 4, "misses": 1, "hitRate": 0.8, "totalRequests": 5, "loads": 1, "errors": 0}
        most_asked = [{"key": "hotel:1", "times": 5}]
        assert listed.json == {**own, "namespaces": {"hotel": {**own, "mostAsked": most_asked}}}
        printed = (await command("cache", "stats", "--config", site.config)).out
        assert printed.splitlines() == [
            "namespace  hits  misses  hit rate  loads  errors",
            "hotel         4       1     80.0%      1       0",
            "",
            "asked for most lately  times",
            "hotel:1                    5",
        ]
        none = await command("cache", "stats", "--namespace", "tour", "--keys", "0", "--config", site.config)
        assert none.out.splitlines()[1:] == ["tour          0       0  -             0       0"]

        for words, document in (
            (("delete", "hotel:1", "hotel:2"), {"deleted": ["hotel:1", "hotel:2"]}),
            (("invalidate", "hotels"), {"invalidated": ["hotels"]}),
        ):
            before = await result_of(client, Look(hotel="1"))
            assert (await command("cache", *words, "--config", site.config, "--json")).json == document
            assert await result_of(client, Look(hotel="1")) != before


async def test_what_is_no_key_is_a_wrong_use_of_the_command(site: Site) -> None:
    done = await command("cache", "delete", "hotel", "--config", site.config)
    assert (done.code, "write namespace:rest" in done.err) == (64, True)
    done = await command("cache", "invalidate", "", "--config", site.config)
    assert (done.code, "cache tag ''" in done.err) == (64, True)


async def test_a_command_says_when_redis_is_away_or_the_cache_is_off(tmp_path: Path) -> None:
    nobody = Site(folder=tmp_path, redis_url=RedisServer(tmp_path / "none").url)
    for words in (("stats",), ("delete", "hotel:1"), ("invalidate", "hotels")):
        done = await command("cache", *words, "--config", nobody.config)
        assert (done.code, done.err.startswith("redis: ")) == (69, True)
    nobody.extra["cache"] = {"enabled": False}
    done = await command("cache", "delete", "hotel:1", "--config", nobody.config)
    assert (done.code, "cache.enabled: is false" in done.err) == (78, True)


async def test_the_cache_can_have_a_redis_of_its_own(site: Site, redis_url: str, tmp_path: Path) -> None:
    async with redis_server(tmp_path / "cache") as own, AsyncClient(redis_url) as client:
        site.extra["cache"] = {"url": own.url, "prefix": "skycap:staging:"}
        async with site.daemon(), redis_at(own.url) as redis, redis_at(redis_url) as queues:
            await result_of(client, Look(hotel="1"))
            assert await redis.exists("skycap:staging:{hotel:1}") == 1
            assert [key async for key in queues.scan_iter("*{hotel:*")] == []
            assert (await command("cache", "delete", "hotel:1", "--config", site.config)).code == 0
            assert await redis.exists("skycap:staging:{hotel:1}") == 0
        async with redis_at(own.url) as redis:
            assert await redis.hget("skycap:staging:{figures}", "hotel:loads") == b"1", "brought before the end"


def test_the_figures_have_the_shape_that_the_dashboards_read() -> None:
    own = {"hotel": Figures(hits=1, misses=1)}
    documents = {"fleet": cache_document(FIGURES, own), "redis away": cache_document(None, own)}
    assert_golden("http/cache-stats.json", json.dumps(documents, indent=2) + "\n")


def test_the_metrics_of_the_cache_have_their_names() -> None:
    _, text = exposition(of_cache(FIGURES), accept="")
    own = [line for line in text.decode().splitlines(keepends=True) if "skycap_" in line]
    assert_golden("http/cache-metrics.txt", "".join(own))
