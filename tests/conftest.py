"""Real servers for all tests: one private Valkey and one PostgreSQL for each test process, emptied for each test."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from skycap.embedded import EmbeddedServers
from tests.support.redis import redis_at

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # As a shell starts what runs in the background: then every process that a test starts would ignore it, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServers]:
    # Not an async fixture: each test has an event loop of its own, and these outlive them all.
    started = EmbeddedServers(tmp_path_factory.mktemp("servers"))
    asyncio.run(started.start())
    yield started
    asyncio.run(started.stop())


@pytest.fixture
async def redis_url(servers: EmbeddedServers) -> str:
    async with redis_at(servers.redis_url) as redis:
        await redis.flushall()
    return servers.redis_url


@pytest.fixture
async def database_url(servers: EmbeddedServers) -> str:
    """A database in which skycap has no tables yet, and the backend none."""
    connection = await asyncpg.connect(servers.database_url)
    try:
        await connection.execute("DROP SCHEMA IF EXISTS skycap CASCADE")
        await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    finally:
        await connection.close()
    return servers.database_url


@pytest.fixture
def plugins_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "plugins"
    folder.mkdir()
    return folder
