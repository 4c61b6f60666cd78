"""Where the figures of ``/metrics`` come from in a daemon, by its settings."""

from __future__ import annotations

import platform
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from importlib import metadata
from typing import TYPE_CHECKING

from skycap.engine.server_facts import ServerFacts, facts_of
from skycap.http.metrics import MetricsRoutes, Sources
from skycap.http.metrics_of_daemon import Build, Counted
from skycap.http.metrics_of_fleet import ScheduleFigures
from skycap.maintenance.schedules import Schedules
from skycap.observe.meters import Meters
from skycap.overview import overview_of

if TYPE_CHECKING:
    from skycap.databases import Databases
    from skycap.engine.link import Link
    from skycap.http.health import Vitals
    from skycap.maintenance.clock import Clock
    from skycap.observe.event_loop import LoopMonitor
    from skycap.registry import Registry
    from skycap.services.breakers import FleetBreakers
    from skycap.services.cache import CacheService
    from skycap.services.database import DatabasePool, PoolFigures
    from skycap.settings import Settings


def meters_of(registry: Registry) -> Meters:
    return Meters({job_type.kind: job_type.queue for job_type in registry.job_types})


def metrics_of(
    settings: Settings,
    registry: Registry,
    vitals: Vitals,
    link: Link,
    databases: Databases | None,
    *,
    meters: Meters,
    clock: Clock,
    breakers: FleetBreakers,
    cache: CacheService,
    loop_monitor: LoopMonitor,
) -> MetricsRoutes:
    database = databases.primary if databases else None
    return MetricsRoutes(
        Sources(
            build=Build(version=metadata.version("skycap"), python=platform.python_version(), plugins=registry.plugins),
            vitals=vitals,
            overview=lambda: overview_of(link, list(vitals.queues.values()), breakers.specs, last_minutes=1),
            schedules=lambda: _schedules(clock),
            redis_facts=lambda: _redis_facts(link),
            ledger_rows=None if database is None else _ledger_rows(database),
            outbox_age=None if database is None or not settings.outbox.enabled else _outbox_age(database),
            pools=(lambda: _pools(databases)) if databases else dict,
            counted=Counted(
                meters=meters,
                blocks=loop_monitor.figures,
                cache=cache.own_figures,
                slow_queries=(lambda: database.slow_queries.counts) if database else dict,
                breakers=tuple(breakers.specs),
                calls=breakers.calls,
            ),
        )
    )


async def _schedules(clock: Clock) -> Sequence[ScheduleFigures]:
    return [
        ScheduleFigures(
            name=each.schedule.name,
            is_on=each.standing == "on",
            period=each.period,
            succeeded_at=each.record.succeeded_at,
            took=each.record.took,
        )
        for each in await Schedules(clock).list()
    ]


async def _redis_facts(link: Link) -> ServerFacts | None:
    """None of a cluster: what one of its servers says is no word about the others."""
    return await facts_of(link) if link.spans_queues else None


def _ledger_rows(database: DatabasePool) -> Callable[[], Awaitable[Mapping[str, int]]]:
    from skycap.services.ledger_entries import LedgerEntries

    return LedgerEntries(database.stateless).counts


def _outbox_age(database: DatabasePool) -> Callable[[], Awaitable[timedelta]]:
    from skycap.services.outbox import Outbox

    return Outbox(database.stateless).oldest_age


def _pools(databases: Databases) -> dict[str, PoolFigures]:
    return {"primary": databases.primary.connections}
