"""A call that is made again: when, how often, and what always passes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, cast

import pytest
import stamina

from skycap import BreakerOpen, Cancel, Unavailable, retrying
from skycap.repetition import Waits


@pytest.fixture(autouse=True)
def without_waiting() -> Iterator[None]:
    with stamina.set_testing(testing=True, attempts=100, cap=True):
        yield


class Down:
    """Raises ``error`` for so many calls."""

    def __init__(self, error: BaseException, *, times: int) -> None:
        self._error = error
        self._times = times
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self._times:
            raise self._error
        return "there"


async def called(down: Down, *exceptions: type[Exception], **options: int) -> str:
    @retrying(*exceptions, **options)
    async def call(greeting: str) -> str:
        return f"{greeting} {await down()}"

    return await call("hello")


async def test_what_may_be_over_in_a_moment_is_called_again() -> None:
    down = Down(Unavailable("partner", "answered 503"), times=3)
    assert await called(down, Unavailable) == "hello there"
    assert down.calls == 4


async def test_after_three_retries_the_last_error_passes() -> None:
    down = Down(Unavailable("partner", "answered 503"), times=10)
    with pytest.raises(Unavailable, match="answered 503"):
        await called(down, Unavailable)
    assert down.calls == 4


async def test_how_often_may_be_said() -> None:
    down = Down(OSError("down"), times=10)
    with pytest.raises(OSError, match="down"):
        await called(down, OSError, retries=1)
    assert down.calls == 2


@pytest.mark.parametrize(
    "error", [ValueError("wrong"), BreakerOpen("partner", timedelta(seconds=30)), Cancel("no purpose")]
)
async def test_other_errors_an_open_breaker_and_signals_pass_at_once(error: BaseException) -> None:
    down = Down(error, times=10)
    with pytest.raises(type(error)):
        await called(down, Unavailable, OSError)
    assert down.calls == 1


def test_the_waits_double_from_a_second_to_thirty_and_are_up_to_a_third_longer() -> None:
    for _ in range(100):
        waits = Waits((OSError,))
        seconds = [timedelta(seconds=each) for each in (1, 2, 4, 8, 16, 30, 30)]
        for least in seconds:
            wait = waits(OSError())
            assert isinstance(wait, timedelta)
            assert least <= wait <= min(1.3 * least, timedelta(seconds=30))


def test_a_retry_that_makes_no_sense_is_refused_where_it_is_written() -> None:
    with pytest.raises(TypeError, match="say which exceptions"):
        retrying()
    with pytest.raises(TypeError, match="is not async"):
        retrying(OSError)(cast("Any", print))
