"""That turns are evenly spread, kept for who comes back, and given anew to who comes too late; on a real Valkey."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from skycap.engine.link import Link
from skycap.engine.timetable import Timetable
from tests.support.workers import eventually

EVERY = timedelta(milliseconds=400)


@pytest.fixture
async def link(redis_url: str) -> Link:
    return Link.to(redis_url)


def whole(waits: list[timedelta]) -> list[int]:
    return [round(wait / EVERY) for wait in waits]


async def test_turns_are_evenly_spread_over_the_whole_fleet(link: Link, redis_url: str) -> None:
    fleet = [Timetable(link, every=EVERY), Timetable(Link.to(redis_url), every=EVERY)]
    waits = [await fleet[number % 2].wait("example.com", f"mail {number}") for number in range(4)]
    assert whole(waits) == [0, 1, 2, 3]
    assert await fleet[0].wait("example.org", "mail 5") == timedelta(0)


async def test_who_comes_back_in_time_finds_the_turn_kept_and_uses_it_up(link: Link) -> None:
    timetable = Timetable(link, every=EVERY)
    await timetable.wait("example.com", "first")
    given = await timetable.wait("example.com", "second")
    assert timedelta(0) < await timetable.wait("example.com", "second") <= given
    await asyncio.sleep(given.total_seconds())
    assert await timetable.wait("example.com", "second") == timedelta(0)
    assert await timetable.wait("example.com", "second") > timedelta(0)


async def test_who_comes_too_late_gets_a_new_turn(link: Link) -> None:
    timetable = Timetable(link, every=timedelta(milliseconds=20))
    for number in range(20):
        await timetable.wait("example.com", f"mail {number}")
    late: list[timedelta] = []

    async def turn_is_long_gone() -> bool:
        return await timetable.wait("example.com", "mail 19") == timedelta(0)

    await eventually(turn_is_long_gone)  # when the last turn is there, those before it have passed
    late = [await timetable.wait("example.com", f"mail {number}") for number in (2, 3, 4)]
    assert [wait > timedelta(0) for wait in late[1:]] == [True, True]
