"""Who shows how things stand waits for nobody who does not answer, not even for them to give up."""

from __future__ import annotations

import asyncio
import time

import pytest

from skycap import patience
from skycap.errors import Unavailable


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "LONGEST", patience.LONGEST / 30)


async def answer() -> str:
    return "here"


async def away() -> str:
    raise Unavailable("redis", "gone")


async def test_an_answer_in_time_is_given() -> None:
    assert await patience.in_time(answer()) == "here"


async def test_what_is_away_is_not_known_and_what_is_wrong_is_told() -> None:
    async def wrong() -> str:
        raise ValueError("no figure")

    assert await patience.in_time(away()) is None
    with pytest.raises(ValueError, match="no figure"):
        await patience.in_time(wrong())


async def test_nobody_waits_for_a_driver_that_is_slow_to_give_up() -> None:
    gave_up = asyncio.Event()

    async def stubborn() -> str:
        try:
            await asyncio.sleep(60)
        finally:
            # As asyncpg does: it first asks the server, which does not answer either.
            await gave_up.wait()
        return "late"

    began = time.monotonic()
    assert await patience.in_time(stubborn()) is None
    assert time.monotonic() - began < 5
    gave_up.set()
