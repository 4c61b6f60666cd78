"""What health, metrics and pages of a daemon look at: its servers, queues, worker, cache and breakers."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

from skycap.engine import breakers as breaker_state
from skycap.engine.fleet import Slots
from skycap.http.breakers import BreakerStatuses
from skycap.http.cache import fleet_figures
from skycap.http.dependencies import Dependencies, Dependency, Schema
from skycap.http.health import Vitals
from skycap.services.cache_figures import total_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from skycap.databases import Databases
    from skycap.engine.broker import QueueBroker
    from skycap.registry import Registry
    from skycap.services.breakers import FleetBreakers
    from skycap.services.cache import CacheService
    from skycap.services.database import DatabasePool
    from skycap.services.smtp import SmtpPool
    from skycap.worker.worker import Worker

_SMTP_GOOD_FOR = timedelta(seconds=30)


def vitals_of(
    broker: QueueBroker,
    databases: Databases | None,
    smtp: SmtpPool | None,
    *,
    worker: Worker,
    cache: CacheService,
    breakers: FleetBreakers,
    registry: Registry,
) -> Vitals:
    database = databases.primary if databases else None
    return Vitals(
        redis=lambda: _ping(broker),
        database=database.ping if database else None,
        dependencies=_dependencies(broker, database, smtp),
        schema=Schema(_missing_migrations(database) if database else None),
        cache_hit_rate=lambda: _hit_rate(cache),
        own_hit_rate=lambda: total_of(cache.own_figures()).hit_rate,
        slots=lambda: _slots(worker),
        replicas=databases.replicas.standing if databases and databases.replicas else None,
        queues={consumer.queue.name: consumer.queue for consumer in worker.consumers},
        since_last_turn=lambda: worker.since_last_turn,
        is_draining=lambda: worker.is_draining,
        checks=registry.health_checks(),
        breakers=BreakerStatuses(
            tuple(breakers.specs),
            lambda: breaker_state.FleetBreakers(broker.link).statuses(breakers.specs),
            breakers.calls,
        ),
    )


def _slots(worker: Worker) -> dict[str, Slots]:
    return {
        consumer.queue.name: Slots(running=consumer.running, concurrency=consumer.concurrency)
        for consumer in worker.consumers
    }


def _dependencies(broker: QueueBroker, database: DatabasePool | None, smtp: SmtpPool | None) -> Dependencies:
    return Dependencies(
        {
            "redis": Dependency(lambda: _ping(broker)),
            "database": Dependency(database.ping) if database else None,
            # A mail server should not be asked by every probe: some count log-ins.
            "smtp": Dependency(lambda: _timed(smtp.ping), good_for=_SMTP_GOOD_FOR) if smtp else None,
        }
    )


def _missing_migrations(database: DatabasePool) -> Callable[[], Awaitable[list[str]]]:
    from skycap.services.migrations import pending

    return lambda: pending(database.stateless)


async def _timed(call: Callable[[], Awaitable[object]]) -> timedelta:
    began = time.perf_counter()
    await call()
    return timedelta(seconds=time.perf_counter() - began)


async def _ping(broker: QueueBroker) -> timedelta:
    return await _timed(lambda: broker.link.command("PING"))


async def _hit_rate(cache: CacheService) -> float:
    fleet = await fleet_figures(cache)
    return total_of(cache.own_figures() if fleet is None else fleet).hit_rate
