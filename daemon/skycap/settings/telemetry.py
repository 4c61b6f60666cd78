"""The settings of what OpenTelemetry's collectors are told."""

from __future__ import annotations

from pydantic import Field

from skycap.settings.section import Section


class TelemetrySettings(Section):
    """Traces and metrics for OpenTelemetry, with skycap[otel]; its variables, such as OTEL_SERVICE_NAME, hold too."""

    traces: bool = Field(
        default=False,
        description="Send spans of requests, jobs, mails and calls to partners. A job belongs to the trace of whoever "
        "enqueued it, whether or not it is sent.",
    )
    metrics: bool = Field(
        default=False, description="Send what /metrics shows, under the same names: for those without Prometheus."
    )
    metrics_seconds: float = Field(default=60.0, ge=1, le=3600, description="How often metrics are sent.")
    endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^@\s]+$",
        description="The collector's address for OTLP over HTTP; if not set, OTEL_EXPORTER_OTLP_ENDPOINT or "
        "http://localhost:4318.",
        examples=["http://localhost:4318"],
    )
    sample_ratio: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Of the traces that begin here; of those that began elsewhere, it was decided there.",
    )
