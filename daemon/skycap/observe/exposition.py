"""Exposition: families of metrics in the formats that Prometheus reads, written by its own library.

The library is loaded when somebody first asks: it takes 30 ms and a megabyte, which a daemon without HTTP is spared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from skycap.observe.families import Family

if TYPE_CHECKING:
    from prometheus_client import Metric

_OPENMETRICS = "application/openmetrics-text"


def exposition(families: Iterable[Family], *, accept: str) -> tuple[str, bytes]:
    """Content type and body: OpenMetrics 1.0.0 for those who would rather have it, else the text format 0.0.4."""
    from prometheus_client import CollectorRegistry, GCCollector
    from prometheus_client.exposition import choose_encoder

    # Of one scrape: the figures are those of this moment, and the library's own registry is global.
    registry = CollectorRegistry()
    registry.register(_Collected([_metric(family) for family in families]))
    GCCollector(registry)
    encode, content_type = choose_encoder(_OPENMETRICS if _prefers_openmetrics(accept) else "")
    return content_type, encode(registry)


class _Collected:
    """See prometheus_client.registry.Collector."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Sequence[Metric]:
        return self._metrics


def _metric(family: Family) -> Metric:
    from prometheus_client import Metric

    name, kind = family.name, family.kind
    metric = Metric(name.removesuffix({"counter": "_total", "info": "_info"}.get(kind, "")), family.text, kind)
    for values, value in family.samples.items():
        metric.add_sample(name, dict(zip(family.labels, values, strict=True)), value)
    ends = [*map(str, map(float, family.bounds)), "+Inf"]
    for values, heap in family.heaps.items():
        labels = dict(zip(family.labels, values, strict=True))
        for end, count in zip(ends, accumulate(heap.counts), strict=True):
            metric.add_sample(f"{name}_bucket", {**labels, "le": end}, count)
        metric.add_sample(f"{name}_count", labels, sum(heap.counts))
        metric.add_sample(f"{name}_sum", labels, heap.sum)
    return metric


def _prefers_openmetrics(accept: str) -> bool:
    wishes: dict[str, float] = {}
    for wish in accept.lower().split(","):
        media_type, *parameters = (part.strip() for part in wish.split(";"))
        wishes[media_type] = max(wishes.get(media_type, 0), _quality(parameters))
    return wishes.get(_OPENMETRICS, 0) > wishes.get("text/plain", 0)


def _quality(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0
    return 1
