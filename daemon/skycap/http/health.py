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
from skycap.http.tokens import Scope

if TYPE_CHECKING:
    from skycap.services.replicas import ReplicaStanding

CHECK_LIMIT = timedelta(seconds=2)
STALLED_AFTER = timedelta(seconds=15)
"""Three times what a consumer that waits for Redis (5 s) or for a doorbell (2 s) may be silent."""

Ping = Callable[[], Awaitable[timedelta]]


@dataclass(frozen=True, kw_only=True)
class Vitals:
    """What the health endpoints may look at. ``database`` is None where none is configured."""

    redis: Ping
    database: Ping | None
    cache_hit_rate: Callable[[], Awaitable[float]]
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

    async def live(self, _request: web.Request) -> web.Response:
        """The event loop turns. Asks no dependency: a restart would not heal one."""
        return web.json_response({"status": "ok", "uptimeSeconds": round(time.monotonic() - self._began, 1)})

    async def ready(self, _request: web.Request) -> web.Response:
        """200 while jobs are consumed; 503 before, when the loop stalls, and while draining."""
        redis, database = await asyncio.gather(_answered(self._vitals.redis), _answered(self._vitals.database))
        stalled = self._vitals.since_last_turn() > STALLED_AFTER
        draining = self._vitals.is_draining()
        is_ready = redis is not None and not stalled and not draining
        checks = {
            "redis": "ok" if redis is not None else "down",
            "consumers": "draining" if draining else "stalled" if stalled else "ok",
            "database": "ok" if database is not None else "down" if self._vitals.database else "not configured",
        }
        body = {"status": "ready" if is_ready else "not ready", "checks": checks}
        return web.json_response(body, status=200 if is_ready else 503)

    @needs_elsewhere(Scope.READ)
    async def system(self, _request: web.Request) -> web.Response:
        """The overview that the dashboards read."""
        vitals = self._vitals
        database, redis, hit_rate, counts, checks, (replicas, breakers) = await asyncio.gather(
            _answered(vitals.database),
            _answered(vitals.redis),
            self._hit_rate(),
            self._counts(),
            self._checks(),
            asyncio.gather(self._replicas(), vitals.breakers.now()),
        )
        body: dict[str, Any] = {
            "database": {"connected": database is not None, "responseTime": _in_ms(database)},
            # hitRate is of cache requests; 0 until there are any.
            "redis": {"connected": redis is not None, "hitRate": hit_rate},
            "queues": {name: _old_words(count) for name, count in counts.items()},
            "circuitBreakers": {name: as_fraction(status) for name, status in breakers.items()},
        }
        if replicas:
            body["database"]["replicas"] = replicas
        if checks:
            body["checks"] = checks
        return web.json_response(body)

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

    async def _checks(self) -> dict[str, dict[str, str]]:
        checks = self._vitals.checks
        answers = await asyncio.gather(*(_checked(check) for check in checks))
        return {
            check.name: {"state": answer.state, "reason": answer.reason}
            for check, answer in zip(checks, answers, strict=True)
        }


async def _answered(ping: Ping | None) -> timedelta | None:
    if ping is None:
        return None
    try:
        async with asyncio.timeout(CHECK_LIMIT.total_seconds()):
            return await ping()
    except (Unavailable, TimeoutError):
        return None


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


def _in_ms(duration: timedelta | None) -> str | None:
    return None if duration is None else f"{round(duration.total_seconds() * 1000)}ms"


def _old_words(counts: Counts | None) -> dict[str, int | None]:
    if counts is None:
        return {"waiting": None, "active": None, "failed": None}
    return {"waiting": counts.available, "active": counts.running, "failed": counts.discarded}
