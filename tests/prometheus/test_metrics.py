"""``/metrics`` of a daemon that has worked: what Prometheus makes of it, what it says, and what it must never say."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import ClientSession
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from skycap.embedded import EmbeddedServers
from skycap.outcome import DeadReason
from skycap.services.replies import ReplyClass
from tests.support.daemons import Site
from tests.support.promtool import promtool
from tests.support.redis_servers import proxy
from tests.support.scrape import CANARIES, Scrape, scraped
from tests.support.shipped_monitoring import alerts, dashboard_expressions, expression, selectors

# The library says no types of its parsers.
text_families = cast("Any", parser).text_string_to_metric_families
openmetrics_families = cast("Any", openmetrics_parser).text_string_to_metric_families

VARIABLES = {"$queue", "$instance"}

MOST_WRITES = 15
"""What is asked at once goes out in one write: there are some four to a scrape, the daemon's own calls beside them."""

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

OF_PROMETHEUS = frozenset(
    {
        *("process_cpu_seconds_total", "process_start_time_seconds", "process_resident_memory_bytes"),
        *("process_virtual_memory_bytes", "process_open_fds", "process_max_fds"),
        *("python_gc_collections_total", "python_gc_objects_collected_total"),
    }
)
NAMES = frozenset(
    {
        *("build_info", "plugin_info", "draining", "outbox_oldest_age_seconds"),
        *("queue_jobs", "queue_oldest_waiting_age_seconds", "queue_consumers", "queue_paused"),
        *("jobs_enqueued_total", "jobs_finished_total", "jobs_dead_lettered_total", "jobs_reclaimed_total"),
        *("job_wait_seconds_bucket", "job_duration_seconds_bucket"),
        *("email_sends_total", "email_smtp_seconds_bucket", "email_ledger_rows"),
        *("circuit_breaker_state", "circuit_breaker_failure_ratio", "circuit_breaker_calls_total"),
        *("schedule_last_success_timestamp_seconds", "schedule_interval_seconds", "schedule_duration_seconds"),
        *("dependency_up", "dependency_roundtrip_seconds"),
        *("redis_used_memory_bytes", "redis_maxmemory_bytes", "redis_eviction_policy_safe", "redis_persistence"),
        *("event_loop_lag_seconds_bucket", "event_loop_blocked_total", "event_loop_blocked_seconds_total"),
        *("event_loop_blocked_longest_seconds", "cache_requests_total", "cache_loads_total"),
        *("db_pool_connections", "db_pool_max_connections", "db_slow_queries_total"),
    }
)

VALUES = {
    "state": {
        *("waiting", "waiting_at_limit", "delayed", "active", "dead", "closed", "open", "half_open"),
        *("used", "idle", "dot", "unknown", "failed", "loaded", "broken"),
    },
    "outcome": {"ok", "retried", "dead", "snoozed", "cancelled", "interrupted"},
    "reason": {reason.replace(" ", "_") for reason in DeadReason},
    "class": {"", *(word.replace(" ", "_") for word in ReplyClass)},
    "result": {"ok", "failed", "refused", "hit", "miss", "error", "sent", "deferred", "unknown", "suppressed"},
    "phase": {"connect", "envelope", "message"},
    "dependency": {"redis", "postgresql"},
    "database": {"primary"},
    "deduplicated": {"true", "false"},
    "generation": {"0", "1", "2"},
    "namespace": {"calls"},
}
"""Of each label whose values no installation chooses, all that it may have."""


@pytest.fixture(scope="module")
def scrape(servers: EmbeddedServers, tmp_path_factory: pytest.TempPathFactory) -> Scrape:
    return asyncio.run(scraped(servers, tmp_path_factory.mktemp("scrape")))


def test_promtool_finds_nothing_to_say_about_it(scrape: Scrape) -> None:
    assert promtool("check", "metrics", stdin=scrape.text) == ""


def test_every_name_that_is_promised_has_a_sample(scrape: Scrape) -> None:
    found = scrape.samples.keys()
    assert {f"skycap_{name}" for name in NAMES} - found == set()
    assert found >= OF_PROMETHEUS


def test_it_is_openmetrics_for_who_prefers_that_and_text_for_the_others(scrape: Scrape) -> None:
    assert scrape.content_types == (
        "text/plain; version=0.0.4; charset=utf-8",
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
    )
    assert scrape.openmetrics.endswith("# EOF\n")
    both = [
        {sample.name for family in families for sample in family.samples}
        for families in (text_families(scrape.text), openmetrics_families(scrape.openmetrics))
    ]
    assert both[0] == both[1]
    kinds = {family.name: family.type for family in openmetrics_families(scrape.openmetrics)}
    assert kinds["skycap_build"] == "info"
    assert kinds["skycap_jobs_finished"] == "counter"
    assert kinds["skycap_job_duration_seconds"] == "histogram"


def test_no_label_holds_an_id_an_address_or_a_secret(scrape: Scrape) -> None:
    text = scrape.text + scrape.openmetrics
    assert [word for word in (*CANARIES, "@", *scrape.job_ids) if word in text] == []
    assert UUID.search(text) is None


def test_no_label_has_more_values_than_an_installation_has_words(scrape: Scrape) -> None:
    for name, found in scrape.samples.items():
        for labels in found:
            for label, value in labels.items():
                assert value in VALUES.get(label, {value}), f"{name}: {label}={value}"
    (job_type,) = [labels for labels in scrape.samples["skycap_jobs_finished_total"] if labels["job_type"] == "unknown"]
    assert job_type == {"queue": "default", "job_type": "unknown", "outcome": "snoozed"}
    assert len(scrape.text.splitlines()) < 2500


