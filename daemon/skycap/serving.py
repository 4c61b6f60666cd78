"""What a daemon serves over HTTP, to whom and where, by its settings."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any

from skycap.engine.audit import AuditLog
from skycap.errors import ConfigurationError
from skycap.http.admin import admin_routes
from skycap.http.bodies import Bodies
from skycap.http.breakers import BreakerRoutes
from skycap.http.cache import CacheRoutes
from skycap.http.description import DescriptionRoutes
from skycap.http.guards import LocalGuard, NobodyGuard, TokenGuard
from skycap.http.health import HealthRoutes
from skycap.http.job_events import JobEventsRoutes
from skycap.http.jobs import JobsRoutes
from skycap.http.kinds import KindsRoutes
from skycap.http.server import HttpServer
from skycap.http.system_status import StatusRoutes, StatusSources
from skycap.http.tokens import TokenFile
from skycap.intake import Intake
from skycap.maintenance.schedules import Schedules
from skycap.overview import overview_of
from skycap.published_kinds import published
from skycap.settings.addresses import ListenAddress

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from skycap.engine.link import Link
    from skycap.http.access import Guard
    from skycap.http.health import Vitals
    from skycap.http.metrics import MetricsRoutes
    from skycap.http.page import PageRoutes
    from skycap.http.server import Routes
    from skycap.http.unsubscribe import UnsubscribeRoutes
    from skycap.maintenance.clock import Clock
    from skycap.maintenance.presence import PresenceTeller
    from skycap.registry import Registry
    from skycap.services.breakers import FleetBreakers
    from skycap.services.cache import CacheService
    from skycap.settings import HttpSettings, Settings


def http_server_of(
    settings: Settings,
    registry: Registry,
    link: Link,
    *,
    vitals: Vitals,
    clock: Clock,
    breakers: FleetBreakers,
    cache: CacheService,
    presence: PresenceTeller,
    page: PageRoutes,
    metrics: MetricsRoutes,
    unsubscribing: UnsubscribeRoutes | None,
    sockets: Sequence[socket.socket],
) -> HttpServer | None:
    """None where HTTP is switched off. ``sockets``, which listen already, are served instead of ``http.bind``."""
    if not settings.http.enabled:
        if sockets:
            raise ConfigurationError(
                "http.enabled: is false, but systemd holds a socket whose callers would wait for ever; set it to true, "
                "or `systemctl disable --now` the socket unit"
            )
        return None
    bind, bodies, events = settings.http.bind, Bodies(), JobEventsRoutes(vitals.queues)
    status = StatusSources(
        overview=lambda last: overview_of(link, list(vitals.queues.values()), breakers.specs, last_minutes=last),
        me=presence.now,
        schedules=lambda: _schedules(clock),
        cache=cache,
        dependencies=vitals.dependencies,
        queues=vitals.queues,
    )
    routes: list[Routes] = [
        page,
        HealthRoutes(vitals),
        StatusRoutes(status),
        CacheRoutes(cache),
        metrics,
        BreakerRoutes(vitals.breakers),
        JobsRoutes(
            Intake(registry, signer=settings.signing.signer),
            vitals.queues,
            bodies,
            largest_job_bytes=registry.largest_job_bytes,
        ),
        KindsRoutes(published(registry.job_types)),
        DescriptionRoutes(version=metadata.version("skycap")),
        *admin_routes(
            link, vitals.queues, registry, breakers=breakers.specs, schedules=Schedules(clock), bodies=bodies
        ),
        *([] if unsubscribing is None else [unsubscribing]),
        events,
    ]
    addresses = [ListenAddress.of(each) for each in sockets] or [bind]
    return HttpServer(
        routes,
        host=bind.host,
        port=bind.port,
        path=bind.path,
        sockets=sockets,
        guard=_guard(settings.http, addresses, production=settings.production),
        hosts=settings.http.hosts,
        audit=AuditLog(link),
        development=not settings.production,
        at_stop=[events.stop],
    )


def _guard(http: HttpSettings, addresses: Sequence[ListenAddress], *, production: bool) -> Guard:
    if http.tokens_file is not None:
        file = TokenFile(http.tokens_file)
        is_for_others = not all(address.is_local for address in addresses)
        if is_for_others:
            file.require_one()
        return TokenGuard(file, token_rate=http.token_rate, is_for_others=is_for_others)
    for address in addresses:
        if not address.is_local:
            raise ConfigurationError(
                f"http.tokens_file: is not set, and others reach {address}, which systemd passed; set it "
                "(`skycap tokens new` makes tokens), or let the socket unit listen on 127.0.0.1 or a path"
            )
    return (
        NobodyGuard()
        if production
        else LocalGuard(next((each.host for each in addresses if each.host), ""), http.hosts)
    )


async def _schedules(clock: Clock) -> list[dict[str, Any]]:
    return [status.document() for status in await Schedules(clock).list()]
