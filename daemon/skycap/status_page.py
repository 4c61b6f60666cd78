"""What the page at ``/`` shows, gathered from the parts of one daemon within two seconds, whichever of them fail."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from skycap.display.situation import CacheUse, Dependency, ScheduleLine, Situation
from skycap.engine.dead_letters import DeadLetter, newest_dead
from skycap.engine.queue import Queue
from skycap.health import Health, HealthCheck, down
from skycap.overview import overview_of
from skycap.patience import in_time
from skycap.services.cache_figures import Figures, total_of

if TYPE_CHECKING:
    from skycap.breaker import BreakerSpec
    from skycap.engine.link import Link
    from skycap.http.dependencies import Reading
    from skycap.http.health import Vitals
    from skycap.maintenance.schedules import Schedules, ScheduleStatus
    from skycap.services.cache import CacheService
    from skycap.services.replicas import ReplicaStanding

_LIMIT = timedelta(seconds=1.5)
_SILENT_FROM = timedelta(seconds=5)
"""A consumer that waits at a doorbell hears nothing for two seconds, and knows that Redis is there."""
_DEAD_LETTERS = 20
_SERVERS = {"redis": "Redis", "database": "PostgreSQL", "smtp": "The mail server"}


@dataclass(frozen=True, kw_only=True)
class StatusPage:
    """Where its figures come from."""

    daemon: str
    version: str
    link: Link
    vitals: Vitals
    breakers: Mapping[str, BreakerSpec]
    schedules: Schedules
    cache: CacheService
    is_watched: bool

    async def look(self) -> Situation:
        queues = list(self.vitals.queues.values())
        overview, dependencies, schedules, cache, dead_letters = await asyncio.gather(
            overview_of(self.link, queues, self.breakers),
            self._dependencies(),
            in_time(self.schedules.list()),
            in_time(self.cache.fleet_figures()),
            in_time(_newest_dead(queues)),
        )
        return Situation(
            at=overview.at or datetime.now(UTC),
            version=self.version,
            daemon=self.daemon,
            overview=overview,
            dependencies=dependencies,
            schedules=None if schedules is None else [_line(status) for status in schedules],
            cache=_use(cache, self.cache.own_figures()),
            dead_letters=dead_letters,
            is_watched=self.is_watched,
        )

    async def _dependencies(self) -> tuple[Dependency, ...]:
        vitals = self.vitals
        readings, replicas, checks = await asyncio.gather(
            vitals.dependencies.readings(),
            self._replicas(),
            asyncio.gather(*(_checked(check) for check in vitals.checks)),
        )
        servers = [self._with_silence(_of_server(_SERVERS[name], reading)) for name, reading in readings.items()]
        return (*servers, *replicas, *checks)

    def _with_silence(self, server: Dependency) -> Dependency:
        """Only of Redis is it known how long it has been away, and by nobody but the consumers."""
        silence = self.vitals.since_last_turn()
        if server.name != _SERVERS["redis"] or server.state != "down":
            return server
        return replace(server, reason="", silent_for=silence if silence >= _SILENT_FROM else None)

    async def _replicas(self) -> list[Dependency]:
        if self.vitals.replicas is None:
            return []
        return [_of_replica(each) for each in await in_time(self.vitals.replicas()) or ()]


def _of_server(name: str, reading: Reading | None) -> Dependency:
    if reading is None:
        return Dependency(name=name, state="not configured")
    return Dependency(
        name=name,
        state="ok" if reading.is_up else "down",
        response_time=reading.response_time,
        reason=reading.problem,
    )


async def _checked(check: HealthCheck) -> Dependency:
    health = await _health(check)
    return Dependency(name=check.name, noun="check", state=health.state, reason=health.reason)


async def _health(check: HealthCheck) -> Health:
    try:
        async with asyncio.timeout(_LIMIT.total_seconds()):
            return await check.check()
    except TimeoutError:
        return down(f"no answer within {_LIMIT.total_seconds():g} s")
    except Exception as error:  # noqa: BLE001 - a plugin's check may raise anything, and says so by it
        return down(type(error).__name__)


def _of_replica(replica: ReplicaStanding) -> Dependency:
    return Dependency(
        name=replica.name,
        noun="replica",
        state="ok" if replica.is_used else "degraded",
        response_time=replica.response_time,
        reason="" if replica.is_used else replica.problem or "it is left out",
    )


async def _newest_dead(queues: Sequence[Queue]) -> list[DeadLetter]:
    found = await asyncio.gather(*(newest_dead(queue, _DEAD_LETTERS) for queue in queues))
    return [letter for letters in found for letter in letters]


def _line(status: ScheduleStatus) -> ScheduleLine:
    return ScheduleLine(
        name=status.schedule.name,
        when=status.schedule.when,
        last=status.record.last_tick,
        outcome=status.outcome or "",
        next=status.next_tick,
        standing=status.standing,
    )


def _use(fleet: Mapping[str, Figures] | None, own: Mapping[str, Figures]) -> CacheUse:
    total = total_of(own if fleet is None else fleet)
    return CacheUse(hits=total.hits, requests=total.requests, is_fleet=fleet is not None)
