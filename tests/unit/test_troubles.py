"""What is wrong with a fleet, in one sentence: from figures and alarms, worst first, each thing once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from skycap.breaker import BreakerState
from skycap.display.situation import Dependency
from skycap.display.troubles import headline, troubles_of
from skycap.overview import Overview
from tests.support.situations import NOW, TROUBLED, WELL, WITHOUT_REDIS, alarm, breaker, daemon, queue


def said(overview: Overview, *dependencies: Dependency) -> list[str]:
    return [trouble.sentence(now=NOW) for trouble in troubles_of(overview, dependencies, now=NOW)]


def with_queues(**changes: Any) -> Overview:
    return replace(WELL.overview, **changes)


def test_where_nothing_is_wrong_all_is_well() -> None:
    assert said(WELL.overview, *WELL.dependencies) == []
    assert headline([], now=NOW) == "All is well"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"queues": {"email": queue(paused_because="")}}, "Queue email is paused"),
        (
            {"queues": {"email": queue(paused_because="refused")}},
            "Queue email has paused itself: refused",
        ),
        ({"daemons": []}, "No daemon is there to run jobs"),
        (
            {"queues": {"reports": queue(waiting=1)}},
            "No daemon serves queue reports, where 1 job waits",
        ),
        (
            {"queues": {"email": queue(waiting=1200)}, "daemons": [daemon("jobs-1", 1, draining=True, hours=1)]},
            "No daemon serves queue email, where 1,200 jobs wait",
        ),
        (
            {"breakers": {"stripe": breaker("stripe", BreakerState.OPEN)}},
            "Breaker stripe is open, since 03:00 (4 min)",
        ),
        (
            {"breakers": {"stripe": replace(breaker("stripe", BreakerState.HALF_OPEN), forced=True)}},
            "Breaker stripe is half open by hand, since 03:00 (4 min)",
        ),
        (
            {"alarms": [alarm("slow_queries", "40 statements of one daemon were slow within 5 min", minutes=90)]},
            "40 statements of one daemon were slow within 5 min, since 01:34 (1 h 30 min)",
        ),
    ],
)
def test_one_thing_that_is_wrong(changes: Mapping[str, Any], sentence: str) -> None:
    assert said(with_queues(**changes)) == [sentence]


@pytest.mark.parametrize(
    ("dependency", "sentence"),
    [
        (Dependency(name="PostgreSQL", state="down"), "PostgreSQL does not answer"),
        (
            Dependency(name="Redis", state="down", silent_for=timedelta(seconds=30)),
            "Redis does not answer, since 03:03 (30 s)",
        ),
        (Dependency(name="quota", noun="check", state="down", reason="gone"), "Check quota is down: gone"),
        (
            Dependency(name="db2", noun="replica", state="degraded", reason="it lags"),
            "Replica db2 is degraded: it lags",
        ),
    ],
)
def test_a_dependency_that_is_not_well(dependency: Dependency, sentence: str) -> None:
    assert said(WELL.overview, dependency) == [sentence]


def test_what_an_alarm_says_too_is_told_once_with_the_alarms_time() -> None:
    down = Dependency(name="PostgreSQL", state="down")
    alarms = [alarm("postgresql_unreachable", "PostgreSQL cannot be reached", minutes=3)]
    assert said(with_queues(alarms=alarms), down) == ["PostgreSQL does not answer, since 03:01 (3 min)"]


@pytest.mark.parametrize("state", ["pending", "recovered"])
def test_alarms_that_do_not_fire_are_no_trouble(state: Any) -> None:
    quiet = replace(alarm("slow_queries", "slow", minutes=3), state=state)
    assert said(with_queues(alarms=[quiet])) == []


def test_the_worst_comes_first_and_then_what_lasts_longest() -> None:
    assert said(TROUBLED.overview, *TROUBLED.dependencies) == [
        "Queue email has paused itself: the mail server refused our log-in (535 5.7.8), since 02:23 (41 min)",
        "The dead-letter queue of processing has grown by 98 within 1 h, since 02:38 (26 min)",
        "Breaker stripe is open, since 03:00 (4 min)",
        "Check amadeus-quota is degraded: under a tenth of the day's calls is left",
    ]


def test_of_what_is_not_known_nothing_is_said() -> None:
    assert said(WITHOUT_REDIS.overview, *WITHOUT_REDIS.dependencies) == ["Redis does not answer, since 02:56 (8 min)"]
