"""The way to Redis: how calls share a connection, and what becomes of one that is cancelled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from redis.exceptions import ResponseError

from skycap.embedded.waiting import until
from skycap.engine.link import Link
from skycap.engine.script import Script
from skycap.errors import Unavailable
from tests.support.redis import redis_at
from tests.support.redis_servers import proxy, tls_redis
from tests.support.servers import ms

PREFIX = "skycap:{tests}:"


@pytest.fixture
async def link(redis_url: str) -> AsyncGenerator[Link]:
    link = Link.to(redis_url)
    yield link
    await link.close()


async def test_replies_go_to_whoever_asked_and_are_bytes(link: Link) -> None:
    await link.command("SET", "a", "ö")
    assert await asyncio.gather(*(link.command("ECHO", str(number)) for number in range(500))) == [
        str(number).encode() for number in range(500)
    ]
    assert await link.pipeline([("GET", "a"), ("INCRBY", "b", 3), ("HGETALL", "c"), ("ECHO", 1.5)]) == [
        "ö".encode(),
        3,
        {},
        b"1.5",
    ]
    assert await link.call("beat", PREFIX, 1000, "nobody", 1) == [b"lost"]
    assert await link.pipeline([]) == []


async def test_what_is_asked_in_one_turn_of_the_loop_is_one_write_on_one_connection(redis_url: str) -> None:
    async with proxy(redis_url) as between:
        link = Link.to(between.url)
        await link.command("PING")
        before = between.chunks
        await asyncio.gather(*(link.call("beat", PREFIX, 1000, "nobody", number) for number in range(100)))
        await link.close()
    assert between.connections == 1
    # EVALSHA, and EVAL for those that came before the server knew the script.
    assert between.chunks - before <= 3


async def test_a_large_call_and_a_large_reply_pass(link: Link) -> None:
    megabytes = b"x" * 5_000_000
    results = await asyncio.gather(*(link.command("ECHO", megabytes) for _ in range(4)), link.command("PING"))
    assert [len(result) for result in results] == [5_000_000] * 4 + [4]


async def test_a_cancelled_call_is_cancelled_at_whatever_point_it_was(redis_url: str) -> None:
    """Before Python 3.12 asyncio.wait_for, which redis-py sends with, swallows a cancellation that comes late."""
    link = Link.to(redis_url)
    swallowed = 0

    async def call() -> None:
        nonlocal swallowed
        await link.command("PING")
        if task.cancelling():
            swallowed += 1

    for turns in range(30):
        for _ in range(20):
            task = asyncio.create_task(call())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
    await link.close()
    assert swallowed == 0


async def test_callers_that_are_cancelled_do_not_harm_the_others(redis_url: str) -> None:
    async with proxy(redis_url) as between:
        link = Link.to(between.url)
        for turns in range(12):
            doomed = [asyncio.create_task(link.command("ECHO", "doomed")) for _ in range(10)]
            others = [asyncio.create_task(link.command("ECHO", str(number))) for number in range(10)]
            for _ in range(turns):
                await asyncio.sleep(0)
            for task in doomed:
                task.cancel()
            assert await asyncio.gather(*others) == [str(number).encode() for number in range(10)]
            await asyncio.wait(doomed)
        await link.close()
    assert between.connections == 1


async def test_a_command_that_blocks_holds_nobody_else_up(link: Link, redis_url: str) -> None:
    async with redis_at(redis_url) as other:
        waiting = [
            asyncio.create_task(link.blocking("BLPOP", f"list{number}", 5, timeout=timedelta(seconds=5)))
            for number in range(3)
        ]
        async with asyncio.timeout(1):
            for _ in range(3):
                assert await link.command("PING") == b"PONG"
        for number in range(3):
            await other.lpush(f"list{number}", number)
        assert await asyncio.gather(*waiting) == [
            [f"list{number}".encode(), str(number).encode()] for number in range(3)
        ]


async def test_a_blocking_command_may_take_longer_than_any_other(link: Link) -> None:
    assert await link.blocking("BLPOP", "nothing", 3.3, timeout=timedelta(seconds=3.3)) is None


async def test_a_blocking_connection_is_used_again_unless_its_caller_gave_up(link: Link, redis_url: str) -> None:
    async def clients(ended: str) -> set[str]:
        async with redis_at(redis_url) as other:
            return {client["id"] for client in await other.client_list() if client["cmd"] == ended}

    for _ in range(3):
        assert await link.blocking("BLPOP", "nothing", 0.01, timeout=ms(10)) is None
    (first,) = await clients("blpop")
    given_up = asyncio.create_task(link.blocking("BLPOP", "wanted", 5, timeout=timedelta(seconds=5)))
    async with redis_at(redis_url) as other:

        async def blocks() -> bool:
            return bool((await other.info("clients"))["blocked_clients"])

        async def blocks_none() -> bool:
            return not await blocks()

        await until(blocks, limit=timedelta(seconds=5))
        given_up.cancel()
        await asyncio.wait([given_up])
        # The server notices too: what comes now is not popped for nobody.
        await until(blocks_none, limit=timedelta(seconds=5))
        await other.lpush("wanted", 1)
    assert await link.blocking("BLPOP", "wanted", 1, timeout=timedelta(seconds=1)) == [b"wanted", b"1"]
    assert first not in await clients("blpop")


async def test_a_redis_that_lost_its_scripts_is_given_them_again(link: Link) -> None:
    for _ in range(2):
        assert await link.call("beat", PREFIX, 1000, "nobody", 1) == [b"lost"]
        await link.command("SCRIPT", "FLUSH")


async def test_a_redis_that_is_away_is_unavailable_and_its_address_is_not_told(tmp_path: Path) -> None:
    link = Link.to(f"unix://{tmp_path}/nowhere.sock")
    with pytest.raises(Unavailable, match=r"^redis: No such file or directory$"):
        await link.command("PING")
    with pytest.raises(Unavailable, match=r"^redis: No such file or directory$"):
        await link.blocking("BLPOP", "x", 1, timeout=timedelta(seconds=1))
    link = Link.to("redis://127.0.0.1:1")
    with pytest.raises(Unavailable, match=r"^redis: Connection refused$"):
        await link.command("PING")
    link = Link.to("redis://no-such-host.invalid")
    with pytest.raises(Unavailable, match=r"^redis: its host name is not known$"):
        await link.command("PING")


async def test_a_mistake_of_ours_is_no_outage(link: Link) -> None:
    with pytest.raises(ResponseError, match="unknown command"):
        await link.command("NONSENSE")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await link.pipeline([("SET", "a", 1), ("LPOP", "a")])
    with pytest.raises(TypeError):
        await link.pipeline([("ECHO", "1"), ("ECHO", cast("Any", None))])
    assert await link.command("ECHO", "2") == b"2"


async def test_closing_fails_what_is_pending_and_what_comes_later_and_leaves_no_task(
    link: Link, redis_url: str
) -> None:
    before = asyncio.all_tasks()
    pending = [
        asyncio.create_task(link.blocking("BLPOP", "x", 60, timeout=timedelta(minutes=1))),
        asyncio.create_task(link.command("PING")),
    ]
    await asyncio.sleep(0)
    async with asyncio.timeout(1):
        await link.close()
        for result in await asyncio.gather(*pending, return_exceptions=True):
            assert isinstance(result, Unavailable)
    assert asyncio.all_tasks() == before
    with pytest.raises(Unavailable, match="the link is closed"):
        await link.command("PING")


def test_the_end_of_the_loop_waits_for_no_link(redis_url: str) -> None:
    async def left_open() -> tuple[float, object]:
        link = Link.to(redis_url)
        waiting = asyncio.create_task(link.blocking("BLPOP", "x", 60, timeout=timedelta(minutes=1)))
        await link.command("PING")
        return time.monotonic(), waiting

    returned, _ = asyncio.run(left_open())
    assert time.monotonic() - returned < 0.5


async def test_redis_with_tls_and_a_certificate_of_ones_own(redis_url: str, tmp_path: Path) -> None:
    async with tls_redis(redis_url, tmp_path) as encrypted:
        link = Link.to(f"{encrypted.address}?ssl_ca_certs={encrypted.ca_file}")
        assert await asyncio.gather(*(link.command("ECHO", "x" * 100_000) for _ in range(20))) == [b"x" * 100_000] * 20
        assert await link.blocking("BLPOP", "nothing", 0.01, timeout=ms(10)) is None
        await link.close()
        stranger = Link.to(encrypted.address)
        with pytest.raises(Unavailable, match=r"^redis: its certificate is refused: [a-z ]*$"):
            await stranger.command("PING")
        plain = Link.to(encrypted.address.replace("rediss", "redis"))
        with pytest.raises(Unavailable):
            await plain.command("PING")


def test_the_flags_of_a_script_stay_its_first_line() -> None:
    for name in ("add", "add_all", "admin", "beat", "step", "tick", "scheduling"):
        lines = Script(name).text.splitlines()
        assert [number for number, line in enumerate(lines) if line.startswith("#!")] in ([], [0])
        assert any("local P = KEYS[1]" in line for line in lines)
