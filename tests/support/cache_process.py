"""One daemon's part in the tests of the cache, as a process: ``python -m tests.support.cache_process URL KEY CALLS``.

It prints ``ready``, waits for a line on standard input, and has CALLS callers ask for KEY at once, whose value takes
SECONDS to load. Each load prints ``load``, and the end the values that were got, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys

from tests.support.caches import cache_at


async def main(url: str, key: str, calls: int, seconds: float) -> None:
    async def load() -> str:
        print("load", flush=True)  # noqa: T201 - the test reads it
        await asyncio.sleep(seconds)
        return "a hotel"

    async with cache_at(url) as cache:
        await cache.get("other:1")  # connected
        print("ready", flush=True)  # noqa: T201
        await asyncio.to_thread(sys.stdin.readline)
        values = await asyncio.gather(*(cache.get_or_load(key, load) for _ in range(calls)))
        print(json.dumps([*sorted(set(values)), len(values)]), flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
