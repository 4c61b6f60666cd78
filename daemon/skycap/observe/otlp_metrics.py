"""Metrics, sent to a collector by OpenTelemetry's own protocol (OTLP over HTTP): the same as ``/metrics`` shows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from importlib import metadata
from typing import Protocol, cast

import structlog
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from skycap.observe.families import Family
from skycap.observe.spans import EXPORT_SECONDS, address_for, resource
from skycap.observe.tallies import Labels

_CUMULATIVE = AggregationTemporality.CUMULATIVE
_NOT_KNOWN = cast("float", None)
"""The protocol leaves smallest and largest out where they are not known; OpenTelemetry's types do not say so."""


_log = structlog.get_logger("skycap.telemetry")


class _Exporter(Protocol):
    """What we need of OpenTelemetry's, which leaves some of its own types open."""

    def export(self, metrics_data: MetricsData) -> MetricExportResult: ...
    def shutdown(self) -> None: ...


class MetricSender:
    """Sends what ``ask`` knows, for ever. Counts are since the start or, of the fleet, since Redis has its data."""

    def __init__(
        self, ask: Callable[[], Awaitable[Sequence[Family]]], *, endpoint: str | None, every: timedelta
    ) -> None:
        """``endpoint`` as in skycap.observe.spans."""
        self._ask = ask
        self._every = every.total_seconds()
        self._exporter: _Exporter = OTLPMetricExporter(
            endpoint=address_for(endpoint, "metrics"), timeout=EXPORT_SECONDS
        )
        self._scope = InstrumentationScope("skycap", metadata.version("skycap"))
        self._resource = resource()
        self._began = time.time_ns()
        self._arrives = True

    async def run(self) -> None:
        """Until it is cancelled. A collector that is away is tried again the next time, and the log says so once."""
        try:
            while True:
                await asyncio.sleep(self._every)
                self._note(has_arrived=await asyncio.to_thread(self._send, await self._ask()))
        finally:
            self._exporter.shutdown()

    def _note(self, *, has_arrived: bool) -> None:
        if has_arrived != self._arrives:
            _log.warning("metrics arrive again" if has_arrived else "metrics do not arrive")
        self._arrives = has_arrived

    def _send(self, families: Iterable[Family]) -> bool:
        now = time.time_ns()
        metrics = [_metric(family, self._began, now) for family in families if family.samples or family.heaps]
        of_scope = ScopeMetrics(scope=self._scope, metrics=metrics, schema_url="")
        of_resource = ResourceMetrics(resource=self._resource, scope_metrics=[of_scope], schema_url="")
        return self._exporter.export(MetricsData([of_resource])) is MetricExportResult.SUCCESS


def _metric(family: Family, began: int, now: int) -> Metric:
    # Names stay Prometheus' own, so that the rules and the dashboard hold wherever the figures came from.
    return Metric(name=family.name, description=family.text, unit=_unit(family.name), data=_data(family, began, now))


def _data(family: Family, began: int, now: int) -> Sum | Gauge | Histogram:
    if family.kind == "histogram":
        points = [
            HistogramDataPoint(
                attributes=_attributes(family, labels),
                start_time_unix_nano=began,
                time_unix_nano=now,
                count=sum(heap.counts),
                sum=heap.sum,
                bucket_counts=heap.counts,
                explicit_bounds=family.bounds,
                min=_NOT_KNOWN,
                max=_NOT_KNOWN,
            )
            for labels, heap in family.heaps.items()
        ]
        return Histogram(data_points=points, aggregation_temporality=_CUMULATIVE)
    numbers = [
        NumberDataPoint(
            attributes=_attributes(family, labels), start_time_unix_nano=began, time_unix_nano=now, value=float(value)
        )
        for labels, value in family.samples.items()
    ]
    if family.kind == "counter":
        return Sum(data_points=numbers, aggregation_temporality=_CUMULATIVE, is_monotonic=True)
    return Gauge(data_points=numbers)


def _attributes(family: Family, labels: Labels) -> Mapping[str, str]:
    return dict(zip(family.labels, labels, strict=True))


def _unit(name: str) -> str:
    return "s" if name.removesuffix("_total").endswith("_seconds") else "By" if name.endswith("_bytes") else "1"
