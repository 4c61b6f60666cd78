"""What watches for alarms in a daemon, by its settings: where the figures come from, and who is told.

An installation without alarms loads none of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from skycap.errors import ConfigurationError

if TYPE_CHECKING:
    from skycap.alerts.figures import CacheFigures
    from skycap.alerts.watch import AlertWatch
    from skycap.engine.link import Link
    from skycap.http.health import Vitals
    from skycap.services.admin_mail import AdminMail
    from skycap.services.cache import CacheService
    from skycap.services.database import DatabasePool
    from skycap.settings import Settings


def alert_watch_of(
    settings: Settings,
    vitals: Vitals,
    database: DatabasePool | None,
    mail: AdminMail | None,
    link: Link,
    *,
    cache: CacheService,
    name: str,
) -> AlertWatch | None:
    configured = settings.alerts
    if not configured.is_on:
        return None
    if configured.mail_to and mail is None:
        raise ConfigurationError("alerts.mail_to: mails need smtp.url and database.url; set both, or use webhook_url")
    from skycap.alerts.figures import CacheFigures
    from skycap.alerts.sources import Sources
    from skycap.alerts.telling import Teller
    from skycap.alerts.watch import LEASE, OF_THE_LEASE, AlertWatch, alarm_times
    from skycap.alerts.ways import ways_of

    async def caches() -> dict[str, CacheFigures]:
        fleet = await cache.fleet_figures() or {}
        return {name: CacheFigures(hits=each.hits, misses=each.misses) for name, each in fleet.items()}

    async def breakers() -> dict[str, str]:
        found = await vitals.breakers.now()
        return {name: status.state.value for name, status in found.items() if status is not None}

    return AlertWatch(
        Sources(
            queues=vitals.queues.values(),
            redis=vitals.redis,
            postgresql=vitals.database,
            mails_in_doubt=None if database is None else _mails_in_doubt(database),
            slow_queries=None if database is None else lambda: database.slow_queries.total,
            outbox_age=None if database is None or not settings.outbox.enabled else _outbox_age(database),
            breakers=breakers,
            caches=caches,
        ),
        link,
        Teller(ways_of(configured, mail), patience=LEASE * OF_THE_LEASE),
        rules=configured.rules,
        times=alarm_times(configured),
        interval=configured.interval,
        name=name,
    )


def _mails_in_doubt(database: DatabasePool) -> Callable[[], Awaitable[int]]:
    from skycap.services.ledger_entries import LedgerEntries

    return LedgerEntries(database.stateless).in_doubt


def _outbox_age(database: DatabasePool) -> Callable[[], Awaitable[timedelta]]:
    from skycap.services.outbox import Outbox

    return Outbox(database.stateless).oldest_age
