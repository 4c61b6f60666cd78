"""When a failed job is tried again."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skycap import exponential, fixed


def test_exponential_waits_double() -> None:
    backoff = exponential(seconds=5, attempts=4)
    waits = [backoff.delay(attempt, chance=0) for attempt in (1, 2, 3, 4)]
    assert waits == [timedelta(seconds=5), timedelta(seconds=10), timedelta(seconds=20), None]


def test_fixed_waits_stay_the_same() -> None:
    backoff = fixed(seconds=60, attempts=3)
    assert [backoff.delay(attempt, chance=0) for attempt in (1, 2, 3)] == [timedelta(minutes=1)] * 2 + [None]


@given(attempt=st.integers(1, 10_000), chance=st.floats(0, 1, exclude_max=True), first=st.floats(0, 86_400))
def test_no_wait_is_longer_than_the_longest_and_its_jitter(attempt: int, chance: float, first: float) -> None:
    backoff = exponential(seconds=first, attempts=20_000, jitter=0.1)
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
        ({"jitter": 2}, "0 <= jitter <= 1"),
    ],
)
def test_a_backoff_that_makes_no_sense_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(exponential(seconds=1, attempts=3), **settings)
