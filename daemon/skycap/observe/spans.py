"""Spans, sent to a collector by OpenTelemetry's own protocol (OTLP over HTTP). Loaded only where traces are on."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib import metadata

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from skycap.tracing import Attribute, SpanKind, collect_with

_KINDS: Mapping[SpanKind, trace.SpanKind] = {
    "internal": trace.SpanKind.INTERNAL,
    "server": trace.SpanKind.SERVER,
    "client": trace.SpanKind.CLIENT,
    "producer": trace.SpanKind.PRODUCER,
    "consumer": trace.SpanKind.CONSUMER,
}
EXPORT_SECONDS = 5


@contextmanager
def collected(*, endpoint: str | None, sample_ratio: float) -> Generator[None]:
    """Collect this process's spans until the end, and send what is left then.

    Without an ``endpoint``, it is what OTEL_EXPORTER_OTLP_ENDPOINT says, or http://localhost:4318. Plugins that use
    OpenTelemetry themselves have their spans in the same traces.
    """
    provider = TracerProvider(
        resource=resource(), sampler=ParentBased(TraceIdRatioBased(sample_ratio)), shutdown_on_exit=False
    )
    exporter = OTLPSpanExporter(endpoint=address_for(endpoint, "traces"), timeout=EXPORT_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    collect_with(_Tracer(provider.get_tracer("skycap", metadata.version("skycap"))))
    try:
        yield
    finally:
        collect_with(None)
        provider.shutdown()


def address_for(endpoint: str | None, signal: str) -> str | None:
    """Where one signal goes; None has OpenTelemetry's own variables decide."""
    return None if endpoint is None else f"{endpoint.rstrip('/')}/v1/{signal}"


def resource() -> Resource:
    """What all that this process tells is said of; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say more."""
    version = metadata.version("skycap")
    return Resource.create({SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME", "skycap"), SERVICE_VERSION: version})


class _Tracer:
    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def span(
        self, name: str, *, kind: SpanKind, carried: Mapping[str, str] | None, attributes: Mapping[str, Attribute]
    ) -> Generator[_Span]:
        context = self._propagator.extract(carried) if carried else None
        # Of an exception only its type is told: its text may hold addresses.
        with self._tracer.start_as_current_span(
            name,
            context,
            _KINDS[kind],
            attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as started:
            current = _Span(started)
            try:
                yield current
            except BaseException as error:
                current.fail(type(error).__name__)
                raise


class _Span:
    def __init__(self, started: trace.Span) -> None:
        self._started = started

    def set(self, name: str, value: Attribute) -> None:
        self._started.set_attribute(name, value)

    def fail(self, error_type: str) -> None:
        self._started.set_attribute("error.type", error_type)
        self._started.set_status(trace.StatusCode.ERROR)
