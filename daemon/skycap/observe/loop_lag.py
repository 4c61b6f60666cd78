"""Loop lag: how late the event loop does what it was asked to do by now. Small delays add up before any is a block."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

INTERVAL = timedelta(seconds=0.5)
"""Two looks a second cost some 50 µs of it."""


async def watch_lag(note: Callable[[float], None], *, interval: timedelta = INTERVAL) -> None:
    """For ever: tell by how many seconds each sleep was too long."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + interval.total_seconds()
        await asyncio.sleep(interval.total_seconds())
        note(max(0.0, loop.time() - due))