def test_jobs_are_counted_by_how_they_ended(scrape: Scrape) -> None:
    called = {"queue": "default", "job_type": "call-out"}
    ended = {
        outcome: scrape.value("skycap_jobs_finished_total", **called, outcome=outcome) for outcome in VALUES["outcome"]
    }
    assert ended == {"ok": 2, "retried": 1, "dead": 2, "snoozed": 0, "cancelled": 0, "interrupted": 0}
    dead = {
        reason: scrape.value("skycap_jobs_dead_lettered_total", **called, reason=reason)
        for reason in ("permanent", "attempts_used_up", "poison")
    }
    assert dead == {"permanent": 1, "attempts_used_up": 1, "poison": 0}
    assert scrape.value("skycap_job_duration_seconds_count", **called) == 5
    assert 0.6 < scrape.value("skycap_job_duration_seconds_sum", **called) < 20
    assert scrape.value("skycap_job_wait_seconds_count", **called) == 5
    assert scrape.value("skycap_jobs_enqueued_total", queue="email", deduplicated="false") == 3
    assert scrape.value("skycap_jobs_enqueued_total", queue="email", deduplicated="true") == 1


def test_mails_are_counted_by_what_the_server_said(scrape: Scrape) -> None:
    mails = {
        (labels["type"], labels["result"], labels["class"]): scrape.value("skycap_email_sends_total", **labels)
        for labels in scrape.samples["skycap_email_sends_total"]
    }
    assert mails == {
        ("send-booking-confirmation", "sent", ""): 1,
        ("send-welcome-email", "failed", "recipient_gone"): 1,
        ("send-welcome-email", "deferred", "recipient_later"): 1,
    }
    assert scrape.value("skycap_email_smtp_seconds_count", phase="message") == 1
    assert scrape.value("skycap_email_ledger_rows", state="unknown") == 0


def test_the_servers_and_the_daemon_are_as_they_are(scrape: Scrape) -> None:
    for dependency in ("redis", "postgresql"):
        assert scrape.value("skycap_dependency_up", dependency=dependency) == 1
        assert 0 < scrape.value("skycap_dependency_roundtrip_seconds", dependency=dependency) < 2
    assert scrape.value("skycap_redis_eviction_policy_safe") == 1
    assert scrape.value("skycap_redis_used_memory_bytes") > 100_000
    assert scrape.value("skycap_schedule_interval_seconds", schedule="breathe") == 1
    states = {labels["plugin"]: labels["state"] for labels in scrape.samples["skycap_plugin_info"]}
    assert (states["fauna"], states["broken"]) == ("loaded", "broken")
    assert scrape.value("skycap_draining") == 0
    assert scrape.value("process_resident_memory_bytes") > 20_000_000


def test_the_start_of_the_process_is_when_it_started(scrape: Scrape) -> None:
    began, ready = scrape.started_between
    assert began - 1 < scrape.value("process_start_time_seconds") < ready + 1


def test_every_metric_of_the_rules_and_of_the_dashboard_is_there_with_its_labels(scrape: Scrape) -> None:
    samples, names = scrape.samples, scrape.names
    spoken_of = [*map(expression, alerts().values()), *dashboard_expressions()]
    found = [each for text in spoken_of for each in selectors(text)]
    assert len(found) > 80
    assert {name for name, _ in found} - names == set()
    for name, matchers in found:
        # What only an installation with standbys has is in the answer by its name alone.
        known = {label for labels in samples.get(name, []) for label in labels} or matchers.keys()
        assert matchers.keys() - known <= {"job", "instance"}, f"{name} has no such label"
        for label, values in matchers.items():
            if label in VALUES and values not in VARIABLES:
                assert set(values.split("|")) <= VALUES[label], f"{name}: {label}"


@asynccontextmanager
async def silent_server() -> AsyncGenerator[int]:
    """The port of a server that takes connections and never says a word."""
    is_over = asyncio.Event()

    async def hold(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await is_over.wait()
        writer.transport.abort()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        is_over.set()
        server.close()


async def test_a_scrape_is_cheap_and_answers_within_three_seconds_whatever_is_silent(
    redis_url: str, tmp_path: Path
) -> None:
    async with proxy(redis_url) as between, silent_server() as port:
        site = Site(folder=tmp_path, redis_url=between.url, database_url=f"postgresql://skycap@127.0.0.1:{port}/travel")
        async with site.daemon() as daemon, ClientSession(daemon.http_url) as http:

            async def lines() -> list[str]:
                async with http.get("/metrics") as answer:
                    assert answer.status == 200
                    return (await answer.text()).splitlines()

            await lines()
            before = between.chunks
            assert 'skycap_dependency_up{dependency="redis"} 1.0' in await lines()
            # The daemon's own calls of these two seconds, in which PostgreSQL is waited for, are among them.
            assert between.chunks - before <= MOST_WRITES
            between.go_silent()
            began = time.monotonic()
            during = await lines()
            took = time.monotonic() - began
            between.speak()
    assert took < 3
    assert 'skycap_dependency_up{dependency="redis"} 0.0' in during
    assert 'skycap_dependency_up{dependency="postgresql"} 0.0' in during
    assert not any(line.startswith("skycap_queue_jobs{") for line in during)
    assert any(line.startswith("skycap_build_info{") for line in during)
