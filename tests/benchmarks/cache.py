"""The cache: how long a call takes, how often it helps, and the same of cashews where that is installed.

.venv/bin/python -m tests.benchmarks.cache --help
"""

from __future__ import annotations

import asyncio
import importlib
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import click

from skycap.services.cache import CacheRules, CacheService
from skycap.services.cache_figures import total_of
from tests.benchmarks.tables import number, percentile, table
from tests.support.caches import cache_at
from tests.support.redis import redis_at
from tests.support.redis_servers import redis_server

SIZES = {"100 B": 100, "1 KiB": 1024, "64 KiB": 64 * 1024}
WARM = 100
"""Calls before those that are timed."""
EARLY = "early refresh"
CROWD = 100
"""Calls that are made at once."""

_HOUR = timedelta(hours=1)
_WORDS = ("sea view", "breakfast", "parking", "Wi-Fi", "late check-in", "balcony", "city centre", "free cancellation")

Call = Callable[[], Awaitable[object]]


def body(size: int) -> dict[str, Any]:
    """A hotel of about ``size`` bytes as JSON, as compressible as such a thing is."""
    chance = random.Random(size)  # noqa: S311 - the same at each run
    hotel: dict[str, Any] = {"id": "cmq1us0a7000108l4a1ay5ey1", "name": "Grand Hotel", "stars": 5, "price": 129.5}
    room = (size - 75) // 45
    offers = [{"id": chance.getrandbits(48), "what": chance.choice(_WORDS)} for _ in range(max(0, room))]
    return {**hotel, "offers": offers} if offers else hotel


async def timed(call: Call, calls: int, *, before: Call | None = None) -> list[float]:
    """Seconds of each call, without what is done before it."""
    for _ in range(WARM):
        await call()
    seconds: list[float] = []
    for _ in range(calls):
        if before is not None:
            await before()
        began = time.perf_counter()
        await call()
        seconds.append(time.perf_counter() - began)
    return seconds


async def at_once(call: Call) -> float:
    """Seconds of one call of many that are made at once."""
    rounds: list[float] = []
    for _ in range(20):
        began = time.perf_counter()
        await asyncio.gather(*(call() for _ in range(CROWD)))
        rounds.append((time.perf_counter() - began) / CROWD)
    return statistics.median(rounds)


def ours(cache: CacheService, early: CacheService, value: Any, name: str) -> dict[str, Call]:
    """Each measured call by its name, on keys of its own."""
    numbers = count()

    async def load() -> Any:
        return value

    return {
        "hit": lambda: cache.get(f"hotel:{name}"),
        "hit of get_or_load": lambda: cache.get_or_load(f"hotel:{name}", load, ttl=_HOUR),
        "hit with two tags": lambda: cache.get(f"tagged:{name}"),
        "miss and load": lambda: cache.get_or_load(f"miss:{name}:{next(numbers)}", load, ttl=_HOUR),
        "set": lambda: cache.set(f"set:{name}", value, ttl=_HOUR),
        EARLY: lambda: early.get_or_load(f"early:{name}", load, ttl=_HOUR),
    }


async def theirs(url: str, value: Any, name: str) -> dict[str, Call] | None:
    """The same of cashews; None where it is not installed."""
    try:
        cashews: Any = importlib.import_module("cashews")
    except ImportError:
        return None
    cache = cashews.Cache()
    cache.setup(url)
    numbers = count()

    @cache(ttl="1h", key="cashews-miss:{key}", lock=True)  # type: ignore[untyped-decorator, unused-ignore]
    async def load(key: str) -> Any:
        return value

    await cache.set(f"cashews:{name}", value, expire=3600)
    await load(f"hit:{name}")
    return {
        "hit": lambda: cache.get(f"cashews:{name}"),
        "hit of get_or_load": lambda: load(f"hit:{name}"),
        "miss and load": lambda: load(f"{name}:{next(numbers)}"),
        "set": lambda: cache.set(f"cashews-set:{name}", value, expire=3600),
    }


async def latencies(url: str, calls: int) -> None:
    rules = CacheRules(most_asked=100)
    always_early = CacheRules(early=0.5, jitter=0)
    async with cache_at(url, rules) as cache, cache_at(url, always_early) as early, redis_at(url) as redis:
        rows: list[tuple[str, ...]] = []
        for name, size in SIZES.items():
            value = body(size)
            await cache.set(f"hotel:{name}", value, ttl=_HOUR)
            await cache.set(f"tagged:{name}", value, ttl=_HOUR, tags=["izmir", "hotels"])
            measured = {"skycap": ours(cache, early, value, name)}
            cashews = await theirs(url, value, name)
            if cashews is not None:
                measured["cashews"] = cashews
            for whose, named in measured.items():
                for what, call in named.items():
                    ages = partial(redis.pexpire, f"skycap:cache:{{early:{name}}}", 60_000)
                    found = await timed(call, calls, before=ages if what == EARLY else None)
                    rows.append(
                        (
                            *(whose, name, what),
                            *(number(percentile(found, share) * 1e6) for share in (0.5, 0.99)),
                            "-" if what == EARLY else number(await at_once(call) * 1e6),
                        )
                    )
        click.echo(table(("whose", "value", "µs of a", "p50", "p99", f"each of {CROWD} at once"), rows))


def asked_keys(keys: int, requests: int) -> Iterator[int]:
    """As travellers ask for searches: the second most popular half as often as the first, and so on (Zipf)."""
    weights = [1 / rank for rank in range(1, keys + 1)]
    yield from random.Random(1).choices(range(keys), weights, k=requests)  # noqa: S311 - the same at each run


async def hit_rate(url: str, *, keys: int, requests: int) -> None:
    """Of requests over keys that are asked for unevenly, from an empty cache, with values that end meanwhile."""
    async with cache_at(url, CacheRules(most_asked=100)) as cache:
        loads = 0

        async def load() -> Any:
            nonlocal loads
            loads += 1
            await asyncio.sleep(0.005)
            return {"offers": loads}

        began = time.perf_counter()
        turns = asyncio.Semaphore(CROWD)

        async def ask(key: int) -> None:
            async with turns:
                await cache.get_or_load(f"hotel-search:{key}", load, ttl=timedelta(seconds=2))

        await asyncio.gather(*(ask(key) for key in asked_keys(keys, requests)))
        took = time.perf_counter() - began
        figures = total_of(cache.own_figures())
        top = await cache.most_asked("hotel-search", 3)
        click.echo(
            f"\n{requests:,} requests for {keys:,} keys in {took:.1f} s ({requests / took:,.0f}/s), values live 2 s: "
            f"hit rate {figures.hit_rate:.1%}, {figures.loads:,} loads for {figures.misses:,} misses; "
            f"most asked: {', '.join(f'{each.key} {each.times:,}' for each in top)}"
        )


async def measure(calls: int, keys: int, requests: int) -> None:
    with tempfile.TemporaryDirectory(prefix="skycap-cache-") as folder:
        # Over TCP, since cashews knows no unix socket.
        async with redis_server(Path(folder) / "redis") as server:
            await latencies(server.url, calls)
            await hit_rate(server.url, keys=keys, requests=requests)


@click.command(context_settings={"show_default": True})
@click.option("--calls", default=2000, help="Of each kind.")
@click.option("--keys", default=5000, help="Of which the hit rate is measured.")
@click.option("--requests", default=100_000, help="For them.")
def main(calls: int, keys: int, requests: int) -> None:
    """Measure the cache, with a Valkey of its own."""
    asyncio.run(measure(calls, keys, requests))


if __name__ == "__main__":
    main()
