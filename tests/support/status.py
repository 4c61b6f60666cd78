"""What the endpoints of status see in a test: real figures in Redis, and a daemon and servers that are made up."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from skycap.breaker import BreakerSpec
from skycap.engine.fleet import Presence, Slots
from skycap.engine.link import Link
from skycap.engine.queue import Queue
from skycap.http.dependencies import Dependencies, Dependency, Ping
from skycap.http.system_status import StatusSources
from skycap.maintenance.clock import Clock
from skycap.maintenance.schedules import Schedules
from skycap.overview import overview_of
from skycap.schedule import Schedule
from skycap.services.cache import CacheService
from skycap.services.cache_store import CacheStore

BREAKERS = {name: BreakerSpec(name=name) for name in ("amadeus", "stripe")}


async def answers() -> timedelta:
    return timedelta(milliseconds=15)


def dependencies(*, redis: Ping = answers, database: Ping = answers, smtp: Ping = answers) -> Dependencies:
    return Dependencies(
        {"redis": Dependency(redis), "database": Dependency(database), "smtp": Dependency(smtp)},
    )


def presence(name: str) -> Presence:
    return Presence(
        id=name,
        host="host",
        process=7,
        version="1.2.3",
        python="3.11.2",
        started_at=datetime(2026, 1, 15, 7, tzinfo=UTC),
        queues={"email": Slots(running=1, concurrency=3)},
        memory_bytes=1024,
    )


@asynccontextmanager
async def status_sources(
    link: Link, queues: Mapping[str, Queue], servers: Dependencies | None = None, *schedules: Schedule
) -> AsyncGenerator[StatusSources]:
    clock = Clock(schedules, queues)
    cache = CacheService(CacheStore(link, prefix="skycap:cache:", lease=timedelta(seconds=2)))

    async def listed() -> list[dict[str, Any]]:
        return [each.document() for each in await Schedules(clock).list()]

    try:
        yield StatusSources(
            overview=lambda last: overview_of(link, list(queues.values()), BREAKERS, last_minutes=last),
            me=lambda: presence("me"),
            schedules=listed,
            cache=cache,
            dependencies=servers or dependencies(),
            queues=queues,
        )
    finally:
        await cache.close()
