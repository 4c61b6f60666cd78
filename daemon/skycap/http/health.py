"""Liveness, readiness and the health overview. Our words are turned into the dashboards' here, nowhere else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from aiohttp import web

from skycap.engine.queue import Counts, Queue
from skycap.errors import Unavailable
from skycap.health import Health, HealthCheck, down
from skycap.http.access import needs_elsewhere
from skycap.http.breakers import BreakerStatuses, as_fraction
from skycap.http.dependencies import Dependencies, Ping, Reading, Schema
from skycap.http.health_checks import of_breakers, of_consumers, of_dependencies, of_plugins, of_schema
from skycap.http.health_document import Check, health_answer, wants_health
from skycap.http.scopes import Scope

if TYPE_CHECKING:
    from skycap.engine.fleet import Slots
    from skycap.services.replicas import ReplicaStanding

CHECK_LIMIT = timedelta(seconds=2)
STALLED_AFTER = timedelta(seconds=15)
"""Three times what a consumer that waits for Redis (5 s) or for a doorbell (2 s) may be silent."""


@dataclass(frozen=True, kw_only=True)
class Vitals:
    """What the health endpoints may look at. ``database`` is None where none is configured."""

    redis: Ping
    database: Ping | None
    dependencies: Dependencies
    """Redis, the database and the mail server."""
    schema: Schema
    cache_hit_rate: Callable[[], Awaitable[float]]
    own_hit_rate: Callable[[], float]
    slots: Callable[[], Mapping[str, Slots]]
    """What this daemon does for each queue."""
    replicas: Callable[[], Awaitable[Sequence[ReplicaStanding]]] | None
    """How the database's standbys stand; None where there are none."""
    queues: Mapping[str, Queue]
    since_last_turn: Callable[[], timedelta]
    is_draining: Callable[[], bool]
    checks: Sequence[HealthCheck]
    breakers: BreakerStatuses


