"""What a daemon tells a collector of OpenTelemetry, by its settings. An installation without loads none of it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from skycap.errors import ConfigurationError

if TYPE_CHECKING:
    from skycap.settings import Settings


def telemetry_of(settings: Settings) -> AbstractContextManager[None]:
    """Tells for as long as it is entered. Raises ConfigurationError where the packages for it are missing."""
    configured = settings.telemetry
    if not configured.traces:
        return nullcontext()
    try:
        from skycap.observe.spans import collected
    except ImportError as error:
        raise ConfigurationError(
            f"telemetry.traces: the package {error.name} is missing; install skycap[otel], or set it to false"
        ) from error
    return collected(endpoint=configured.endpoint, sample_ratio=configured.sample_ratio)
