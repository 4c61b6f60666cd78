"""Metrics in Prometheus' text format: queues and breakers as they stand in Redis, and what blocks the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from aiohttp import web

from skycap.breaker import BreakerState
from skycap.engine.breakers import BreakerStatus
from skycap.engine.queue import Counts, Queue
from skycap.errors import Unavailable
from skycap.http.access import needs_elsewhere
from skycap.http.breakers import BreakerStatuses
from skycap.http.tokens import Scope
from skycap.observe.event_loop import BlockFigures
from skycap.services.cache_figures import Figures

if TYPE_CHECKING:
    from skycap.services.slow_queries import SlowQuery

_FORMAT = "text/plain; version=0.0.4; charset=utf-8"
_QUEUE_LIMIT_SECONDS = 2.0

Sample = tuple[Mapping[str, str], float]


class MetricsRoutes:
    """``/metrics``. A queue whose Redis does not answer is left out, and ``skycap_dependency_up`` says so."""

    def __init__(
        self,
        queues: Mapping[str, Queue],
        blocks: Callable[[], Mapping[str, BlockFigures]],
        cache: Callable[[], Mapping[str, Figures]],
        slow_queries: Callable[[], Mapping[SlowQuery, int]],
        *,
        breakers: BreakerStatuses,
        calls: Mapping[tuple[str, str], int],
    ) -> None:
        self._queues = queues
        self._blocks = blocks
        self._cache = cache
        self._slow_queries = slow_queries
        self._breakers = breakers
        self._calls = calls

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/metrics", self.metrics)

    @needs_elsewhere(Scope.READ)
    async def metrics(self, _request: web.Request) -> web.Response:
        """What is known now."""
        counts, breakers = await asyncio.gather(self._counts(), self._breakers.now())
        text = "".join(
            [
                *_of_queues(counts, is_up=len(counts) == len(self._queues)),
                *_of_blocks(self._blocks()),
                *of_cache(self._cache()),
                _of_slow_queries(self._slow_queries()),
                *_of_breakers(breakers, self._calls),
            ]
        )
        return web.Response(body=text.encode(), headers={"Content-Type": _FORMAT, "Cache-Control": "no-store"})

    async def _counts(self) -> dict[str, Counts]:
        async def count(queue: Queue) -> Counts | None:
            try:
                async with asyncio.timeout(_QUEUE_LIMIT_SECONDS):
                    return await queue.counts()
            except (Unavailable, TimeoutError):
                return None

        found = await asyncio.gather(*(count(queue) for queue in self._queues.values()))
        return {name: counts for name, counts in zip(self._queues, found, strict=True) if counts is not None}


def _of_queues(counts: Mapping[str, Counts], *, is_up: bool) -> Iterator[str]:
    yield _family("skycap_dependency_up", "gauge", "Whether it answers.", [({"dependency": "redis"}, is_up)])
    yield _family(
        "skycap_queue_jobs",
        "gauge",
        "Jobs of the whole fleet by where they stand.",
        [
            ({"queue": name, "state": state}, number)
            for name, count in counts.items()
            for state, number in (
                ("waiting", count.available),
                ("waiting_at_limit", count.waiting_at_limits),
                ("delayed", count.later),
                ("active", count.running),
                ("dead", count.discarded),
            )
        ],
    )
    paused = [({"queue": name}, count.is_paused) for name, count in counts.items()]
    yield _family("skycap_queue_paused", "gauge", "1 while no job of it is started.", paused)


def _of_blocks(blocks: Mapping[str, BlockFigures]) -> Iterator[str]:
    for name, kind, text, value in (
        ("blocked_total", "counter", "How often a handler of a kind blocked the event loop.", "blocked_total"),
        ("blocked_seconds_total", "counter", "How long in all.", "blocked_seconds_total"),
        ("blocked_longest_seconds", "gauge", "The longest time at once.", "longest_seconds"),
    ):
        samples = [({"job_type": job_type}, getattr(figures, value)) for job_type, figures in blocks.items()]
        yield _family(f"skycap_event_loop_{name}", kind, text, samples)


def of_cache(cache: Mapping[str, Figures]) -> Iterator[str]:
    """Of this daemon: what scrapes all of them adds them up."""
    yield _family(
        "skycap_cache_requests_total",
        "counter",
        "Requests to the cache; those that Redis did not answer are errors.",
        [
            ({"namespace": namespace, "result": result}, number)
            for namespace, figures in cache.items()
            for result, number in (("hit", figures.hits), ("miss", figures.misses), ("error", figures.errors))
        ],
    )
    loads = [({"namespace": namespace}, figures.loads) for namespace, figures in cache.items()]
    yield _family("skycap_cache_loads_total", "counter", "Values that were loaded by a handler.", loads)


def _of_slow_queries(counts: Mapping[SlowQuery, int]) -> str:
    return _family(
        "skycap_db_slow_queries_total",
        "counter",
        "Queries over database.slow_query_ms, by the fingerprint that the log explains.",
        [({"fingerprint": query.fingerprint, "job_type": query.kind}, count) for query, count in counts.items()],
    )


def _of_breakers(breakers: Mapping[str, BreakerStatus | None], calls: Mapping[tuple[str, str], int]) -> Iterator[str]:
    known = [status for status in breakers.values() if status is not None]
    yield _family(
        "skycap_circuit_breaker_state",
        "gauge",
        "1 for the state that the breaker has for the whole fleet.",
        [
            ({"breaker": status.name, "state": state.value.replace(" ", "_")}, status.state is state)
            for status in known
            for state in BreakerState
        ],
    )
    yield _family(
        "skycap_circuit_breaker_failure_ratio",
        "gauge",
        "Failed calls of the whole fleet in the last five minutes, as a share of all.",
        [({"breaker": status.name}, status.failure_rate) for status in known],
    )
    yield _family(
        "skycap_circuit_breaker_calls_total",
        "counter",
        "Calls of this daemon by how they ended; refused: not made, since the breaker was open.",
        [
            ({"breaker": name, "result": result}, calls.get((name, result), 0))
            for name in breakers
            for result in ("ok", "failed", "refused")
        ],
    )


def _family(name: str, kind: str, text: str, samples: Iterable[Sample]) -> str:
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        # Queues, kinds and namespaces are lower-case words and hyphens, so nothing needs an escape.
        marked = ",".join(f'{label}="{content}"' for label, content in labels.items())
        lines.append(f"{name}{{{marked}}} {float(value):.15g}")
    return "\n".join(lines) + "\n"
