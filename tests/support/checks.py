"""Groups of checks on an installation that a test describes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skycap.checks.finding import Finding
from skycap.checks.group import Group
from skycap.checks.installation import Installation
from skycap.checks.running import LIMIT_SECONDS, run
from skycap.checks.systemd import Unit
from skycap.errors import ConfigurationError
from skycap.installation import load_plugins
from skycap.registry import Registry
from skycap.settings import Settings, load_settings


def installation(
    environ: Mapping[str, str] | None = None,
    *,
    config: Path | None = None,
    unit: Unit | None = None,
    nameserver: str | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Installation:
    """As the command reads it."""
    environ = environ or {}
    settings: Settings | ConfigurationError
    registry: Registry | ConfigurationError | None = None
    try:
        settings = load_settings(config, environ=environ, overrides=overrides)
    except ConfigurationError as error:
        settings = error
    else:
        try:
            registry = load_plugins(settings)
        except ConfigurationError as error:
            registry = error
    return Installation(environ=environ, settings=settings, registry=registry, unit=unit, nameserver=nameserver)


class Told(dict[str, list[Finding]]):
    """Findings by the names of their checks."""

    def one(self, check: str) -> Finding:
        (found,) = self[check]
        return found

    def status(self, check: str) -> str:
        return str(self.one(check).status)

    def line(self, check: str) -> str:
        """``warn: what is so -> the fix``."""
        found = self.one(check)
        return f"{found.status}: {found.says}" + (f" -> {found.fix}" if found.fix else "")


async def told(group: Group[Any], looked_at: Installation, *, limit_seconds: float = LIMIT_SECONDS) -> Told:
    by_name = Told()
    for result in await run([group], looked_at, limit_seconds=limit_seconds):
        by_name.setdefault(result.check, []).append(result.finding)
    return by_name
