"""Builds the parts of one daemon from its settings, and joins them; nothing here connects or runs yet.

It needs no event loop: a reload does it on another thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from importlib import metadata
from typing import TYPE_CHECKING

import structlog

from skycap.absent_tables import AbsentTables
from skycap.alerting import alert_watch_of
from skycap.caching import cache_link_of, cache_of
from skycap.client import AsyncClient
from skycap.contradictions import refuse_contradictions
from skycap.databases import Databases, databases_of
from skycap.engine import breakers as breaker_state
from skycap.engine.broker import QueueBroker
from skycap.engine.fleet import Fleet
from skycap.engine.queue import Queue
from skycap.engine.taskiq_results import result_backend
from skycap.errors import ConfigurationError, TemplateFailed
from skycap.http.page import PageRoutes
from skycap.http.server import HttpServer
from skycap.http.unsubscribe import UnsubscribeRoutes
from skycap.installation import breaker_specs, load_plugins, queues
from skycap.mailing import composer_of, mail_service_of, smtp_of, subscriptions_of, templates_of
from skycap.maintenance.clock import Clock
from skycap.maintenance.presence import PresenceTeller
from skycap.maintenance.schedules import Schedules
from skycap.metering import meters_of, metrics_of
from skycap.observe.event_loop import LoopMonitor
from skycap.scheduling import schedules_of
from skycap.services.breakers import FleetBreaker, FleetBreakers
from skycap.services.http_client import PartnerClient
from skycap.serving import http_server_of
from skycap.status_page import StatusPage
from skycap.telemetry import metric_sender_of
from skycap.vital_signs import vitals_of
from skycap.worker.consumer import Consumer
from skycap.worker.executor import Executor
from skycap.worker.job_context import Services
from skycap.worker.outages import Outages
from skycap.worker.trust import Trust
from skycap.worker.verdict import Policy
from skycap.worker.worker import Worker, worker_id

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from skycap.alerts.watch import AlertWatch
    from skycap.breaker import BreakerChange
    from skycap.engine.link import Link
    from skycap.job_type import JobType
    from skycap.maintenance.outbox import OutboxRelay
    from skycap.observe.meters import Meters
    from skycap.observe.otlp_metrics import MetricSender
    from skycap.observe.pulse import Pulse
    from skycap.registry import Registry
    from skycap.services.admin_mail import AdminMail
    from skycap.services.cache import CacheService
    from skycap.services.database import DatabasePool
    from skycap.services.mailer import MailService
    from skycap.services.smtp import SmtpPool
    from skycap.services.subscriptions import Subscriptions
    from skycap.services.templates import Templates
    from skycap.settings import Settings

_log = structlog.get_logger("skycap.assembly")

_SMTP_GOOD_FOR = timedelta(seconds=30)


@dataclass(frozen=True, kw_only=True)
class Daemon:
    """The parts of one daemon, in the order they are started."""

    id: str
    settings: Settings
    registry: Registry
    broker: QueueBroker
    client: AsyncClient
    cache: CacheService
    cache_link: Link
    databases: Databases | None
    breakers: FleetBreakers
    http_client: PartnerClient
    smtp: SmtpPool | None
    templates: Templates | None
    worker: Worker
    meters: Meters
    executor: Executor
    loop_monitor: LoopMonitor
    clock: Clock
    presence: PresenceTeller
    tables: AbsentTables
    outbox: OutboxRelay | None
    alerts: AlertWatch | None
    metric_sender: MetricSender | None
    http: HttpServer | None

    @property
    def left_out(self) -> list[str]:
        """What is broken, each in one line; the rest works without it."""
        broken = [
            f"plugin {plugin.name} ({plugin.origin}) failed: {plugin.error}; mend it, or name it in disabled_plugins"
            for plugin in self.registry.plugins
            if plugin.error
        ]
        overrides = self.templates.refused.items() if self.templates else ()
        return [*broken, *(f"mail.templates_dir: {problem}" for _, problem in overrides)]

    @property
    def pulses(self) -> tuple[Pulse, ...]:
        """Of the loops beside the worker's."""
        others = [each.pulse for each in (self.outbox, self.alerts) if each is not None]
        return (*self.clock.pulses, *others)


