"""Schedules of three daemons that are killed, stopped, told wrong times and cut off: each tick is exactly one job."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from skycap.engine.queue import Queue
from skycap.job import JobState
from skycap.maintenance.clock import Clock
from skycap.maintenance.ticks import ticks_of
from skycap.schedule import Schedule
from tests.support.clocked import ClockedLink
from tests.support.ticking import HOUR, Fleet, Verdict, ticking_fleet
from tests.support.workers import Note, eventually

MINUTES_LATE = timedelta(minutes=1)
"""More than a busy machine takes, and far less than a clock is stepped by."""


async def test_each_tick_is_one_job_whatever_happens_to_the_daemons_and_to_redis(tmp_path: Path) -> None:
    async with ticking_fleet(tmp_path, chance=random.Random(1)) as fleet:  # noqa: S311 - the same each time
        fleet.hosts[0].step_clock(HOUR)
        fleet.hosts[1].step_clock(-HOUR)
        await fleet.stop_one_for_a_while()
        await fleet.kill_one()
        await fleet.restart_redis()
        await fleet.be_away()
        _check(await fleet.verdicts())


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_hundred_disturbances_lose_and_double_no_tick(tmp_path: Path) -> None:
    seed = random.randrange(2**32)  # noqa: S311 - another course each time
    print(f"seed {seed}")  # noqa: T201 - with it, the run can be repeated
    async with ticking_fleet(tmp_path, chance=random.Random(seed)) as fleet:  # noqa: S311 - no secret
        disturbances = (
            Fleet.kill_one,
            Fleet.stop_one_for_a_while,
            Fleet.step_a_clock,
            Fleet.restart_redis,
            Fleet.be_away,
        )
        for _ in range(100):
            disturb = fleet.chance.choice(disturbances)
            await disturb(fleet)
            fleet.done[disturb.__name__] += 1
        verdicts = await fleet.verdicts()
    print(dict(fleet.done), *verdicts, sep="\n")  # noqa: T201 - with -s it says how it went
    _check(verdicts)


def _check(verdicts: list[Verdict]) -> None:
    for verdict in verdicts:
        assert (verdict.doubled, verdict.off_the_grid, verdict.early) == ([], [], []), verdict
    each, latest = verdicts
    assert each.missing == [], each
    assert 0 < latest.ticks <= each.ticks + 1, latest


@pytest.mark.parametrize("offset", [HOUR, -HOUR])
async def test_a_daemon_whose_clock_is_stepped_ticks_on_time(tmp_path: Path, offset: timedelta) -> None:
    async with ticking_fleet(tmp_path, chance=random.Random(1), hosts=1) as fleet:  # noqa: S311 - not used
        (host,) = fleet.hosts
        await fleet.until_ticked(5)
        host.step_clock(offset)
        stepped = (datetime.now(UTC) + offset).strftime('"timestamp": "%Y-%m-%dT%H:')

        async def its_log_says_so() -> bool:
            return stepped in host.site.log.read_text()

        await eventually(its_log_says_so)
        await fleet.until_ticked(10)
        verdicts = await fleet.verdicts()
    _check(verdicts)
    for verdict in verdicts:
        assert verdict.latest < MINUTES_LATE, verdict


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("Europe/Berlin", date(2026, 3, 29)),
        ("Europe/Berlin", date(2026, 10, 25)),
        ("Europe/Istanbul", date(2016, 3, 27)),
        ("Europe/Istanbul", date(2015, 11, 8)),
        ("Europe/Istanbul", date(2026, 10, 25)),
    ],
)
async def test_three_clocks_tick_once_a_day_where_summer_time_begins_or_ends(
    redis_url: str, zone: str, day: date
) -> None:
    nightly = Schedule(
        name="nightly",
        crontab="30 2,3 * * *",
        zone=zone,
        payload=Note(),
        plugin="tests",
        catch_up="all",
        overlap="allow",
    )
    quarterly = replace(nightly, name="quarterly", crontab="*/15 * * * *")
    here = ZoneInfo(zone)
    start, end = (datetime.combine(day + n * timedelta(days=1), time(12), here).astimezone(UTC) for n in (-1, 1))
    link = ClockedLink.to(redis_url)
    await link.start(round(start.timestamp() * 1000))
    queue = Queue("tests", link)
    clocks = [Clock([nightly, quarterly], {"tests": queue}) for _ in range(3)]
    for _ in range(int((end - start) / HOUR) + 1):
        await asyncio.gather(*(clock.turn("tests") for clock in clocks))
        await link.pass_time(HOUR)
    ids = [job.id for job in await queue.jobs(JobState.AVAILABLE, limit=1000)]
    await link.close()
    nights = [job_id for job_id in ids if job_id.startswith("nightly-")]
    first = ticks_of(nightly).next_after(start)
    assert first is not None
    assert len(nights) == len(set(nights)) <= 4
    assert nights[0] == f"nightly-{round(first.timestamp() * 1000)}"
    quarters = sorted(int(job_id.removeprefix("quarterly-")) for job_id in ids if job_id.startswith("quarterly-"))
    assert {after - before for before, after in pairwise(quarters)} == {15 * 60 * 1000}
