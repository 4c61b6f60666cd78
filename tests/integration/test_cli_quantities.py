"""Durations, times and rates as people type them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from skycap.cli.quantities import (
    NoBound,
    count_of,
    duration_of,
    duration_text,
    moment_of,
    or_none,
    rate_of,
    rate_text,
    time_kept_of,
    time_of,
)
from skycap.engine.policy import Rate


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("1.5", 1.5),
        ("1e3", 1000),
        ("90s", 90),
        ("15m", 900),
        ("2h", 7200),
        ("7d", 604_800),
        ("250ms", 0.25),
    ],
)
def test_a_duration_is_seconds_or_has_a_unit(text: str, seconds: float) -> None:
    assert duration_of(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("seconds", [0, 0.25, 1.5, 90, 900, 7200, 604_800, 3660])
def test_a_duration_is_shown_as_it_can_be_typed(seconds: float) -> None:
    duration = timedelta(seconds=seconds)
    assert duration_of(duration_text(duration)) == duration


def test_a_duration_is_shown_in_its_largest_whole_unit() -> None:
    assert [duration_text(timedelta(seconds=s)) for s in (90, 900, 7200, 604_800, 0)] == [
        "90s",
        "15m",
        "2h",
        "7d",
        "0s",
    ]


@pytest.mark.parametrize(
    ("read", "text", "problem"),
    [
        (duration_of, "ten", "'ten' is no duration; give seconds such as 90, or 90s, 15m, 2h or 7d"),
        (duration_of, "-5", "'-5' is no duration"),
        (duration_of, "2 h", "'2 h' is no duration"),
        (duration_of, "nan", "'nan' is no duration"),
        (duration_of, "11y", "'11y' is no duration"),
        (duration_of, "4015d", "4015d is over the limit of ten years; is the unit right?"),
        (duration_of, "1e99", "1e99 is over the limit of ten years"),
        (moment_of, "tomorrow", "'tomorrow' is no time; write it as 2026-11-24T08:00+03:00"),
        (moment_of, "2026-11-24T08:00", "2026-11-24T08:00 has no time zone; add one, as in 2026-11-24T08:00+03:00"),
        (time_of, "soon", "'soon' is no time"),
        (rate_of, "ten", "'ten' is no rate; give so many in a time, such as 20/1s or 1000/1h"),
        (rate_of, "20", "'20' is no rate"),
        (rate_of, "20/ten", "'ten' is no duration"),
        (rate_of, "0/1s", "0 does not fit rate_max; give a number from 1 to 1000000"),
        (rate_of, "5/0s", "0.0 does not fit rate_seconds; give a number from 0.01 to 2592000"),
        (count_of("fleet_concurrency"), "0", "0 does not fit fleet_concurrency; give a number from 1 to 100000"),
        (count_of("fleet_concurrency"), "two", "'two' is no whole number; give one from 1 to 100000"),
        (time_kept_of("keep_finished_seconds"), "400d", "does not fit keep_finished_seconds; give a number from 0 to"),
        (or_none(rate_of), "nothing", "'nothing' is no rate"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_fix(read: Callable[[str], Any], text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        read(text)
    assert str(raised.value).startswith(problem) or problem in str(raised.value)


def test_a_time_has_a_zone_or_is_counted_from_now() -> None:
    assert moment_of("2026-11-24T08:00+03:00") == datetime(2026, 11, 24, 5, tzinfo=UTC)
    assert time_of("2026-11-24T05:00Z") == datetime(2026, 11, 24, 5, tzinfo=UTC)
    assert time_of("2h") == timedelta(hours=2)


def test_a_rate_is_so_many_in_a_time() -> None:
    assert rate_of("20/1s") == Rate(max=20, per=timedelta(seconds=1))
    assert rate_text(rate_of("1000/60m")) == "1000/1h"


def test_none_takes_a_bound_away() -> None:
    assert or_none(rate_of)("none") is NoBound.NONE
    assert or_none(rate_of)("5/1s") == Rate(max=5, per=timedelta(seconds=1))
