"""The schedules of an installation: those of plugins, as settings change them, and those of settings alone."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from skycap.errors import ConfigurationError, InvalidPayload, UnknownKind
from skycap.schedule import Schedule

if TYPE_CHECKING:
    from skycap.payload import Payload
    from skycap.registry import Registry
    from skycap.settings import ScheduleSettings, Settings


def schedules_of(settings: Settings, registry: Registry) -> list[Schedule]:
    """Those that are switched off, too. Raises ConfigurationError for a table that changes nothing that there is."""
    by_name = {schedule.name: schedule for schedule in registry.schedules}
    for name, configured in settings.schedules.items():
        if name not in by_name and configured.kind is None:
            # It may be of a plugin that could not be loaded, which is named already.
            if not any(plugin.error for plugin in registry.plugins):
                raise ConfigurationError(_unknown(name, by_name))
            continue
        by_name[name] = _merged(name, by_name.get(name), configured, registry)
    for schedule in by_name.values():
        if schedule.queue not in settings.queues:
            raise ConfigurationError(
                f"schedule {schedule.name}: {schedule.kind} goes to queue {schedule.queue!r}, which is not configured; "
                f"add a [queues.{schedule.queue}] table"
            )
    return list(by_name.values())


def _merged(name: str, declared: Schedule | None, configured: ScheduleSettings, registry: Registry) -> Schedule:
    """What is configured over what a plugin declares; where neither says anything, the defaults of Schedule."""
    payload = _payload(name, declared, configured, registry)
    base = declared or Schedule(name=name, payload=payload, plugin="")
    return replace(base, payload=payload, **_when(name, configured), **_rules(configured))


def _when(name: str, configured: ScheduleSettings) -> dict[str, Any]:
    """One of three, of which another one takes the place of the plugin's."""
    every = None if configured.every_seconds is None else timedelta(seconds=configured.every_seconds)
    when = {"crontab": configured.crontab, "every": every, "at": configured.at}
    given = sum(value is not None for value in when.values())
    if given > 1:
        raise ConfigurationError(
            f"schedules.{name}: says when in {given} ways; give one of crontab, every_seconds and at"
        )
    return when if given else {}


def _rules(configured: ScheduleSettings) -> dict[str, Any]:
    jitter = None if configured.jitter_seconds is None else timedelta(seconds=configured.jitter_seconds)
    rules = {
        "zone": configured.zone,
        "jitter": jitter,
        "catch_up": configured.catch_up,
        "overlap": configured.overlap,
        "enabled": configured.enabled,
    }
    return {name: value for name, value in rules.items() if value is not None}


def _payload(name: str, declared: Schedule | None, configured: ScheduleSettings, registry: Registry) -> Payload:
    if declared is not None and configured.payload is None and configured.kind in {None, declared.kind}:
        return declared.payload
    kind = configured.kind or (declared.kind if declared else "")
    try:
        return registry.checked_payload(kind, configured.payload or {})
    except UnknownKind as error:
        raise ConfigurationError(f"schedules.{name}.kind: {error}") from error
    except InvalidPayload as error:
        raise ConfigurationError(f"schedules.{name}.payload: {error}") from error


def _unknown(name: str, known: Mapping[str, Schedule]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    meant = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known)) or 'none'};"
    return (
        f"schedules.{name}: no plugin has a schedule of this name; {meant} for one of your own "
        "give kind, and crontab, every_seconds or at"
    )
