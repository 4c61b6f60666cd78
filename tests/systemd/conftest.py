"""One booted machine for all tests of a process: a boot and an installation take seconds."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from skycap import AsyncClient
from skycap.engine.broker import QueueBroker
from tests.support.skips import skip
from tests.systemd.machine import DATABASE_URL, ROOT, Machine, booted, obstacle


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel_of(ROOT, tmp_path_factory.mktemp("wheel"))


def wheel_of(tree: Path, folder: Path) -> Path:
    build = (sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", folder, tree)
    subprocess.run(build, capture_output=True, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def started(wheel: Path) -> Iterator[Machine]:
    why_not = obstacle()
    if why_not:
        skip(why_not)
    with booted(wheel) as machine:
        asyncio.run(machine.install())
        asyncio.run(machine.start_valkey())
        yield machine


@pytest.fixture
async def machine(started: Machine) -> Machine:
    """With no job from before."""
    broker = QueueBroker(started.redis_url)
    await broker.link.command("FLUSHALL")
    await broker.shutdown()
    return started


@pytest.fixture
async def client(machine: Machine) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(machine.redis_url) as client:
        yield client


@pytest.fixture(scope="session")
def database(started: Machine) -> str:
    """Debian's own PostgreSQL, started in the machine; its address."""
    asyncio.run(started.start_postgres())
    return DATABASE_URL
