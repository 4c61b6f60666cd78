"""Breakers of the fleet: when they open, what they let through, and what counts; on a real Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from datetime import timedelta

import pytest

from skycap import BreakerOpen, BreakerSpec, BreakerState, Cancel, ConfigurationError, PartnerRefused, Unavailable
from skycap.breaker import BreakerChange
from skycap.engine import breakers as engine
from skycap.engine.link import Link
from skycap.services.breakers import FleetBreakers
from tests.support.clocked import ClockedLink
from tests.support.redis import redis_at
from tests.support.workers import eventually

SPEC = BreakerSpec(name="partner", opens_after=3, closes_after=2, tries_again_after=timedelta(milliseconds=200))


class Fleet:
    """Two processes' breakers, and the changes that any of them was told of."""

    def __init__(self, url: str) -> None:
        self.links = [Link.to(url), Link.to(url)]
        self.changes: list[str] = []
        self.states = [engine.FleetBreakers(link) for link in self.links]
        self.processes = [FleetBreakers({SPEC.name: SPEC}, state, on_change=self._note) for state in self.states]
        self.breaker = self.processes[0]["partner"]
        self.other = self.processes[1]["partner"]

    async def _note(self, change: BreakerChange) -> None:
        self.changes.append(change.state.value)

    async def status(self) -> engine.BreakerStatus:
        return await self.states[0].status(SPEC)

    async def fail(self, times: int = 1) -> None:
        for number in range(times):
            with pytest.raises(OSError, match="down"):
                async with self.processes[number % 2]["partner"].guard():
                    raise OSError("down")

    async def open(self) -> None:
        await self.fail(SPEC.opens_after)
        assert (await self.status()).state is BreakerState.OPEN

    async def half_open(self) -> None:
        await self.open()

        async def may_be_tried() -> bool:
            return (await self.status()).state is BreakerState.HALF_OPEN

        await eventually(may_be_tried)

    async def close(self) -> None:
        for process in self.processes:
            await process.close()
        for link in self.links:
            await link.close()


@pytest.fixture
async def fleet(redis_url: str) -> AsyncGenerator[Fleet]:
    fleet = Fleet(redis_url)
    yield fleet
    await fleet.close()


async def refused(fleet: Fleet) -> BreakerOpen:
    with pytest.raises(BreakerOpen) as caught:
        async with fleet.breaker.guard():
            pytest.fail("it was let through")
    return caught.value


async def test_failures_in_a_row_open_it_for_the_whole_fleet(fleet: Fleet) -> None:
    await fleet.fail(2)
    assert (await fleet.status()).failures == 2
    await fleet.fail()
    error = await refused(fleet)
    assert timedelta(0) < error.retry_after <= SPEC.tries_again_after
    assert (error.breaker, error.dependency) == ("partner", "partner")
    assert fleet.changes == ["open"]


async def test_a_success_between_them_starts_the_count_anew(fleet: Fleet) -> None:
    await fleet.fail(2)
    async with fleet.other.guard():
        pass
    await fleet.fail(2)
    assert (await fleet.status()).state is BreakerState.CLOSED


async def test_what_the_partner_answered_is_no_failure_and_a_signal_says_nothing(fleet: Fleet) -> None:
    await fleet.fail(2)
    with pytest.raises(Cancel):
        async with fleet.breaker.guard():
            raise Cancel("no purpose")
    await fleet.processes[0].close()
    assert (await fleet.status()).failures == 2
    with pytest.raises(PartnerRefused):
        async with fleet.breaker.guard():
            raise PartnerRefused("partner", 404)
    assert (await fleet.status()).failures == 0


async def test_a_call_that_takes_too_long_is_ended_and_has_failed(fleet: Fleet) -> None:
    with pytest.raises(Unavailable, match=r"partner: no answer within 0\.01 s"):
        async with fleet.breaker.guard(timeout=timedelta(milliseconds=10)):
            await asyncio.Event().wait()
    assert (await fleet.status()).failures == 1


async def test_results_of_calls_that_began_before_it_opened_do_not_count(fleet: Fleet) -> None:
    early = [await fleet.breaker.admit() for _ in range(4)]
    await fleet.open()
    for call in early:
        await call.end("ok")
    status = await fleet.status()
    assert (status.state, status.calls) == (BreakerState.OPEN, 3)


async def test_a_result_that_is_told_twice_counts_once(fleet: Fleet) -> None:
    await fleet.states[0].begin(SPEC, "call", lease=timedelta(seconds=1))
    for state in fleet.states:
        await state.finish(SPEC, "call", "failed")
    assert (await fleet.status()).failures == 1


async def test_half_open_it_admits_as_many_probes_as_must_succeed_and_then_closes(fleet: Fleet) -> None:
    await fleet.half_open()
    probes = [await fleet.breaker.admit(), await fleet.other.admit()]
    assert (await refused(fleet)).retry_after == SPEC.tries_again_after
    await probes[0].end("ok")
    assert (await fleet.status()).state is BreakerState.HALF_OPEN
    await probes[1].end("ok")
    assert (await fleet.status()).state is BreakerState.CLOSED
    await fleet.processes[0].close()
    await fleet.processes[1].close()
    assert fleet.changes == ["open", "half open", "closed"]


