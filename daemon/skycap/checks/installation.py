"""Installation: what is checked, as far as it could be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from skycap.checks.finding import CannotLook
from skycap.checks.systemd import Unit
from skycap.errors import ConfigurationError
from skycap.registry import Registry
from skycap.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Installation:
    """``settings`` and ``registry`` are errors where they could not be read; a registry needs settings.

    ``environ`` is what the daemon would have, as far as we know. ``nameserver`` is asked instead of the host's own.
    """

    environ: Mapping[str, str]
    settings: Settings | ConfigurationError
    registry: Registry | ConfigurationError | None = None
    unit: Unit | None = None
    nameserver: str | None = None

    def require_settings(self) -> Settings:
        """Raises CannotLook."""
        if isinstance(self.settings, ConfigurationError):
            raise CannotLook("the configuration cannot be used")
        return self.settings

    def require_registry(self) -> Registry:
        """Raises CannotLook."""
        self.require_settings()
        if not isinstance(self.registry, Registry):
            raise CannotLook("the plugins cannot be loaded")
        return self.registry
