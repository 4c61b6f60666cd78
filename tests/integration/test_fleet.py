"""Who serves the queues: daemons that say so, leave, fall silent, or say what nobody understands; on a real Valkey."""

from __future__ import annotations

import asyncio
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from skycap.engine.fleet import COUNTS_FOR, Fleet, Presence, Slots
from skycap.engine.link import Link
from skycap.engine.queue import Queue
from skycap.maintenance.presence import PresenceTeller
from skycap.overview import overview_of
from tests.support.daemons import Site
from tests.support.workers import eventually

STARTED_AT = datetime(2026, 11, 28, 6, tzinfo=UTC)


@pytest.fixture
async def link(redis_url: str) -> Link:
    return Link.to(redis_url)


@pytest.fixture
def site(redis_url: str, tmp_path: Path) -> Site:
    return Site(folder=tmp_path, redis_url=redis_url)


def presence(name: str) -> Presence:
    return Presence(
        id=name,
        host="host",
        process=7,
        version="1.2.3",
        python="3.11.2",
        started_at=STARTED_AT,
        queues={"email": Slots(running=2, concurrency=3)},
        memory_bytes=1024,
        is_draining=True,
    )


async def silence(link: Link, name: str, duration: timedelta) -> None:
    key = "skycap:{fleet}:seen"
    await link.command(
        "ZADD", key, "XX", await link.command("ZSCORE", key, name) - duration.total_seconds() * 1000, name
    )


async def test_a_daemon_is_there_as_it_said_until_it_leaves(link: Link) -> None:
    fleet = Fleet(link)
    await fleet.tell(presence("b"))
    await fleet.tell(presence("a"))
    now = await fleet.now()
    assert list(now.daemons.values()) == [presence("a"), presence("b")]
    assert max(now.silent_for.values()) < timedelta(seconds=2)
    await fleet.leave("a")
    assert list((await fleet.now()).daemons) == ["b"]


async def test_one_that_has_been_silent_is_gone_and_forgotten_when_another_one_tells(link: Link) -> None:
    fleet = Fleet(link)
    await fleet.tell(presence("lost"))
    await silence(link, "lost", COUNTS_FOR)
    assert (await fleet.now()).daemons == {}
    await fleet.tell(presence("new"))
    assert await link.command("HKEYS", "skycap:{fleet}:daemons") == [b"new"]


async def test_what_cannot_be_read_is_left_out(link: Link) -> None:
    fleet = Fleet(link)
    await fleet.tell(presence("ours"))
    await fleet.tell(presence("foreign"))
    for said in ("no JSON", "{}", "[]", '{"host": 1}'):
        await link.command("HSET", "skycap:{fleet}:daemons", "foreign", said)
        assert list((await fleet.now()).daemons) == ["ours"]


async def test_who_stops_telling_leaves(link: Link) -> None:
    fleet = Fleet(link)
    teller = PresenceTeller(
        fleet, daemon_id="me", slots=dict, is_draining=lambda: False, interval=timedelta(seconds=60)
    )
    telling = asyncio.create_task(teller.run())

    async def is_there() -> bool:
        return list((await fleet.now()).daemons) == ["me"]

    await eventually(is_there)
    telling.cancel()
    await asyncio.wait([telling])
    assert (await fleet.now()).daemons == {}


async def _is_known(link: Link) -> bool:
    return bool((await Fleet(link).now()).daemons)


async def test_a_real_daemon_says_what_it_is(site: Site, link: Link) -> None:
    async with site.daemon():
        await eventually(lambda: _is_known(link))
        overview = await overview_of(link, [Queue("email", link)], {})
        email = overview.queues["email"]
        assert email is not None
        assert len(email.minutes) == 60
        assert overview.daemons is not None
        (found,) = overview.daemons
        assert found.host == socket.gethostname()
        assert f":{found.process}:" in found.id
        assert found.queues["email"] == Slots(running=0, concurrency=3)
        assert found.memory_bytes > 10_000_000
    assert (await Fleet(link).now()).daemons == {}


async def test_without_redis_nothing_is_known_and_nothing_raised() -> None:
    link = Link.to("redis://127.0.0.1:1")
    overview = await overview_of(link, [Queue("email", link)], {})
    assert (overview.at, overview.daemons, overview.alarms) == (None, None, None)
    assert overview.queues == {"email": None}
