"""Plugins: loaded, or left out and why."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from skycap.checks.finding import CannotLook, Finding, fail, ok, warn
from skycap.checks.group import Group
from skycap.checks.installation import Installation
from skycap.errors import ConfigurationError
from skycap.registry import Registry
from skycap.settings import Settings

_WRITABLE = 0o022


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """``registry`` is an error where none was made: a required plugin failed, or two contradict."""

    settings: Settings
    registry: Registry | ConfigurationError | None

    def require_registry(self) -> Registry:
        if not isinstance(self.registry, Registry):
            raise CannotLook("the plugins cannot be loaded")
        return self.registry


@asynccontextmanager
async def _opened(installation: Installation) -> AsyncGenerator[Loaded]:
    yield Loaded(settings=installation.require_settings(), registry=installation.registry)


plugins = Group("plugins", _opened)


@plugins.check
def loaded(these: Loaded) -> list[Finding]:
    """Every plugin is loaded; each that was left out is named with its reason."""
    if isinstance(these.registry, ConfigurationError):
        raise these.registry
    found = these.require_registry().plugins
    broken = [
        warn(f"{each.name} ({each.origin}) was left out: {each.error}", "mend it, or name it in disabled_plugins")
        for each in found
        if each.error is not None
    ]
    return broken or [ok(f"{len(found)} plugins, {sum(len(each.kinds) for each in found)} kinds of jobs")]


@plugins.check
def required(these: Loaded) -> Finding:
    """What must be there is named in required_plugins, so that a daemon without it does not start."""
    these.require_registry()
    names = these.settings.required_plugins
    if not names and these.settings.production:
        return warn(
            "required_plugins is empty: a daemon starts also without the plugin that sends the mails",
            'required_plugins = ["bookings", …]: those without which it is useless',
        )
    return ok(f"{', '.join(names) or 'none'} must be there")


@plugins.check
def folder(these: Loaded) -> Finding:
    """plugins_dir, whose files are run, can be written by its owner only."""
    path = these.settings.plugins_dir
    if not path.is_dir():
        return ok(f"there is no {path}")
    open_to_others = [each for each in (path, *sorted(path.glob("*.py"))) if each.stat().st_mode & _WRITABLE]
    if open_to_others:
        return fail(
            f"{', '.join(map(str, open_to_others))}: others can write it, and it is run as the daemon",
            f"chmod -R go-w {path}",
        )
    return ok(f"{len([*path.glob('[!_.]*.py')])} files in {path}")


@plugins.check
def queues(these: Loaded) -> Finding:
    """Every configured queue has a kind of job."""
    registry = these.require_registry()
    idle = sorted(set(these.settings.queues) - {each.queue for each in registry.job_types} - {"default"})
    if idle:
        return warn(f"no plugin has a kind for {', '.join(idle)}", "install the plugin, or take the queue out")
    return ok(f"{', '.join(these.settings.queues)}")
