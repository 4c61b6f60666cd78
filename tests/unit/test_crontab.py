"""Crontabs mean what they mean everywhere else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from skycap import ConfigurationError, Payload
from skycap.maintenance.ticks import ticks_of
from skycap.schedule import Schedule


class Sweep(Payload, kind="sweep"):
    """What is enqueued does not matter here."""


def schedule(crontab: str, zone: str = "UTC") -> Schedule:
    return Schedule(name="sweep", crontab=crontab, zone=zone, payload=Sweep(), plugin="tests")


MONDAY = datetime(2026, 11, 23, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("crontab", "zone", "expected"),
    [
        ("0 */6 * * *", "UTC", "Mon 00:00"),
        ("0 9 * * 1", "UTC", "Mon 09:00"),
        ("0 9 * * 0", "UTC", "Sun 09:00"),
        ("0 9 * * 7", "UTC", "Sun 09:00"),
        ("0 9 * * 2-4", "UTC", "Tue 09:00"),
        ("0 9 * * 5-7", "UTC", "Fri 09:00"),
        ("0 9 * * 0-2", "UTC", "Mon 09:00"),
        ("0 9 * * 2,4", "UTC", "Tue 09:00"),
        ("0 9 * * 2-6/2", "UTC", "Tue 09:00"),
        ("0 9 * * wed", "UTC", "Wed 09:00"),
        ("0 9 * * */2", "UTC", "Mon 09:00"),
        ("0 9 25 * 5", "UTC", "Wed 09:00"),
        ("0 9 28 * 5", "UTC", "Fri 09:00"),
        ("0 9 */5 * 4", "UTC", "Thu 09:00"),
        ("0 2 * * *", "Europe/Istanbul", "Mon 23:00"),
    ],
)
def test_the_first_tick_of_a_week_that_begins_on_monday(crontab: str, zone: str, expected: str) -> None:
    tick = ticks_of(schedule(crontab, zone)).next_after(MONDAY - timedelta(seconds=1))
    assert tick is not None
    assert f"{tick.astimezone(UTC):%a %H:%M}" == expected


@pytest.mark.parametrize(
    ("crontab", "zone", "problem"),
    [
        ("0 9 * *", "UTC", "schedule sweep of plugin tests: '0 9 \\* \\*': has 4 fields; write five"),
        ("61 9 * * *", "UTC", "schedule sweep of plugin tests: '61 9 \\* \\* \\*': "),
        ("0 9 * * 8", "UTC", "'0 9 \\* \\* 8': "),
        ("0 9 31 2 *", "UTC", "'0 9 31 2 \\*': never comes: no month has such a day"),
        ("0 9 * * *", "Mars/Olympus", "there is no time zone 'Mars/Olympus'; give an IANA name"),
        ("0 9 * * *", "../etc", "there is no time zone"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused_by_name(crontab: str, zone: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        ticks_of(schedule(crontab, zone))
