"""Sentinel: the link follows the master."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from skycap.embedded.waiting import until
from skycap.engine.link import Link
from skycap.errors import Unavailable
from tests.support.redis import redis_at
from tests.support.redis_servers import Guarded, sentinel


async def _port_of(link: Link) -> int:
    info = (await link.command("INFO", "server")).decode()
    return int(next(line for line in info.splitlines() if line.startswith("tcp_port:")).partition(":")[2])


async def _port_of_whoever_takes_writes(link: Link) -> int:
    """Asked again and again, as a worker does."""
    while True:
        try:
            await link.command("SET", "skycap:{tests}:a", "1")
            return await _port_of(link)
        except Unavailable:
            await asyncio.sleep(0.05)


async def test_a_master_that_dies_is_replaced_within_seconds(tmp_path: Path) -> None:
    async with sentinel(tmp_path) as guarded:
        link = Link.to(guarded.url)
        assert await _port_of_whoever_takes_writes(link) == guarded.master.port
        blocked = asyncio.create_task(link.blocking("BLPOP", "x", 60, timeout=timedelta(minutes=1)))
        await link.command("WAIT", 1, 1000)
        await guarded.master.kill()
        with pytest.raises(Unavailable):
            async with asyncio.timeout(1):
                await blocked
        async with asyncio.timeout(5):
            while await _port_of_whoever_takes_writes(link) != guarded.replica.port:
                pass
        assert await link.blocking("BLPOP", "x", 0.01, timeout=timedelta(seconds=0.01)) is None
        await link.close()


async def test_a_master_that_sentinel_replaces_is_left_while_it_still_takes_writes(tmp_path: Path) -> None:
    async with sentinel(tmp_path) as guarded:
        link = Link.to(guarded.url)
        assert await _port_of_whoever_takes_writes(link) == guarded.master.port
        await _switch(guarded)
        async with asyncio.timeout(5):
            while await _port_of_whoever_takes_writes(link) != guarded.replica.port:
                pass
        await link.close()
        link = Link.to(guarded.url.replace(guarded.service, "unknown"))
        with pytest.raises(
            Unavailable, match=r"^redis: no Sentinel that answers knows a master of this name, and not all answer$"
        ):
            await link.command("PING")
        await link.close()


async def _switch(guarded: Guarded) -> None:
    """As an admin does before maintenance."""
    async with redis_at(guarded.sentinel_url) as admin:
        await admin.execute_command("SENTINEL", "FAILOVER", guarded.service)

        async def is_done() -> bool:
            _, port = await admin.sentinel_get_master_addr_by_name(guarded.service)
            return bool(port == guarded.replica.port)

        await until(is_done, limit=timedelta(seconds=8))
