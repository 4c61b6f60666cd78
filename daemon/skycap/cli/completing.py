"""What TAB offers for an argument: names from the configuration and the plugins. Servers are not asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skycap.observe import logs

if TYPE_CHECKING:
    from skycap.registry import Registry
    from skycap.settings import Settings

Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def _completing(names_of: Callable[[Settings], Iterable[str]]) -> Complete:
    def complete(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
        logs.configure(level="critical", style="console")
        try:
            found = list(names_of(_settings(context)))
        except Exception:  # noqa: BLE001 - whatever is wrong, TAB says nothing: the command itself will
            return []
        return sorted(name for name in found if name.startswith(incomplete))

    return complete


def _settings(context: click.Context) -> Settings:
    from skycap.settings import load_settings

    config, folder = context.params.get("config"), context.params.get("plugins_dir")
    overrides = {} if folder is None else {"plugins_dir": str(folder)}
    return load_settings(None if config is None else Path(config), overrides=overrides)


def _registry(settings: Settings) -> Registry:
    from skycap.installation import load_plugins

    return load_plugins(settings)


def _kinds(settings: Settings) -> Iterable[str]:
    return [job_type.kind for job_type in _registry(settings).job_types]


def _breakers(settings: Settings) -> Iterable[str]:
    from skycap.installation import breaker_specs

    return breaker_specs(settings, _registry(settings))


def _schedules(settings: Settings) -> Iterable[str]:
    from skycap.scheduling import schedules_of

    return [schedule.name for schedule in schedules_of(settings, _registry(settings))]


queue_names = _completing(lambda settings: settings.queues)
limit_names = _completing(lambda settings: settings.limits)
kind_names = _completing(_kinds)
breaker_names = _completing(_breakers)
schedule_names = _completing(_schedules)