def assemble(settings: Settings, *, sockets: Sequence[socket.socket] = ()) -> Daemon:
    """Raises ConfigurationError for whatever no daemon should start with.

    ``sockets``, which listen already, are served instead of ``http.bind``.
    """
    registry = load_plugins(settings)
    refuse_contradictions(registry, settings)
    url = settings.require_redis().unmasked
    broker = QueueBroker(url, signing_key=settings.signing.signing_key)
    broker = broker.with_result_backend(result_backend(url)).with_middlewares(*registry.middlewares())
    client = AsyncClient(url, signing_key=settings.signing.signing_key)
    cache_link = cache_link_of(settings, broker.link)
    cache = cache_of(settings, cache_link)
    databases = databases_of(settings.database)
    database = databases.primary if databases else None
    meters = meters_of(registry)
    smtp = smtp_of(settings, meters=meters)
    fleet_queues = queues(broker.link, settings, registry)
    breakers = _breakers(settings, registry, broker.link, fleet_queues)
    http_client = _http_client(settings, breakers)
    templates = _templates(settings, registry, sends_mail=database is not None and smtp is not None)
    mail = _mail(
        settings, registry, templates, database, smtp, link=broker.link, breaker=breakers["email"], meters=meters
    )
    tables = AbsentTables(registry.job_types, database.stateless if database else None)
    executor = Executor(
        registry=registry,
        broker=broker,
        services=Services(
            client=client,
            database_for=databases.for_jobs.for_job if databases else None,
            mailer_for=mail.service.for_job if mail else None,
            breakers=breakers,
            cache=cache,
            http=http_client,
            queues=tuple(settings.queues),
        ),
        policy_of=lambda job_type: _policy(job_type, settings),
        unknown_kind_wait=timedelta(hours=settings.worker.unknown_kind_hours),
        # A handler that is not async never waits for a thread: there is one for each job that may run.
        threads=sum(queue.concurrency for queue in settings.queues.values()),
        trust=_trust(settings, registry),
        why_off=tables.why_off,
    )
    name = worker_id()
    consumers = [
        Consumer(
            queue,
            executor.run,
            worker=name,
            concurrency=settings.queues[queue.name].concurrency,
            lease=timedelta(seconds=settings.worker.lease_seconds),
            poison_after=settings.worker.poison_after,
            meters=meters,
        )
        for queue in fleet_queues
    ]
    worker = Worker(consumers)
    loop_monitor = LoopMonitor(executor.attempts.job_of)
    vitals = vitals_of(broker, databases, smtp, worker=worker, cache=cache, breakers=breakers, registry=registry)
    clock = Clock(
        schedules_of(settings, registry), vitals.queues, signer=settings.signing.signer, why_off=tables.why_off
    )
    presence = PresenceTeller(
        Fleet(broker.link), daemon_id=name, slots=vitals.slots, is_draining=lambda: worker.is_draining
    )
    page = StatusPage(
        daemon=name,
        version=metadata.version("skycap"),
        link=broker.link,
        vitals=vitals,
        breakers=breakers.specs,
        schedules=Schedules(clock),
        cache=cache,
        is_watched=settings.alerts.is_on,
    )
    metrics = metrics_of(
        settings,
        registry,
        vitals,
        broker.link,
        databases,
        meters=meters,
        clock=clock,
        breakers=breakers,
        cache=cache,
        loop_monitor=loop_monitor,
    )
    return Daemon(
        id=name,
        settings=settings,
        registry=registry,
        broker=broker,
        client=client,
        cache=cache,
        cache_link=cache_link,
        databases=databases,
        breakers=breakers,
        http_client=http_client,
        smtp=smtp,
        templates=templates,
        worker=worker,
        meters=meters,
        executor=executor,
        loop_monitor=loop_monitor,
        clock=clock,
        presence=presence,
        tables=tables,
        outbox=_outbox(settings, registry, database, broker.link, name=name),
        alerts=alert_watch_of(
            settings, vitals, database, mail.admin if mail else None, broker.link, cache=cache, name=name
        ),
        metric_sender=metric_sender_of(settings, metrics.families),
        http=http_server_of(
            settings,
            registry,
            broker.link,
            vitals=vitals,
            clock=clock,
            breakers=breakers,
            cache=cache,
            presence=presence,
            page=PageRoutes(page.look),
            metrics=metrics,
            unsubscribing=UnsubscribeRoutes(mail.subscriptions, mail.pages) if mail else None,
            sockets=sockets,
        ),
    )


