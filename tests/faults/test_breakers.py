"""Breakers under three real processes: exact thresholds, exact probes, a prober killed with -9, and clocks that lie."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from skycap import BreakerState
from skycap.engine.breakers import BreakerStatus, FleetBreakers
from skycap.engine.link import Link
from tests.support.breaker_caller import SPEC, Caller
from tests.support.faketime import clock_off_by
from tests.support.workers import eventually

PROCESSES = 3
CALLS = (67, 67, 66)
"""Of each process; 200 in all."""


class Fleet:
    """The processes, and the state that they share."""

    def __init__(self, callers: list[Caller], link: Link) -> None:
        self.callers = callers
        self._state = FleetBreakers(link)

    async def all(self, *lines: str) -> list[list[str]]:
        """What the processes answer to these lines, which they get at once; one for all, or one for each."""
        each = lines * PROCESSES if len(lines) == 1 else lines
        return list(await asyncio.gather(*(caller.ask(line) for caller, line in zip(self.callers, each, strict=True))))

    async def admitted(self, *counts: int) -> int:
        return sum(int(answer[0]) for answer in await self.all(*(f"admit {count}" for count in counts)))

    async def ended(self, result: str) -> list[str]:
        """The changes that any of the processes was told of."""
        return [change for answer in await self.all(f"end {result}") for change in answer[1:]]

    async def status(self) -> BreakerStatus:
        return await self._state.status(SPEC)

    async def until_it_may_be_tried(self) -> None:
        await self._state.open(SPEC, timedelta(milliseconds=1))  # instead of the hours that it stays open by itself
        await eventually(self._may_be_tried)

    async def _may_be_tried(self) -> bool:
        return (await self.status()).state is BreakerState.HALF_OPEN


@asynccontextmanager
async def started(url: str, *environs: Mapping[str, str]) -> AsyncGenerator[Fleet]:
    link = Link.to(url)
    callers = list(await asyncio.gather(*(Caller.start(url, environ) for environ in environs)))
    try:
        yield Fleet(callers, link)
    finally:
        await asyncio.gather(*(caller.stop() for caller in callers))
        await link.close()


@pytest.fixture
async def fleet(redis_url: str) -> AsyncGenerator[Fleet]:
    as_they_are: dict[str, str] = {}
    async with started(redis_url, *[as_they_are] * PROCESSES) as fleet:
        yield fleet


async def test_it_opens_at_exactly_the_threshold_and_one_process_is_told(fleet: Fleet) -> None:
    assert await fleet.admitted(2, 2, 2) == SPEC.opens_after - 1
    assert await fleet.ended("failed") == []
    assert (await fleet.status()).state is BreakerState.CLOSED
    assert await fleet.admitted(1, 0, 0) == 1
    assert await fleet.ended("failed") == ["OPEN"]
    assert (await fleet.status()).state is BreakerState.OPEN


async def test_two_hundred_failures_at_once_open_it_once_and_two_hundred_probes_get_the_places_there_are(
    fleet: Fleet,
) -> None:
    assert await fleet.admitted(*CALLS) == sum(CALLS)
    assert await fleet.ended("failed") == ["OPEN"]
    status = await fleet.status()
    assert (status.state, status.failed_calls) == (BreakerState.OPEN, SPEC.opens_after)

    await fleet.until_it_may_be_tried()
    assert await fleet.admitted(*CALLS) == SPEC.closes_after
    assert sorted(await fleet.ended("ok")) == ["CLOSED", "HALF_OPEN"]
    assert (await fleet.status()).state is BreakerState.CLOSED


async def test_a_prober_that_is_killed_hinders_nobody(fleet: Fleet) -> None:
    await fleet.admitted(SPEC.opens_after, 0, 0)
    await fleet.ended("failed")
    await fleet.until_it_may_be_tried()
    first, second, third = fleet.callers
    assert await first.ask(f"brief {SPEC.closes_after}") == [str(SPEC.closes_after)]
    await first.kill()
    admitted = 0

    async def all_places_are_free() -> bool:
        nonlocal admitted
        admitted += int((await second.ask("admit 1"))[0])
        return admitted == SPEC.closes_after

    await eventually(all_places_are_free)
    assert await third.ask("admit 1") == ["0"]
    await second.ask("end ok")
    assert (await fleet.status()).state is BreakerState.CLOSED
    assert await third.ask("admit 1") == ["1"]


async def test_the_clocks_of_the_hosts_play_no_part(redis_url: str) -> None:
    clocks = (timedelta(), timedelta(hours=-1), timedelta(days=1))
    async with started(redis_url, *map(clock_off_by, clocks)) as fleet:
        assert await fleet.admitted(0, 0, SPEC.opens_after) == SPEC.opens_after
        assert await fleet.ended("failed") == ["OPEN"]
        assert await fleet.admitted(0, 0, 1) == 0  # a day later by its own clock
        remaining = (await fleet.status()).tries_again_in
        assert remaining is not None
        assert timedelta(0) < SPEC.tries_again_after - remaining < timedelta(minutes=1)
        await fleet.until_it_may_be_tried()
        assert await fleet.admitted(0, 1, 0) == 1  # long before it opened by its own clock
        assert await fleet.admitted(*CALLS) == SPEC.closes_after - 1
        await fleet.ended("ok")
        assert (await fleet.status()).state is BreakerState.CLOSED
