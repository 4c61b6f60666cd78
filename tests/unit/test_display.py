"""Figures as people read them, the drawing of an hour, and the rows of the page's tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from skycap.display import words
from skycap.display.hour import HEIGHT, Hour
from skycap.display.rows import concurrency_of, daemon_rows, dead_rows, versions_of
from skycap.engine.dead_letters import DeadLetter
from skycap.engine.minutes import Minute
from tests.support.situations import NOW, ago, daemon


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (86_400, "1 d"),
        (273_600, "3 d 4 h"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds: float, text: str) -> None:
    assert words.duration(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (datetime(2026, 11, 28, 1, 2, tzinfo=UTC), "01:02"),
        (datetime(2026, 11, 27, 23, 2, tzinfo=UTC), "27 Nov 23:02"),
        (datetime(2025, 12, 31, 23, 2, tzinfo=UTC), "31 Dec 2025 23:02"),
    ],
)
def test_a_moment_has_its_day_where_that_is_not_today(at: datetime, text: str) -> None:
    assert words.moment(at, now=NOW) == text


@pytest.mark.parametrize(
    ("fraction", "text"), [(0, "0 %"), (0.00001, "0.1 %"), (0.042, "4.2 %"), (0.99999, "99.9 %"), (1, "100 %")]
)
def test_a_percentage_is_never_rounded_to_all_or_nothing(fraction: float, text: str) -> None:
    assert words.percent(fraction) == text


@pytest.mark.parametrize(
    ("per_minute", "text"), [(0, "0"), (0.42, "0.4"), (9.96, "10.0"), (10, "10"), (1204.4, "1,204")]
)
def test_a_rate_has_decimals_only_where_it_is_small(per_minute: float, text: str) -> None:
    assert words.rate(per_minute) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (148_897_792, "142 MiB"), (2**31, "2.0 GiB")]
)
def test_sizes(number: int, text: str) -> None:
    assert words.size(number) == text


def test_the_drawing_stacks_failures_on_what_was_completed_and_shows_the_single_one() -> None:
    hour = Hour(completed=[0, 900, 0], failed=[0, 0, 1])
    assert hour.bars == f"M4.5 {HEIGHT}v-22.5"
    assert hour.failed_bars == f"M7.5 {HEIGHT}v-1.5"
    assert (hour.width, hour.failures) == (9, 1)
    assert hour.words == "Last hour: 900 completed, at most 900 in a minute; 1 failed"


def test_an_hour_in_which_nothing_happened_is_drawn_as_nothing() -> None:
    hour = Hour(completed=[0] * 60, failed=[0] * 60)
    assert (hour.is_empty, hour.bars, hour.failed_bars, hour.rate) == (True, "", "", 0)


def test_an_hour_is_made_of_minutes_in_which_attempts_fail_with_and_without_another() -> None:
    hour = Hour.of([Minute(at=NOW, completed=1, retried=2, discarded=3, cancelled=4), Minute(at=NOW, completed=5)])
    assert (hour.completed, hour.failed, hour.is_empty) == ([1, 5], [5, 0], False)


def test_a_rate_is_of_the_last_five_whole_minutes() -> None:
    assert Hour(completed=[99, 10, 10, 10, 10, 10, 500], failed=[0, 0, 0, 0, 0, 5, 500]).rate == 11


def test_a_version_that_few_have_is_odd() -> None:
    daemons = [daemon("a", 1, hours=1), daemon("b", 2, version="2", hours=1), daemon("c", 3, hours=1)]
    assert versions_of(daemons) == [("0.1.0", 2), ("2", 1)]
    rows = daemon_rows(daemons, here="c:3:d4e5f6")
    assert [(row.is_odd, row.is_here) for row in rows] == [(False, False), (True, False), (False, True)]


def test_a_queues_concurrency_is_that_of_all_daemons() -> None:
    daemons = [daemon("a", 1, hours=1), daemon("b", 2, draining=True, hours=1)]
    assert (concurrency_of("email", daemons), concurrency_of("nowhere", daemons)) == (6, 0)


def test_dead_letters_are_counted_by_reason_kind_and_queue_the_newest_first() -> None:
    def letter(reason: str, minutes: int) -> DeadLetter:
        return DeadLetter(queue="email", kind="send", reason=reason, at=ago(minutes=minutes))

    rows = dead_rows([letter("permanent", 9), letter("poison", 5), letter("permanent", 3)])
    assert [(row.reason, row.count, row.newest) for row in rows] == [
        ("permanent", 2, ago(minutes=3)),
        ("poison", 1, ago(minutes=5)),
    ]
