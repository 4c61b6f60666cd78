"""Caches on a real Valkey, each with a link of its own, as those of the daemons of a fleet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from skycap.engine.link import Link
from skycap.services.cache import CacheRules, CacheService
from skycap.services.cache_store import CacheStore

PREFIX = "skycap:cache:"
STEADY = CacheRules(jitter=0, early=0)
"""Values live exactly as long as was asked for, and are not loaded before."""


@asynccontextmanager
async def cache_at(
    url: str, rules: CacheRules = STEADY, *, lease: timedelta = timedelta(seconds=2)
) -> AsyncGenerator[CacheService]:
    link = Link.to(url)
    cache = CacheService(CacheStore(link, prefix=PREFIX, lease=lease), rules)
    try:
        yield cache
    finally:
        await cache.close()
        await link.close()


@dataclass
class Source:
    """Where values are loaded from: it counts, and can be held up."""

    value: Any = "a hotel"
    loads: int = 0
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    open: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def opened(cls, value: Any = "a hotel") -> Source:
        source = cls(value)
        source.open.set()
        return source

    async def load(self) -> Any:
        self.loads += 1
        value = self.value
        self.begun.set()
        await asyncio.sleep(0)  # no load is done in one turn of the loop
        await self.open.wait()
        if isinstance(value, BaseException):
            raise value
        return value
