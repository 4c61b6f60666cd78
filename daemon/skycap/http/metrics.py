"""``/metrics``: what Prometheus reads. Asks all it is about at once, and leaves out what does not answer in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import structlog
from aiohttp import web

from skycap.context import Log
from skycap.http.access import needs_elsewhere
from skycap.http.dependencies import Ping
from skycap.http.health import Vitals
from skycap.http.metrics_of_daemon import Build, Counted, of_daemon
from skycap.http.metrics_of_fleet import FleetLook, ScheduleFigures, of_fleet
from skycap.http.metrics_of_servers import ServersLook, of_servers
from skycap.http.scopes import Scope
from skycap.observe.exposition import exposition
from skycap.observe.families import Family
from skycap.observe.process import of_process
from skycap.patience import in_time

if TYPE_CHECKING:
    from skycap.engine.server_facts import ServerFacts
    from skycap.overview import Overview
    from skycap.services.database import PoolFigures

T = TypeVar("T")

_log: Log = structlog.get_logger("skycap.metrics")

_LEDGER_KEPT_SECONDS = 30.0
"""The ledger is counted by index, but it may have failed mails by the hundred thousand."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What the metrics are about. What is None, this installation does not have."""

    build: Build
    vitals: Vitals
    overview: Callable[[], Awaitable[Overview]]
    schedules: Callable[[], Awaitable[Sequence[ScheduleFigures]]]
    redis_facts: Callable[[], Awaitable[ServerFacts | None]]
    ledger_rows: Callable[[], Awaitable[Mapping[str, int]]] | None
    outbox_age: Callable[[], Awaitable[timedelta]] | None
    pools: Callable[[], Mapping[str, PoolFigures]]
    """By name of the database."""
    counted: Counted


class MetricsRoutes:
    """``/metrics``."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._ledger_rows = None if sources.ledger_rows is None else _Kept(sources.ledger_rows, _LEDGER_KEPT_SECONDS)

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/metrics", self.metrics)

    @needs_elsewhere(Scope.READ)
    async def metrics(self, request: web.Request) -> web.Response:
        """What is known now, in the text format or as OpenMetrics."""
        # In a thread: it takes some milliseconds, and for the first time as long as it takes to load the library.
        accept = request.headers.get("Accept", "")
        content_type, body = await asyncio.to_thread(exposition, await self.families(), accept=accept)
        headers = {"Content-Type": content_type, "Cache-Control": "no-store", "Vary": "Accept"}
        return web.Response(body=body, headers=headers)

    async def families(self) -> list[Family]:
        sources, vitals = self._sources, self._sources.vitals
        fleet, servers = await asyncio.gather(self._look_at_fleet(), self._look_at_servers())
        return [
            *of_fleet(fleet, queues=tuple(vitals.queues)),
            *of_servers(servers),
            *of_daemon(sources.build, sources.counted, is_draining=vitals.is_draining()),
            *of_process(),
        ]

    async def _look_at_fleet(self) -> FleetLook:
        sources = self._sources
        overview, schedules, outbox_age = await asyncio.gather(
            _in_time(sources.overview), _in_time(sources.schedules), _in_time(sources.outbox_age)
        )
        return FleetLook(overview=overview, schedules=schedules, outbox_age=outbox_age)

    async def _look_at_servers(self) -> ServersLook:
        sources, vitals = self._sources, self._sources.vitals
        redis, postgresql, facts, replicas, ledger_rows = await asyncio.gather(
            _in_time(vitals.redis),
            _in_time(vitals.database),
            _in_time(sources.redis_facts),
            _in_time(vitals.replicas),
            _in_time(self._ledger_rows),
        )
        pings: Mapping[str, tuple[Ping | None, timedelta | None]] = {
            "redis": (vitals.redis, redis),
            "postgresql": (vitals.database, postgresql),
        }
        return ServersLook(
            roundtrips={name: took for name, (ping, took) in pings.items() if ping is not None},
            redis=facts,
            replicas=replicas,
            pools=sources.pools(),
            ledger_rows=ledger_rows,
        )


class _Kept:
    """An answer that is good for some seconds, so that scrapes of any number cost one question."""

    def __init__(self, ask: Callable[[], Awaitable[Mapping[str, int]]], seconds: float) -> None:
        self._ask = ask
        self._seconds = seconds
        self._good_until = 0.0
        self._answer: Mapping[str, int] = {}

    async def __call__(self) -> Mapping[str, int]:
        if time.monotonic() >= self._good_until:
            self._answer = await self._ask()
            self._good_until = time.monotonic() + self._seconds
        return self._answer


async def _in_time(ask: Callable[[], Awaitable[T]] | None) -> T | None:
    if ask is None:
        return None
    try:
        return await in_time(ask())
    except Exception as error:  # noqa: BLE001 - a table that is not there yet must not cost the other figures
        _log.debug("a figure is not known", problem=type(error).__name__)
        return None
