"""The way to Redis: what it does with cancellation and with a Redis that is away."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from skycap.engine.link import Link
from skycap.engine.queue import Queue
from skycap.errors import Unavailable


async def test_a_cancelled_call_is_cancelled_at_whatever_point_it_was(redis_url: str) -> None:
    """Before Python 3.12 asyncio.wait_for, which redis-py sends with, swallows a cancellation that comes late."""
    link = Link.to(redis_url)
    swallowed = 0

    async def call() -> None:
        nonlocal swallowed
        await link.command("PING")
        if task.cancelling():
            swallowed += 1

    for turns in range(30):
        for _ in range(20):
            task = asyncio.create_task(call())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
    await link.close()
    assert swallowed == 0


async def test_a_redis_that_is_away_is_unavailable_and_its_address_is_not_told(tmp_path: Path) -> None:
    link = Link.to(f"unix://{tmp_path}/nowhere.sock")
    with pytest.raises(Unavailable, match=r"^redis: ") as caught:
        await Queue("tests", link).counts()
    assert "nowhere" not in str(caught.value)


async def test_a_redis_that_lost_its_scripts_is_given_them_again(redis_url: str) -> None:
    link = Link.to(redis_url)
    queue = Queue("tests", link)
    for _ in range(2):
        step = await queue.step([], want=1, worker="w", lease=timedelta(seconds=1), poison_after=3)
        assert list(step.claims) == []
        await link.command("SCRIPT", "FLUSH")
    await link.close()