async def test_one_failed_probe_opens_it_again(fleet: Fleet) -> None:
    await fleet.half_open()
    probe = await fleet.breaker.admit()
    await fleet.fail()
    await probe.end("ok")  # which began before it opened
    assert (await fleet.status()).state is BreakerState.OPEN


async def test_a_probe_of_which_nothing_is_heard_gives_its_place_up(fleet: Fleet) -> None:
    await fleet.half_open()
    for _ in range(SPEC.closes_after):
        await fleet.breaker.admit(lease=timedelta(milliseconds=50))
    await refused(fleet)

    async def there_is_a_place() -> bool:
        return (await fleet.status()).probes == 0

    await eventually(there_is_a_place)
    for _ in range(SPEC.closes_after):
        async with fleet.breaker.guard():
            pass
    assert (await fleet.status()).state is BreakerState.CLOSED


async def test_a_cancelled_probe_gives_its_place_up_at_once(fleet: Fleet) -> None:
    await fleet.half_open()
    began = asyncio.Event()

    async def hang() -> None:
        async with fleet.breaker.guard():
            began.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hang())
    await began.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await fleet.processes[0].close()
    assert (await fleet.status()).probes == 0


async def test_opened_by_hand_it_stays_open_until_it_is_reset(fleet: Fleet) -> None:
    await fleet.states[0].open(SPEC)
    assert (await refused(fleet)).retry_after == SPEC.tries_again_after
    status = await fleet.status()
    assert (status.state, status.forced, status.tries_again_in) == (BreakerState.OPEN, True, None)
    await fleet.states[1].reset(SPEC)
    async with fleet.breaker.guard():
        pass
    await fleet.processes[0].close()
    assert fleet.changes == ["open", "closed"]


async def test_opened_by_hand_for_a_time_it_is_half_open_afterwards(fleet: Fleet) -> None:
    await fleet.states[0].open(SPEC, timedelta(milliseconds=1))

    async def may_be_tried() -> bool:
        return (await fleet.status()).state is BreakerState.HALF_OPEN

    await eventually(may_be_tried)
    await fleet.fail()
    status = await fleet.status()
    assert (status.state, status.forced) == (BreakerState.OPEN, False)


async def test_closed_by_hand_it_lets_pass_whatever_happens_until_it_is_reset(fleet: Fleet) -> None:
    await fleet.states[0].close(SPEC)
    await fleet.fail(10)
    status = await fleet.status()
    assert (status.state, status.forced, status.failure_rate) == (BreakerState.CLOSED, True, 1.0)
    await fleet.states[0].reset(SPEC)
    await fleet.open()


async def test_the_failure_rate_is_of_the_calls_that_ended_of_late(fleet: Fleet) -> None:
    await fleet.fail()
    for _ in range(3):
        async with fleet.breaker.guard():
            pass
    status = await fleet.status()
    assert (status.calls, status.failed_calls, status.failure_rate) == (4, 1, 0.25)
    assert fleet.processes[0].calls == {("partner", "failed"): 1, ("partner", "ok"): 3}


async def test_a_fallback_answers_while_it_is_open_and_when_the_call_fails(fleet: Fleet) -> None:
    async def price() -> str:
        raise OSError("down")

    async def kept() -> str:
        return "yesterday's"

    for _ in range(SPEC.opens_after + 1):
        assert await fleet.breaker.call(price, fallback=kept) == "yesterday's"
    with pytest.raises(BreakerOpen):
        await fleet.breaker.call(price)


async def test_without_redis_calls_go_through() -> None:
    link = Link.to("redis://127.0.0.1:1")
    breakers = FleetBreakers({SPEC.name: SPEC}, engine.FleetBreakers(link))
    for _ in range(SPEC.opens_after + 1):
        with pytest.raises(OSError, match="down"):
            async with breakers["partner"].guard():
                raise OSError("down")
    await breakers.close()
    await link.close()


async def test_an_unknown_name_is_a_mistake_that_names_the_fix(fleet: Fleet) -> None:
    with pytest.raises(ConfigurationError, match=r"add a \[breakers.nobody\] table"):
        _ = fleet.processes[0]["nobody"]


async def test_what_it_keeps_of_calls_goes_by_itself(fleet: Fleet, redis_url: str) -> None:
    await fleet.breaker.admit()
    await fleet.fail()
    async with redis_at(redis_url) as redis:
        keys = {key async for key in redis.scan_iter("skycap:{breaker:partner}:*")}
        lasting = {key for key in keys if await redis.ttl(key) == -1}
    assert len(keys) == 3
    assert lasting == {b"skycap:{breaker:partner}:state"}


async def test_the_failure_rate_forgets_what_is_older_than_five_minutes(redis_url: str) -> None:
    link = ClockedLink.to(redis_url)
    await link.start(1_800_000_000_000)
    state = engine.FleetBreakers(link)

    async def call(name: str, result: engine.Result) -> None:
        await state.begin(SPEC, name, lease=timedelta(seconds=1))
        await state.finish(SPEC, name, result)

    await call("first", "failed")
    await link.pass_time(timedelta(minutes=4))
    await call("second", "ok")
    assert (await state.status(SPEC)).failure_rate == 0.5
    await link.pass_time(timedelta(minutes=1, milliseconds=1))
    status = await state.status(SPEC)
    assert (status.calls, status.failure_rate) == (1, 0.0)
    await link.close()
