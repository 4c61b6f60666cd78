"""When schedules tick: summer time, intervals, single moments; held against a plain enumeration of every minute."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skycap import ConfigurationError, Payload, Plugin
from skycap.maintenance.ticks import EPOCH, Ticks, newest, ticks_of
from skycap.schedule import Schedule


class Chore(Payload, kind="do-chore"):
    """What is enqueued does not matter here."""


DAILY = Schedule(name="chore", crontab="30 2 * * *", zone="Europe/Berlin", payload=Chore(), plugin="tests")
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

JUMPS = {
    # Forward and back in both hemispheres, by half an hour, at midnight, without summer time, and a day left out.
    "Europe/Berlin": (date(2026, 3, 29), date(2026, 10, 25)),
    "Europe/Istanbul": (date(2015, 3, 29), date(2015, 11, 8), date(2016, 3, 27), date(2026, 3, 29)),
    "America/New_York": (date(2027, 3, 14), date(2027, 11, 7)),
    "Australia/Lord_Howe": (date(2026, 4, 5), date(2026, 10, 4)),
    "America/Havana": (date(2026, 3, 8), date(2026, 11, 1)),
    "Africa/Casablanca": (date(2025, 2, 23), date(2025, 4, 6)),
    "Pacific/Apia": (date(2011, 12, 30),),
    "UTC": (date(2026, 3, 29),),
}
"""Days of zones whose clocks jump, or would elsewhere."""


def listed(ticks: Ticks, start: datetime, end: datetime) -> list[datetime]:
    found: list[datetime] = []
    tick = ticks.next_after(start - timedelta(milliseconds=1))
    while tick is not None and tick < end:
        found.append(tick)
        tick = ticks.next_after(tick)
    return found


@cache
def minutes_of(zone: str, start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """Every minute that there is, with what a clock on the wall shows then."""
    real = [start + n * MINUTE for n in range(int((end - start) / MINUTE))]
    return [(moment, moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)) for moment in real]


def enumerated(minutes: set[int], hours: set[int] | None, shown: list[tuple[datetime, datetime]]) -> set[datetime]:
    """By looking at every minute, with the rule as a person would say it. ``hours`` None: every one."""
    if hours is None:
        return {moment for moment, wall in shown if wall.minute in minutes}
    first: dict[datetime, datetime] = {}
    for moment, wall in shown:
        first.setdefault(wall, moment)
    ticks: set[datetime] = set()
    named = min(first)
    last = max(first)
    while named <= last:
        if named.hour in hours and named.minute in minutes:
            ticks.add(first.get(named) or next(moment for moment, wall in shown if wall > named))
        named += MINUTE
    return ticks


def days() -> Iterator[tuple[str, date]]:
    yield from ((zone, day) for zone, found in JUMPS.items() for day in found)


@settings(max_examples=40, deadline=None)
@given(
    where=st.sampled_from(list(days())),
    minutes=st.sets(st.integers(0, 59), min_size=1, max_size=6),
    hours=st.none() | st.sets(st.integers(0, 5) | st.integers(0, 23), min_size=1, max_size=5),
)
def test_ticks_are_those_of_a_plain_enumeration_of_minutes(
    where: tuple[str, date], minutes: set[int], hours: set[int] | None
) -> None:
    name, day = where
    zone = ZoneInfo(name)
    start, end = (datetime.combine(day + days * DAY, time(), zone).astimezone(UTC) for days in (-1, 2))
    crontab = f"{_list(minutes)} {'*' if hours is None else _list(hours)} * * *"
    ticks = listed(ticks_of(replace(DAILY, crontab=crontab, zone=name)), start, end)
    assert ticks == sorted(enumerated(minutes, hours, minutes_of(name, start, end)))


def _list(numbers: set[int]) -> str:
    return ",".join(map(str, sorted(numbers)))


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Europe/Istanbul", "Australia/Lord_Howe"])
@pytest.mark.parametrize("year", [2015, 2016, 2026, 2032])
def test_at_half_past_two_there_is_one_tick_each_day_of_a_year(zone: str, year: int) -> None:
    here = ZoneInfo(zone)
    start, end = (datetime(each, 1, 1, tzinfo=here).astimezone(UTC) for each in (year, year + 1))
    ticks = listed(ticks_of(replace(DAILY, zone=zone)), start, end)
    dates = [tick.astimezone(here).date() for tick in ticks]
    assert dates == [date(year, 1, 1) + n * DAY for n in range(366 if year % 4 == 0 else 365)]


def test_a_skipped_time_ticks_at_the_first_moment_after_it_and_a_repeated_one_in_the_first_hour() -> None:
    ticks = ticks_of(DAILY)
    assert ticks.next_after(datetime(2026, 3, 28, 12, tzinfo=UTC)) == datetime(2026, 3, 29, 1, tzinfo=UTC)
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert ticks.next_after(datetime(2026, 10, 24, 12, tzinfo=UTC)) == first
    assert ticks.next_after(first) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize("day", [datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)])
def test_a_crontab_for_every_minute_ticks_every_real_minute(day: datetime) -> None:
    ticks = listed(ticks_of(replace(DAILY, crontab="* * * * *")), day, day + 6 * HOUR)
    assert ticks == [day + n * MINUTE for n in range(360)]


def test_intervals_are_counted_from_the_epoch() -> None:
    ticks = ticks_of(replace(DAILY, crontab=None, every=timedelta(minutes=7)))
    tick = ticks.next_after(datetime(2026, 11, 23, 12, 0, 0, 1, tzinfo=UTC))
    assert tick is not None
    assert (tick - EPOCH) % timedelta(minutes=7) == timedelta(0)
    assert ticks.next_after(tick) == tick + timedelta(minutes=7)


@given(every=st.integers(100, 10_000_000), number=st.integers(10_000, 1_000_000))
@example(every=4_930_805, number=999_989)  # in the year 2126, a float's second has steps of a microsecond
def test_no_tick_of_an_interval_is_lost_or_doubled_by_its_arithmetic(every: int, number: int) -> None:
    length = timedelta(milliseconds=every)
    ticks = ticks_of(replace(DAILY, crontab=None, every=length))
    tick = EPOCH + number * length
    assert ticks.next_after(tick) == tick + length
    assert ticks.next_after(tick - timedelta(milliseconds=1)) == tick


@pytest.mark.parametrize("most", [1, 10, 1000])
def test_the_newest_ticks_are_found_from_the_end(most: int) -> None:
    ticks = ticks_of(DAILY)
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
    assert newest(ticks, after=start, until=end, most=most) == listed(ticks, start, end)[-most:]
    tick = datetime(2026, 6, 1, 0, 30, tzinfo=UTC)
    assert newest(ticks, after=tick - DAY, until=tick, most=most) == [tick]
    assert newest(ticks, after=tick, until=tick + HOUR, most=most) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"every": MINUTE}, "schedule chore of plugin tests: says when by crontab and every; give one of"),
        ({"crontab": None}, "says when by nothing; give one of crontab, every and at"),
        ({"crontab": None, "every": timedelta(0)}, "every 0 s; give whole milliseconds, from 0.1 s to 366 days"),
        ({"crontab": None, "every": timedelta(microseconds=100_500)}, "every 0.1005 s; give whole milliseconds"),
        ({"jitter": -MINUTE}, "a jitter of -60 s; give one from 0 to a day"),
        ({"catch_up": "all"}, 'give overlap = "allow"'),
        ({"catch_up": "some"}, "catch_up = 'some'; give skip, latest or all"),
        ({"overlap": "queue"}, "overlap = 'queue'; give skip or allow"),
        ({"crontab": "@daily"}, "'@daily': has 1 fields"),
    ],
)
def test_a_schedule_that_contradicts_itself_is_refused(changes: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        ticks_of(replace(DAILY, **changes))  # type: ignore[arg-type]  # some of them are wrong


def test_a_plugin_says_when_in_three_ways() -> None:
    plugin = Plugin("chores")
    plugin.schedule("0 */6 * * *", Chore())
    plugin.schedule(payload=Chore(), every=MINUTE, name="often", jitter=MINUTE, catch_up="skip", overlap="allow")
    plugin.schedule(payload=Chore(), at=datetime(2026, 12, 24, 8, tzinfo=UTC), name="once")
    assert [(each.name, each.when) for each in plugin.register_schedules()] == [
        ("do-chore", "0 */6 * * *"),
        ("often", "every 60 s"),
        ("once", "at 2026-12-24 08:00:00+0000"),
    ]
    with pytest.raises(TypeError, match="plugin chores: a schedule without a payload"):
        cast("Any", plugin).schedule("* * * * *")