class HealthRoutes:
    """``/api/health`` (touches nothing), ``/api/health/ready``, ``/api/system/health``."""

    def __init__(self, vitals: Vitals) -> None:
        self._vitals = vitals
        self._began = time.monotonic()

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/api/health", self.live)
        router.add_get("/api/health/ready", self.ready)
        router.add_get("/api/system/health", self.system)

    async def live(self, request: web.Request) -> web.Response:
        """The event loop turns. Asks no dependency: a restart would not heal one."""
        uptime_seconds = round(time.monotonic() - self._began, 1)
        if wants_health(request):
            return health_answer(
                request,
                [Check(name="uptime", component="system", verdict="pass", value=uptime_seconds, unit="s")],
            )
        return web.json_response({"status": "ok", "uptimeSeconds": uptime_seconds})

    async def ready(self, request: web.Request) -> web.Response:
        """200 while jobs are consumed, also without database and mail server; 503 before, when the loop stalls, and
        while draining.
        """
        readings, missing = await asyncio.gather(self._vitals.dependencies.readings(), self._vitals.schema.missing())
        consumers = self._consumers()
        if wants_health(request):
            checks = [*of_dependencies(readings), of_consumers(consumers), *of_schema(missing)]
            return health_answer(request, checks)
        redis = readings["redis"]
        is_ready = redis is not None and redis.is_up and consumers == "ok"
        states = {
            **{name: _word(reading) for name, reading in readings.items()},
            "consumers": consumers,
            "schema": "unknown" if missing is None else f"lacks {', '.join(missing)}" if missing else "ok",
        }
        if readings["database"] is None:
            del states["schema"]
        body = {"status": "ready" if is_ready else "not ready", "checks": states}
        return web.json_response(body, status=200 if is_ready else 503)

    @needs_elsewhere(Scope.READ)
    async def system(self, request: web.Request) -> web.Response:
        """The overview that the dashboards read."""
        vitals = self._vitals
        readings, hit_rate, counts, checks, (replicas, breakers) = await asyncio.gather(
            vitals.dependencies.readings(),
            self._hit_rate(),
            self._counts(),
            self._checks(),
            asyncio.gather(self._replicas(), vitals.breakers.now()),
        )
        if wants_health(request):
            lines = [
                *of_dependencies(readings),
                of_consumers(self._consumers()),
                *of_breakers(breakers),
                *of_plugins(checks),
            ]
            return health_answer(request, lines)
        database, redis = readings["database"], readings["redis"]
        body: dict[str, Any] = {
            "database": _connection(database),
            # hitRate is of cache requests; 0 until there are any.
            "redis": {"connected": redis is not None and redis.is_up, "hitRate": hit_rate},
            "queues": {name: _old_words(count) for name, count in counts.items()},
            "circuitBreakers": {name: as_fraction(status) for name, status in breakers.items()},
            "worker": self._own_part(),
        }
        if readings["smtp"] is not None:
            body["smtp"] = _connection(readings["smtp"])
        if replicas:
            body["database"]["replicas"] = replicas
        if checks:
            body["checks"] = {name: {"state": each.state, "reason": each.reason} for name, each in checks.items()}
        return web.json_response(body)

    def _consumers(self) -> str:
        if self._vitals.is_draining():
            return "draining"
        return "stalled" if self._vitals.since_last_turn() > STALLED_AFTER else "ok"

    def _own_part(self) -> dict[str, Any]:
        """What of the fleet's figures is this daemon's."""
        vitals = self._vitals
        return {
            "redis": {"hitRate": round(vitals.own_hit_rate(), 4)},
            "queues": {
                name: {"active": slots.running, "concurrency": slots.concurrency}
                for name, slots in vitals.slots().items()
            },
        }

    async def _hit_rate(self) -> float:
        try:
            async with asyncio.timeout(CHECK_LIMIT.total_seconds()):
                return round(await self._vitals.cache_hit_rate(), 4)
        except TimeoutError:
            return 0.0

    async def _counts(self) -> dict[str, Counts | None]:
        queues = self._vitals.queues
        found = await asyncio.gather(*(_counted(queue) for queue in queues.values()))
        return dict(zip(queues, found, strict=True))

    async def _replicas(self) -> list[dict[str, Any]]:
        if self._vitals.replicas is None:
            return []
        try:
            async with asyncio.timeout(CHECK_LIMIT.total_seconds()):
                standing = await self._vitals.replicas()
        except TimeoutError:
            return []
        return [
            {
                "name": replica.name,
                "connected": replica.response_time is not None,
                "responseTime": _in_ms(replica.response_time),
                "lagSeconds": None if replica.lag is None else round(replica.lag.total_seconds(), 1),
                "used": replica.is_used,
                "problem": replica.problem,
            }
            for replica in standing
        ]

    async def _checks(self) -> dict[str, Health]:
        checks = self._vitals.checks
        answers = await asyncio.gather(*(_checked(check) for check in checks))
        return {check.name: answer for check, answer in zip(checks, answers, strict=True)}


async def _counted(queue: Queue) -> Counts | None:
    try:
        async with asyncio.timeout(CHECK_LIMIT.total_seconds()):
            return await queue.counts()
    except (Unavailable, TimeoutError):
        return None


async def _checked(check: HealthCheck) -> Health:
    try:
        async with asyncio.timeout(CHECK_LIMIT.total_seconds()):
            return await check.check()
    except TimeoutError:
        return down(f"no answer within {CHECK_LIMIT.total_seconds():g} s")
    except Exception as error:  # noqa: BLE001 - a plugin's check may raise anything, and says so by it
        return down(type(error).__name__)


def _word(reading: Reading | None) -> str:
    if reading is None:
        return "not configured"
    return "ok" if reading.is_up else "down"


def _connection(reading: Reading | None) -> dict[str, Any]:
    is_up = reading is not None and reading.is_up
    return {"connected": is_up, "responseTime": _in_ms(reading.response_time) if reading else None}


def _in_ms(duration: timedelta | None) -> str | None:
    return None if duration is None else f"{round(duration.total_seconds() * 1000)}ms"


def _old_words(counts: Counts | None) -> dict[str, int | None]:
    if counts is None:
        return {"waiting": None, "active": None, "failed": None}
    return {"waiting": counts.available, "active": counts.running, "failed": counts.discarded}
