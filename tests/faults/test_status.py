"""What a daemon says of itself while Redis, PostgreSQL and the mail server are there and answer nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from tests.support.daemons import Site
from tests.support.postgres_servers import postgres_server
from tests.support.redis import redis_at
from tests.support.redis_servers import redis_server
from tests.support.stopping import stopped
from tests.support.workers import eventually

WITHIN = timedelta(seconds=3)
"""Two seconds are promised, one is this machine's."""
CALLS = 20


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A daemon with servers of its own; its mail server has never said anything."""

    http: ClientSession
    redis: int
    database: int

    async def get(self, path: str) -> tuple[int, Any]:
        async with asyncio.timeout(WITHIN.total_seconds()), self.http.get(path) as response:
            return response.status, await response.json()

    async def is_live(self) -> bool:
        """Whether liveness answers at once, also beside requests that have to wait."""
        waiting = [asyncio.create_task(self.get("/api/system/status")) for _ in range(CALLS)]
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        took: list[float] = []
        for _ in range(CALLS):
            began = loop.time()
            assert (await self.get("/api/health"))[0] == 200
            took.append(loop.time() - began)
        answers = await asyncio.gather(*waiting)
        assert [status for status, _ in answers] == CALLS * [200]
        # Of the quickest: whatever else this machine does can only slow a call down.
        return min(took) < 0.05


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncGenerator[Scene]:
    async with AsyncExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        redis = await stack.enter_async_context(redis_server(tmp_path / "redis"))
        postgres = await stack.enter_async_context(postgres_server())
        plain = await stack.enter_async_context(redis_at(redis.url))
        site = Site(folder=tmp_path, redis_url=redis.url, database_url=postgres.url)
        smtp = {"url": f"smtp://127.0.0.1:{silent.getsockname()[1]}", "sender": "Travel <bookings@travel.example.com>"}
        site.extra = {"smtp": smtp}
        daemon = await stack.enter_async_context(site.daemon())
        http = await stack.enter_async_context(ClientSession(daemon.http_url))
        yield Scene(http=http, redis=(await plain.info("server"))["process_id"], database=postgres.pid)


async def test_liveness_and_status_answer_while_servers_are_stopped(scene: Scene) -> None:
    async def is_well() -> bool:
        status, document = await scene.get("/api/system/status")
        return status == 200 and document["status"] == "degraded" and document["dependencies"]["database"]["connected"]

    await eventually(is_well)
    status, ready = await scene.get("/api/health/ready")
    assert (status, ready["checks"]["smtp"]) == (200, "down")
    with stopped(scene.database):
        assert await scene.is_live()
        status, document = await scene.get("/api/system/status")
        assert (status, document["status"]) == (200, "degraded")
        assert not document["dependencies"]["database"]["connected"]
        assert document["queues"]["email"]["waiting"] == 0
        assert (await scene.get("/api/health/ready"))[0] == 200
    with stopped(scene.database, scene.redis):
        assert await scene.is_live()
        status, document = await scene.get("/api/system/status")
        assert (status, document["status"], document["queues"]["email"]["waiting"]) == (200, "down", None)
        assert document["worker"]["queues"]["email"] == {"running": 0, "concurrency": 3}
        assert (await scene.get("/api/health/ready"))[0] == 503
    await eventually(is_well)
