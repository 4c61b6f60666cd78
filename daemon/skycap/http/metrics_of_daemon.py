"""Metrics of one daemon since its start: those of several are to be added up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skycap.observe.event_loop import BlockFigures
from skycap.observe.families import Family, counter, gauge, info, number, spread, tallied
from skycap.observe.meters import Meters
from skycap.services.cache_figures import Figures

if TYPE_CHECKING:
    from skycap.registry import LoadedPlugin
    from skycap.services.slow_queries import SlowQuery


@dataclass(frozen=True, kw_only=True)
class Build:
    """What does not change while a daemon runs."""

    version: str
    python: str
    plugins: Sequence[LoadedPlugin]


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What a daemon has counted."""

    meters: Meters
    blocks: Callable[[], Mapping[str, BlockFigures]]
    """By kind of job."""
    cache: Callable[[], Mapping[str, Figures]]
    """By namespace."""
    slow_queries: Callable[[], Mapping[SlowQuery, int]]
    breakers: Sequence[str]
    calls: Mapping[tuple[str, str], int]
    """By breaker and result."""


def of_daemon(build: Build, counted: Counted, *, is_draining: bool) -> Iterator[Family]:
    yield from _of_build(build)
    yield number("skycap_draining", "1 while this daemon takes no more jobs, since it stops.", is_draining)
    yield from _of_jobs(counted.meters)
    yield from _of_mails(counted.meters)
    yield from _of_blocks(counted.blocks())
    yield spread(
        "skycap_event_loop_lag_seconds",
        "How late the event loop did what it was asked to do by then, twice a second.",
        counted.meters.loop_lag,
    )
    yield from of_cache(counted.cache())
    yield counter(
        "skycap_db_slow_queries_total",
        "Queries over database.slow_query_ms, by the fingerprint that the log explains.",
        ("fingerprint", "job_type"),
        [((query.fingerprint, query.kind), count) for query, count in counted.slow_queries().items()],
    )
    yield counter(
        "skycap_circuit_breaker_calls_total",
        "Calls of this daemon by how they ended; refused: not made, since the breaker was open.",
        ("breaker", "result"),
        [
            ((name, result), counted.calls.get((name, result), 0))
            for name in counted.breakers
            for result in ("ok", "failed", "refused")
        ],
    )


def _of_build(build: Build) -> Iterator[Family]:
    yield info("skycap_build_info", "Versions of this daemon.", ("version", "python"), [(build.version, build.python)])
    yield info(
        "skycap_plugin_info",
        "Plugins of this daemon; state: loaded, or broken and left out.",
        ("plugin", "version", "state"),
        [(each.name, each.version, "broken" if each.error else "loaded") for each in build.plugins],
    )


def _of_jobs(meters: Meters) -> Iterator[Family]:
    yield tallied(
        "skycap_jobs_finished_total",
        "Attempts of this daemon by how they ended; snoozed and interrupted ones used up none.",
        meters.jobs_finished,
    )
    yield tallied(
        "skycap_jobs_dead_lettered_total",
        "Jobs that this daemon moved to the dead letters, by the reason.",
        meters.dead_letters,
    )
    yield spread("skycap_job_wait_seconds", "From when a job could run to its claim by this daemon.", meters.job_waits)
    yield spread("skycap_job_duration_seconds", "How long attempts ran in this daemon.", meters.job_durations)


def _of_mails(meters: Meters) -> Iterator[Family]:
    yield tallied(
        "skycap_email_sends_total",
        "Mails of this daemon by kind of job, what became of them, and what the server's reply meant.",
        meters.mails,
    )
    yield spread(
        "skycap_email_smtp_seconds",
        "Replies of the mail server: to connect (with TLS and log-in), to the envelope, and to the message.",
        meters.smtp,
    )


def _of_blocks(blocks: Mapping[str, BlockFigures]) -> Iterator[Family]:
    kind = ("job_type",)
    yield counter(
        "skycap_event_loop_blocked_total",
        "How often a handler of a kind blocked the event loop.",
        kind,
        [((name,), figures.blocked_total) for name, figures in blocks.items()],
    )
    yield counter(
        "skycap_event_loop_blocked_seconds_total",
        "How long handlers of a kind blocked the event loop in all.",
        kind,
        [((name,), figures.blocked_seconds_total) for name, figures in blocks.items()],
    )
    yield gauge(
        "skycap_event_loop_blocked_longest_seconds",
        "The longest time at once that a handler of a kind blocked the event loop.",
        kind,
        [((name,), figures.longest_seconds) for name, figures in blocks.items()],
    )


def of_cache(cache: Mapping[str, Figures]) -> Iterator[Family]:
    yield counter(
        "skycap_cache_requests_total",
        "Requests to the cache; those that Redis did not answer are errors.",
        ("namespace", "result"),
        [
            ((namespace, result), count)
            for namespace, figures in cache.items()
            for result, count in (("hit", figures.hits), ("miss", figures.misses), ("error", figures.errors))
        ],
    )
    yield counter(
        "skycap_cache_loads_total",
        "Values that were loaded by a handler.",
        ("namespace",),
        [((namespace,), figures.loads) for namespace, figures in cache.items()],
    )
