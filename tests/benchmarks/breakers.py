"""What a breaker costs: a call that it lets through, and one that it refuses.

python -m tests.benchmarks.breakers [--calls 5000] [--redis-url URL]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from skycap import BreakerOpen, BreakerSpec
from skycap.embedded import EmbeddedServers
from skycap.engine import breakers as engine
from skycap.engine.link import Link
from skycap.services.breakers import FleetBreakers
from tests.benchmarks.tables import table

SPEC = BreakerSpec(name="partner", tries_again_after=timedelta(minutes=10))


async def _milliseconds(call: Callable[[], Awaitable[None]], times: int) -> list[float]:
    took: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        await call()
        took.append(1000 * (time.perf_counter() - began))
    return sorted(took)


async def _measure(url: str, calls: int) -> None:
    link = Link.to(url)
    state = engine.FleetBreakers(link)
    breaker = FleetBreakers({SPEC.name: SPEC}, state)["partner"]

    async def ping() -> None:
        await link.command("PING")

    async def guarded() -> None:
        with suppress(BreakerOpen):
            async with breaker.guard():
                pass

    await _milliseconds(guarded, 200)
    rows = [("a ping of Redis", await _milliseconds(ping, calls))]
    rows.append(("a call that is let through", await _milliseconds(guarded, calls)))
    await state.open(SPEC)
    rows.append(("a call that is refused", await _milliseconds(guarded, calls)))
    await link.close()
    print(  # noqa: T201 - a command
        table(
            ("", "p50 ms", "p99 ms", "most ms"),
            [
                (name, f"{statistics.median(took):.3f}", f"{took[int(0.99 * len(took))]:.3f}", f"{took[-1]:.3f}")
                for name, took in rows
            ],
        )
    )


async def _main(calls: int, url: str | None) -> None:
    if url is not None:
        await _measure(url, calls)
        return
    with TemporaryDirectory() as folder:
        servers = EmbeddedServers(Path(folder))
        await servers.start()
        try:
            await _measure(servers.redis_url, calls)
        finally:
            await servers.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--redis-url")
    arguments = parser.parse_args()
    asyncio.run(_main(arguments.calls, arguments.redis_url))
