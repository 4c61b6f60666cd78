"""Contradictions: what plugins and settings say that cannot be true together; no daemon starts with one."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from skycap.errors import ConfigurationError, PluginError
from skycap.installation import breaker_specs, shared_limits

if TYPE_CHECKING:
    from skycap.registry import Registry
    from skycap.settings import Settings


def refuse_contradictions(registry: Registry, settings: Settings) -> None:
    """Raises ConfigurationError, or PluginError, which names what, where and the fix."""
    _check_kinds(registry, settings)
    _check_limits(registry, settings)
    _check_breakers(registry, settings)


def _check_kinds(registry: Registry, settings: Settings) -> None:
    for job_type in registry.job_types:
        spec = job_type.payload.payload_spec
        if spec.queue not in settings.queues:
            raise PluginError(
                f"plugin {job_type.plugin}: {spec.kind} goes to queue {spec.queue!r}, which is not configured; "
                f"add a [queues.{spec.queue}] table"
            )
    kinds = {job_type.kind for job_type in registry.job_types}
    broken = any(plugin.error for plugin in registry.plugins)
    for kind in settings.jobs:
        # The kind may be that of a plugin that could not be loaded, which is named already.
        if kind not in kinds and not broken:
            raise ConfigurationError(f"jobs.{kind}: no plugin handles this kind; known: {', '.join(sorted(kinds))}")


def _check_limits(registry: Registry, settings: Settings) -> None:
    # Its count is one key, which in a cluster lies on one server, and the queues' own keys on others.
    if settings.require_redis().url.scheme.endswith("+cluster"):
        for limit, users in shared_limits(settings, registry).items():
            raise ConfigurationError(
                f"limits.{limit}: the queues {', '.join(users)} share it, which a Redis Cluster cannot count in one "
                "step; give each queue a limit of its own, or use one Redis (or Sentinel)"
            )


def _check_breakers(registry: Registry, settings: Settings) -> None:
    known = breaker_specs(settings, registry)
    for job_type in registry.job_types:
        for name in job_type.breakers:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                fix = f"did you mean {near[0]!r}?" if near else f"add a [breakers.{name}] table, or plugin.breaker(…)"
                raise PluginError(
                    f"plugin {job_type.plugin}: {job_type.kind} needs the breaker {name!r}, "
                    f"which nothing declares; {fix}"
                )
