"""The one way this package waits: ask again, soon."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

_FIRST_PAUSE_SECONDS = 0.001
_LONGEST_PAUSE_SECONDS = 0.020
"""A server is ready in 30 to 100 ms, and what is asked here costs next to nothing."""


async def until(is_so: Callable[[], Awaitable[bool]], *, limit: timedelta) -> None:
    """Return once ``is_so``; it is asked at least once. Raises TimeoutError after ``limit``.

    Asking is what an end of a process, a free lock and an open socket have in common on every system and in every
    event loop; a loop's own subprocess would belong to that loop, and ours may be stopped in another one.
    """
    async with asyncio.timeout(limit.total_seconds()):
        pause_seconds = _FIRST_PAUSE_SECONDS
        while not await is_so():
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(pause_seconds * 1.5, _LONGEST_PAUSE_SECONDS)
