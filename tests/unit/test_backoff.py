"""When a failed job is tried again."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skycap.backoff import Backoff, exponential, fixed, linear, waits


def test_exponential_waits_double() -> None:
    backoff = exponential(seconds=5, attempts=4)
    waits = [backoff.delay(attempt, chance=0) for attempt in (1, 2, 3, 4)]
    assert waits == [timedelta(seconds=5), timedelta(seconds=10), timedelta(seconds=20), None]


def test_fixed_waits_stay_the_same() -> None:
    backoff = fixed(seconds=60, attempts=3)
    assert [backoff.delay(attempt, chance=0) for attempt in (1, 2, 3)] == [timedelta(minutes=1)] * 2 + [None]


def test_linear_waits_grow_by_the_first_one() -> None:
    backoff = linear(seconds=10, attempts=5, longest=timedelta(seconds=35), jitter=0)
    assert [backoff.delay(attempt) for attempt in (1, 2, 3, 4, 5)] == [
        *(timedelta(seconds=seconds) for seconds in (10, 20, 30, 35)),
        None,
    ]


def test_the_last_of_a_list_of_waits_repeats() -> None:
    backoff = waits([1, 30, 5], attempts=6, jitter=0)
    seconds = [backoff.wait(attempt).total_seconds() for attempt in (1, 2, 3, 4, 1000)]
    assert seconds == [1, 30, 5, 5, 5]
    assert backoff.delay(6) is None


def test_a_list_of_one_wait_is_the_same_as_a_fixed_one() -> None:
    assert waits([5], attempts=3) == fixed(seconds=5, attempts=3)


def test_a_factor_close_to_one_still_leads_to_the_longest_wait() -> None:
    backoff = exponential(seconds=1, attempts=9, factor=1.01, longest=timedelta(seconds=60), jitter=0)
    assert backoff.wait(1000) == timedelta(seconds=60)


@pytest.mark.parametrize(
    "backoff",
    [
        fixed(seconds=100, attempts=9, jitter=0.5),
        linear(seconds=100, attempts=9, jitter=0.5, longest=timedelta(seconds=100)),
        exponential(seconds=100, attempts=9, jitter=0.5, longest=timedelta(seconds=100)),
        waits([100, 100], attempts=9, jitter=0.5),
    ],
)
def test_every_shape_has_jitter_on_top_of_its_longest_wait(backoff: Backoff) -> None:
    assert [backoff.wait(2, chance=chance) for chance in (0, 0.5)] == [timedelta(seconds=100), timedelta(seconds=125)]


@given(attempt=st.integers(1, 10_000), chance=st.floats(0, 1, exclude_max=True), first=st.floats(0, 86_400))
def test_no_wait_is_longer_than_the_longest_and_its_jitter(attempt: int, chance: float, first: float) -> None:
    shapes = (exponential, linear, fixed)
    for backoff in (shape(seconds=first, attempts=20_000, jitter=0.1) for shape in shapes):
        wait = backoff.delay(attempt, chance=chance)
        assert wait is not None
        assert timedelta(seconds=first) <= wait + timedelta(microseconds=1)
        assert wait <= backoff.longest * 1.1


def test_jitter_spreads_the_waits() -> None:
    backoff = fixed(seconds=100, attempts=9, jitter=0.1)
    assert len({backoff.delay(1) for _ in range(20)}) > 1
    assert backoff.delay(1, chance=0.5) == timedelta(seconds=105)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attempts": 0}, "attempts is 0: a job needs at least 1"),
        ({"first": timedelta(seconds=-1)}, "give 0 <= first <= longest"),
        ({"first": timedelta(days=2)}, "give 0 <= first <= longest"),
        ({"factor": 0.5}, "give factor >= 1"),
        ({"factor": float("nan")}, "give factor >= 1"),
        ({"factor": float("inf")}, "give factor >= 1"),
        ({"jitter": 2}, "0 <= jitter <= 1"),
        ({"factor": 1, "later": (timedelta(days=2),)}, "a wait of 2 days, 0:00:00 in a list: give each from 0 to"),
        ({"factor": 1, "later": (timedelta(seconds=-1),)}, "give each from 0 to longest, which is 1 day"),
        ({"linear": True}, "give one of factor, linear and later"),
        ({"later": (timedelta(seconds=1),)}, "give one of factor, linear and later"),
        ({"factor": 1, "linear": True, "later": (timedelta(seconds=1),)}, "give one of factor, linear and later"),
    ],
)
def test_a_backoff_that_makes_no_sense_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(exponential(seconds=1, attempts=3), **settings)


def test_a_list_needs_a_wait() -> None:
    with pytest.raises(ValueError, match=r"give at least one wait in seconds, like \[1, 5, 30\]"):
        waits([], attempts=3)


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), 1e300])
def test_a_wait_that_is_no_time_is_refused(seconds: float) -> None:
    for make in (exponential, fixed, linear):
        with pytest.raises(ValueError, match="seconds: give a number from 0 up to longest"):
            make(seconds=seconds, attempts=3)
    with pytest.raises(ValueError, match="seconds: give a number from 0 up to longest"):
        waits([1, seconds], attempts=3)
