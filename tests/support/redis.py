"""A plain connection to Redis, for what a test does behind skycap's back."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

from redis.asyncio import Redis


@asynccontextmanager
async def redis_at(url: str) -> AsyncGenerator[Any]:
    """Any: redis-py types its commands for synchronous and asynchronous clients alike."""
    client = cast("Any", Redis).from_url(url)
    try:
        yield client
    finally:
        await client.aclose()
