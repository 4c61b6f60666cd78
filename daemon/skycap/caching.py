"""What an installation's cache is made of, from its settings: for the daemon and for commands."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from skycap.engine.link import Link
from skycap.services.cache import CacheRules, CacheService
from skycap.services.cache_store import CacheStore

if TYPE_CHECKING:
    from skycap.settings import Settings


def cache_link_of(settings: Settings, queue_link: Link) -> Link:
    """The queue's own link, unless the cache has a Redis of its own."""
    url = settings.cache.url
    return queue_link if url is None else Link.to(url.unmasked)


def cache_of(settings: Settings, link: Link) -> CacheService:
    """The cache on this link, which it does not close."""
    cache = settings.cache
    return CacheService(
        CacheStore(link, prefix=cache.prefix, lease=cache.lease),
        CacheRules(
            enabled=cache.enabled,
            largest_bytes=cache.largest_bytes,
            compress_over_bytes=cache.compress_over_bytes,
            patience=cache.timeout,
            pause=cache.pause,
            jitter=cache.jitter,
            early=cache.early_refresh,
            most_asked=cache.most_asked,
        ),
    )


@asynccontextmanager
async def connected_cache(settings: Settings) -> AsyncGenerator[CacheService]:
    """The cache with a link of its own, closed afterwards."""
    link = Link.to((settings.cache.url or settings.require_redis()).unmasked)
    try:
        yield cache_of(settings, link)
    finally:
        await link.close()
