"""A network that breaks, a server that hangs, a server that comes back empty: calls fail soon, and work again soon."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from skycap.embedded.waiting import until
from skycap.engine.link import Link
from skycap.errors import Unavailable
from tests.support.redis import redis_at
from tests.support.redis_servers import RedisServer, proxy, redis_server

PREFIX = "skycap:{tests}:"


async def test_a_connection_that_breaks_under_load_loses_no_answer_and_sends_nothing_twice(redis_url: str) -> None:
    outcomes: Counter[str] = Counter()

    async with proxy(redis_url) as between, redis_at(redis_url) as direct:
        link = Link.to(between.url)

        async def work(name: str) -> None:
            for number in range(100):
                try:
                    assert await link.command("INCR", f"{name}:{number}") == 1
                    outcomes["answered"] += 1
                except Unavailable as error:
                    outcomes[str(error)] += 1

        async def cut() -> None:
            for _ in range(10):
                for _ in range(20):
                    await asyncio.sleep(0)
                between.cut()

        await asyncio.gather(cut(), *(work(f"worker{number}") for number in range(20)))
        await link.close()
        sums = [int(value) for value in await direct.mget(await direct.keys("worker*"))]
    answered = outcomes.pop("answered")
    assert set(sums) == {1}
    assert answered <= len(sums) <= 2000
    assert answered + outcomes.total() == 2000
    assert between.connections > 3, "the cuts came before the load"
    assert all("127.0.0.1" not in problem for problem in outcomes)


async def test_a_connection_that_broke_while_idle_costs_no_call(redis_url: str) -> None:
    async with proxy(redis_url) as between:
        link = Link.to(between.url)
        await link.command("PING")
        async with redis_at(redis_url) as direct:
            await direct.client_kill_filter(_type="normal", skipme=True)
        while not await _is_answered_anew(link):
            pass
        await link.close()
    assert between.connections == 2


async def _is_answered_anew(link: Link) -> bool:
    """A call may be on its way at the very moment at which the connection breaks."""
    try:
        return bool(await link.command("PING") == b"PONG")
    except Unavailable:
        return False


async def test_a_network_that_goes_silent_is_noticed_and_used_again_when_it_speaks(redis_url: str) -> None:
    async with proxy(redis_url) as between:
        link, newcomer = Link.to(between.url), Link.to(between.url)
        await link.call("beat", PREFIX, 1000, "nobody", 1)
        between.go_silent()
        began = time.monotonic()
        async with asyncio.timeout(5):
            *calls, block, first = await asyncio.gather(
                *(link.call("beat", PREFIX, 1000, "nobody", 1) for _ in range(10)),
                link.blocking("BLPOP", "x", 0.1, timeout=timedelta(seconds=0.1)),
                newcomer.command("PING"),
                return_exceptions=True,
            )
        assert time.monotonic() - began >= 2.9
        assert [str(call) for call in calls] == ["redis: no answer within 3 s"] * 10
        assert [str(block), str(first)] == ["redis: no connection within the time limit"] * 2
        between.speak()
        assert await link.call("beat", PREFIX, 1000, "nobody", 1) == [b"lost"]
        assert await newcomer.command("PING") == b"PONG"
        await link.close()
        await newcomer.close()


@pytest.mark.slow
async def test_a_server_that_falls_silent_while_a_command_blocks_is_noticed(redis_url: str) -> None:
    async with proxy(redis_url) as between, redis_at(redis_url) as direct:
        link = Link.to(between.url)
        block = asyncio.create_task(link.blocking("BLPOP", "x", 0.2, timeout=timedelta(seconds=0.2)))

        async def blocks() -> bool:
            return bool((await direct.info("clients"))["blocked_clients"])

        await until(blocks, limit=timedelta(seconds=5))
        between.go_silent()
        with pytest.raises(Unavailable, match=r"no answer within 3.2 s"):
            await block
        await link.close()


@pytest.mark.slow
async def test_a_process_that_was_held_up_itself_does_not_blame_redis(redis_url: str) -> None:
    link = Link.to(redis_url)
    await link.command("PING")
    asked = asyncio.create_task(link.command("PING"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    time.sleep(3.1)  # noqa: ASYNC251 - this is the fault: a handler that blocks the loop
    assert await asked == b"PONG"
    await link.close()


async def test_a_server_that_is_killed_and_comes_back_empty_is_used_again(tmp_path: Path) -> None:
    async with redis_server(tmp_path / "redis") as server:
        link = Link.to(server.url)
        assert await link.call("beat", PREFIX, 1000, "nobody", 1) == [b"lost"]
        await link.command("SET", "kept", "no")
        pending = asyncio.create_task(link.blocking("BLPOP", "x", 60, timeout=timedelta(minutes=1)))
        await link.command("PING")
        await server.kill()
        with pytest.raises(Unavailable):
            async with asyncio.timeout(1):
                await pending
        with pytest.raises(Unavailable, match=r"Connection refused|ConnectionResetError"):
            await link.command("PING")
        again = RedisServer(server.folder, port=server.port)
        await again.start("--save", "")
        assert await link.command("GET", "kept") is None
        assert await link.call("beat", PREFIX, 1000, "nobody", 1) == [b"lost"]
        await link.close()
        await again.kill()
