"""What a daemon tells a collector of OpenTelemetry, by its settings. An installation without loads none of it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING

from skycap.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from skycap.observe.families import Family
    from skycap.observe.otlp_metrics import MetricSender
    from skycap.settings import Settings


def spans_of(settings: Settings) -> AbstractContextManager[None]:
    """Collects spans for as long as it is entered. Raises ConfigurationError where the packages for it are missing."""
    configured = settings.telemetry
    if not configured.traces:
        return nullcontext()
    try:
        from skycap.observe.spans import collected
    except ImportError as error:
        raise _missing("traces", error) from error
    return collected(endpoint=configured.endpoint, sample_ratio=configured.sample_ratio)


def metric_sender_of(settings: Settings, ask: Callable[[], Awaitable[Sequence[Family]]]) -> MetricSender | None:
    """Raises ConfigurationError where the packages for it are missing."""
    configured = settings.telemetry
    if not configured.metrics:
        return None
    try:
        from skycap.observe.otlp_metrics import MetricSender
    except ImportError as error:
        raise _missing("metrics", error) from error
    return MetricSender(ask, endpoint=configured.endpoint, every=timedelta(seconds=configured.metrics_seconds))


def _missing(key: str, error: ImportError) -> ConfigurationError:
    return ConfigurationError(
        f"telemetry.{key}: the package {error.name} is missing; install skycap[otel], or set it to false"
    )
