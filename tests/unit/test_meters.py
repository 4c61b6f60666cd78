"""What a daemon counts, and in which format it says so."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest

from skycap.observe.exposition import exposition
from skycap.observe.families import Family, info, spread, tallied
from skycap.observe.loop_lag import watch_lag
from skycap.observe.meters import Meters
from skycap.observe.process import of_process
from skycap.observe.tallies import Spread
from skycap.outcome import Completed, DeadReason, Discarded, HandedBack

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def test_a_kind_that_nobody_here_handles_is_called_unknown() -> None:
    meters = Meters({"say-hello": "default"})
    meters.attempt("default", "", Completed(), waited=0, took=0)
    meters.given_up("default", "anything-at-all", DeadReason.POISON)
    meters.given_up("default", "say-hello", DeadReason.POISON)
    meters.mail("anything-at-all", "sent", "")
    assert meters.jobs_finished.counts["default", "unknown", "ok"] == 1
    assert meters.dead_letters.counts["default", "unknown", "poison"] == 1
    assert meters.dead_letters.counts["default", "say-hello", "poison"] == 1
    assert meters.mails.counts["unknown", "sent", ""] == 1


def test_what_is_known_beforehand_begins_with_zero() -> None:
    meters = Meters({"say-hello": "default"})
    assert meters.jobs_finished.counts["default", "say-hello", "dead"] == 0
    assert ("default", "say-hello", "attempts_used_up") in meters.dead_letters.counts


def test_an_attempt_is_counted_once_everywhere() -> None:
    meters = Meters({"say-hello": "default"})
    meters.attempt("default", "say-hello", HandedBack(), waited=0.2, took=0.02)
    gone = Discarded(reason=DeadReason.ATTEMPTS_USED_UP, error="no")
    meters.attempt("default", "say-hello", gone, waited=400, took=0.005)
    assert meters.jobs_finished.counts["default", "say-hello", "interrupted"] == 1
    assert meters.jobs_finished.counts["default", "say-hello", "dead"] == 1
    assert meters.dead_letters.counts["default", "say-hello", "attempts_used_up"] == 1
    text = _text(spread("waits", "How long.", meters.job_waits))
    assert 'waits_bucket{job_type="say-hello",le="0.1",queue="default"} 0.0' in text
    assert 'waits_bucket{job_type="say-hello",le="0.25",queue="default"} 1.0' in text
    assert 'waits_bucket{job_type="say-hello",le="300.0",queue="default"} 1.0' in text
    assert 'waits_bucket{job_type="say-hello",le="+Inf",queue="default"} 2.0' in text
    assert 'waits_count{job_type="say-hello",queue="default"} 2.0' in text
    assert 'waits_sum{job_type="say-hello",queue="default"} 400.2' in text


def test_a_bound_belongs_to_what_is_below_it() -> None:
    sizes = Spread(bounds=(1, 2))
    for size in (0.5, 1, 1.5, 2, 3):
        sizes.note(size)
    assert sizes.heaps[()].counts == [2, 2, 1]


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/html,application/xhtml+xml", TEXT),
        ("text/plain;version=0.0.4", TEXT),
        ("application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2", OPENMETRICS),
        ("application/openmetrics-text; version=0.0.1; q=0.2, text/plain; q=0.9", TEXT),
        ("application/openmetrics-text;q=0", TEXT),
        ("application/openmetrics-text;q=nonsense", TEXT),
    ],
)
def test_the_format_is_the_one_that_is_preferred(accept: str, content_type: str) -> None:
    assert exposition([], accept=accept)[0] == content_type


def test_names_are_those_of_each_format() -> None:
    families = [tallied("mails_total", "Mails.", Meters().mails), info("build_info", "It.", ("version",), [("1",)])]
    text = exposition(families, accept="")[1].decode()
    assert "# TYPE mails_total counter" in text
    assert '# TYPE build_info gauge\nbuild_info{version="1"} 1.0\n' in text
    openmetrics = exposition(families, accept="application/openmetrics-text")[1].decode()
    assert "# TYPE mails counter" in openmetrics
    assert '# TYPE build info\nbuild_info{version="1"} 1.0\n' in openmetrics


async def test_the_lag_of_the_event_loop_is_how_late_it_wakes() -> None:
    lags = asyncio.Queue[float]()
    watching = asyncio.create_task(watch_lag(lags.put_nowait, interval=timedelta(milliseconds=10)))
    await lags.get()
    _block(0.1)
    assert await lags.get() > 0.08
    watching.cancel()


def _block(seconds: float) -> None:
    time.sleep(seconds)


def test_the_process_says_when_it_started_and_always_the_same() -> None:
    first, second = ({family.name: family.samples for family in of_process()} for _ in range(2))
    assert first["process_start_time_seconds"] == second["process_start_time_seconds"]
    assert first["process_open_fds"][()] > 2


def _text(family: Family) -> str:
    return exposition([family], accept="")[1].decode()
