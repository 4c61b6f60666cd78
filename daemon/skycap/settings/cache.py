"""The settings of the cache."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from skycap.settings.addresses import RedisAddress
from skycap.settings.section import Section


class CacheSettings(Section):
    """What handlers keep for a while (ctx.cache), shared by all daemons; without it they load everything themselves."""

    enabled: bool = Field(default=True, description="false keeps and finds nothing.")
    url: RedisAddress | None = Field(
        default=None,
        description="A Redis of its own, as redis.url; if not set, that one. The queue's must never evict "
        "(maxmemory-policy noeviction); this one may, with allkeys-lfu, and what it evicts is only a miss.",
        examples=["redis://:password@localhost:6380/0"],
    )
    prefix: str = Field(
        default="skycap:cache:",
        pattern=r"^[A-Za-z0-9:_./-]{1,100}$",
        description="What all keys begin with; hotel:cmq1 lies at skycap:cache:{hotel:cmq1}. Two installations on one "
        "Redis need two. Letters, digits and : _ . / - are allowed.",
    )
    timeout_ms: float = Field(
        default=1000.0,
        ge=10,
        le=60_000,
        description="How long a handler waits for an answer before it goes on without the cache.",
    )
    pause_seconds: float = Field(
        default=1.0, ge=0.1, le=300, description="How long the cache is not asked after it did not answer."
    )
    lease_seconds: float = Field(
        default=2.0,
        ge=0.5,
        le=300,
        description="When a daemon dies while it loads a value, another one loads it after this long.",
    )
    largest_bytes: int = Field(
        default=1024 * 1024,
        ge=1024,
        le=64 * 1024 * 1024,
        description="Values that are larger as JSON are not kept, which is logged.",
    )
    compress_over_bytes: int = Field(
        default=1024, ge=64, le=64 * 1024 * 1024, description="Values that are larger as JSON are compressed (zlib)."
    )
    jitter: float = Field(
        default=0.1,
        ge=0,
        le=0.5,
        description="By up to this share values live shorter than asked for, so that those that were kept together "
        "do not end together.",
    )
    early_refresh: float = Field(
        default=0.1,
        ge=0,
        le=0.5,
        description="In the last share of a value's life one caller loads it anew, while the others get the old one; "
        "0 = never.",
    )
    most_asked: int = Field(
        default=100,
        ge=0,
        le=10_000,
        description="Of how many keys of each namespace the number of requests is known (`skycap cache stats`); "
        "0 = none.",
    )

    @property
    def timeout(self) -> timedelta:
        return timedelta(milliseconds=self.timeout_ms)

    @property
    def pause(self) -> timedelta:
        return timedelta(seconds=self.pause_seconds)

    @property
    def lease(self) -> timedelta:
        return timedelta(seconds=self.lease_seconds)
