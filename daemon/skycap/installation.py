"""What settings say of plugins and queues, for the daemon and for every command alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from skycap.breaker import BreakerSpec
from skycap.engine.policy import BY_KIND, Figures, Limit, NeededBreaker, QueuePolicy, Rate
from skycap.engine.queue import Queue

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from skycap.engine.link import Link
    from skycap.registry import Registry
    from skycap.settings import Settings
    from skycap.settings.jobs import JobSettings
    from skycap.settings.limits import LimitSettings


def load_plugins(settings: Settings) -> Registry:
    """Raises PluginError; see skycap.discovery.load."""
    from skycap import discovery  # most commands need the queues alone

    return discovery.load(
        discovery.PluginChoice(
            folder=settings.plugins_dir,
            disabled=frozenset(settings.disabled_plugins),
            required=frozenset(settings.required_plugins),
            only=None if settings.load_plugins is None else frozenset(settings.load_plugins),
            settings=settings.plugins,
        )
    )


def breaker_specs(settings: Settings, registry: Registry) -> dict[str, BreakerSpec]:
    """Every breaker that there is: as it is configured, over what its plugin declares."""
    declared = registry.breakers
    configured = {
        name: table.over(declared.get(name, BreakerSpec(name=name))) for name, table in settings.breakers.items()
    }
    return {**declared, **configured}


def queues(link: Link, settings: Settings, registry: Registry | None = None) -> list[Queue]:
    """Every configured queue; with the limits of their kinds, if the registry that knows the kinds is given."""
    kinds = _kinds(registry) if registry else ()
    used_by = {name: _names_of_limits(name, settings, kinds) for name in settings.queues}
    policies = {name: _policy(name, settings, kinds, used_by) for name in settings.queues}
    if registry is not None:
        specs = breaker_specs(settings, registry)
        policies = {name: replace(policy, breakers=_needed(name, kinds, specs)) for name, policy in policies.items()}
    return [Queue(name, link, policy=policy) for name, policy in policies.items()]


def shared_limits(settings: Settings, registry: Registry) -> dict[str, list[str]]:
    """The named limits that hold for jobs of several queues, and which queues these are."""
    used_by = {name: _names_of_limits(name, settings, _kinds(registry)) for name in settings.queues}
    return {limit: queues for limit in settings.limits if len(queues := _users(limit, used_by)) > 1}


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """A kind under one of its names: jobs are stored with the name that they were enqueued with."""

    name: str
    settings_name: str
    queue: str
    breakers: tuple[str, ...] = ()


def _kinds(registry: Registry) -> list[_Kind]:
    return [
        _Kind(name=name, settings_name=job_type.kind, queue=job_type.queue, breakers=job_type.breakers)
        for job_type in registry.job_types
        for name in job_type.names
    ]


def _policy(
    name: str, settings: Settings, kinds: Sequence[_Kind], used_by: Mapping[str, Mapping[str, frozenset[str] | None]]
) -> QueuePolicy:
    queue = settings.queues[name]
    named = [
        _limit(limit, settings.limits[limit], kinds=only, shared=len(_users(limit, used_by)) > 1)
        for limit, only in used_by[name].items()
    ]
    by_kind = _limit_by_kind({kind.name: settings.job(kind.settings_name) for kind in kinds if kind.queue == name})
    return QueuePolicy(
        keep_finished=timedelta(seconds=queue.keep_finished_seconds),
        keep_finished_count=queue.keep_finished_count,
        keep_discarded=timedelta(seconds=queue.keep_discarded_seconds),
        keep_discarded_count=queue.keep_discarded_count,
        fleet_concurrency=queue.fleet_concurrency,
        rate=_rate(queue.rate),
        max_waiting=queue.max_waiting,
        lifo=queue.order == "lifo",
        limits=(*by_kind, *named),
    )


def _names_of_limits(queue: str, settings: Settings, kinds: Sequence[_Kind]) -> dict[str, frozenset[str] | None]:
    """The named limits of a queue's jobs, and of which kinds; None: of all."""
    names: dict[str, frozenset[str] | None] = dict.fromkeys(settings.queues[queue].limits)
    for kind in kinds:
        for limit in settings.job(kind.settings_name).limits or ():
            if kind.queue == queue and (limit not in names or names[limit] is not None):
                names[limit] = (names.get(limit) or frozenset()) | {kind.name}
    return names


def _needed(queue: str, kinds: Sequence[_Kind], specs: Mapping[str, BreakerSpec]) -> dict[str, NeededBreaker]:
    """The breakers that kinds of this queue need."""
    users = {
        name: frozenset(kind.name for kind in kinds if kind.queue == queue and name in kind.breakers) for name in specs
    }
    return {name: NeededBreaker(kinds=names, probes=specs[name].closes_after) for name, names in users.items() if names}


def _users(limit: str, used_by: Mapping[str, Mapping[str, object]]) -> list[str]:
    return [queue for queue, limits in used_by.items() if limit in limits]


def _limit(name: str, configured: LimitSettings, *, kinds: frozenset[str] | None, shared: bool) -> Limit:
    path, _, shape = (configured.key or "").partition("|")
    return Limit(
        name=name,
        figures=_figures(configured),
        key=path or None,
        shape=shape or None,
        kinds=kinds,
        own={value: _figures(configured.for_key(value)) for value in configured.keys},
        shared=shared,
    )


def _limit_by_kind(kinds: Mapping[str, JobSettings]) -> list[Limit]:
    own = {
        kind: Figures(rate=_rate(job.rate), concurrency=job.fleet_concurrency)
        for kind, job in kinds.items()
        if job.rate is not None or job.fleet_concurrency is not None
    }
    return [Limit(name="kind", key=BY_KIND, own=own)] if own else []


def _figures(configured: LimitSettings) -> Figures:
    return Figures(rate=_rate(configured.rate), concurrency=configured.concurrency)


def _rate(rate: tuple[int, timedelta] | None) -> Rate | None:
    return None if rate is None else Rate(max=rate[0], per=rate[1])