def _trust(settings: Settings, registry: Registry) -> Trust:
    signing = settings.signing
    if not signing.keys and (signing.verify == "require" or signing.require_kinds):
        raise ConfigurationError(
            "signing.keys: there is none, and jobs must be signed; make one with `skycap config signing-key`, and give "
            "it here and to whoever enqueues (SKYCAP_SIGNING_KEYS)"
        )
    required = signing.required_kinds(production=settings.production)
    if required and not signing.keys:
        way_out = "give signing.keys one, as `skycap config signing-key` makes it; or set signing.require_kinds = []"
        _log.warning("jobs that must be signed cannot be", kinds=sorted(required), then=way_out)
    # Whoever enqueues chooses which of a kind's names a job has.
    also = {kind for job_type in map(registry.find, required) if job_type for kind in job_type.names}
    return Trust(signing.keyring, verify=signing.verify, required_kinds=required | also)


def _breakers(settings: Settings, registry: Registry, link: Link, queues: Sequence[Queue]) -> FleetBreakers:
    outages = Outages(queues)

    async def changed(change: BreakerChange) -> None:
        await outages.tell(change)
        await registry.notify("breaker_changed", change=change)

    return FleetBreakers(breaker_specs(settings, registry), breaker_state.FleetBreakers(link), on_change=changed)


def _http_client(settings: Settings, breakers: FleetBreakers) -> PartnerClient:
    configured = settings.http_client
    return PartnerClient(
        breakers,
        allow_private=configured.private_networks,
        connections=configured.connections,
        connections_per_host=configured.connections_per_host,
        connect_timeout=timedelta(seconds=configured.connect_timeout_seconds),
        largest_answer_bytes=configured.largest_answer_bytes,
    )


def _policy(job_type: JobType, settings: Settings) -> Policy:
    """The admin's word for the kind, else the author's, else the queue's."""
    kind, queue = job_type.kind, job_type.queue
    configured = settings.job(kind)
    finished, discarded = settings.retention_of(kind, queue=queue)
    return Policy(
        backoff=settings.retry_of(kind, queue=queue, declared=job_type.backoff),
        timeout=settings.timeout_of(kind, queue=queue, declared=job_type.timeout),
        # What the kind does not say itself may be changed for its queue while running.
        keep_finished=None if configured.keep_finished_seconds is None else finished,
        keep_discarded=None if configured.keep_discarded_seconds is None else discarded,
        breakers=frozenset(job_type.breakers),
    )


# What an installation does not use is not loaded: of PostgreSQL and mail that is a tenth of the memory and the start.


@dataclass(frozen=True, kw_only=True)
class _Mail:
    """What a daemon that can send mails has for it."""

    service: MailService
    admin: AdminMail
    pages: Templates
    subscriptions: Subscriptions


def _templates(settings: Settings, registry: Registry, *, sends_mail: bool) -> Templates | None:
    """Those of plugins are checked wherever there are any."""
    if not registry.template_loaders() and not sends_mail:
        return None
    try:
        return templates_of(settings, registry)
    except TemplateFailed as error:
        raise ConfigurationError(str(error)) from error


def _mail(
    settings: Settings,
    registry: Registry,
    templates: Templates | None,
    database: DatabasePool | None,
    smtp: SmtpPool | None,
    *,
    link: Link,
    breaker: FleetBreaker,
    meters: Meters,
) -> _Mail | None:
    if database is None or smtp is None or templates is None:
        return None
    from skycap.services.admin_mail import AdminMail

    subscriptions = subscriptions_of(settings, registry, database)
    service = mail_service_of(
        settings,
        composer=composer_of(settings, registry, templates, sender=settings.require_sender()),
        database=database,
        smtp=smtp,
        subscriptions=subscriptions,
        link=link,
        breaker=breaker,
        meters=meters,
    )
    return _Mail(
        service=service,
        admin=AdminMail(service, smtp),
        pages=templates,
        subscriptions=subscriptions,
    )


def _outbox(
    settings: Settings, registry: Registry, database: DatabasePool | None, link: Link, *, name: str
) -> OutboxRelay | None:
    configured, direct = settings.outbox, settings.database.direct
    if database is None or not configured.enabled:
        return None
    from skycap.maintenance.outbox import OutboxRelay
    from skycap.maintenance.outbox_jobs import OutboxJobs
    from skycap.services.notifications import Notifications
    from skycap.services.outbox import CHANNEL, Outbox
    from skycap.services.pooler import ADVICE

    if direct is None:
        _log.warning("notifications are not heard through a pooler", advice=ADVICE)

    return OutboxRelay(
        Outbox(database.stateless),
        OutboxJobs(registry, signer=settings.signing.signer),
        lambda queue: Queue(queue, link),
        name=name,
        other_queue="default" if "default" in settings.queues else next(iter(settings.queues)),
        poll=configured.poll,
        keep=configured.keep,
        batch=configured.batch,
        doorbell=None if direct is None else Notifications(direct.dsn, CHANNEL),
    )
