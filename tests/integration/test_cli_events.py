"""What happens to jobs, followed from the command line."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from skycap import AsyncClient, Payload
from tests.support.commands import command
from tests.support.daemons import CLEAN, Site


class Greeting(Payload, kind="say-hello"):
    name: str = "Ada"


class Mail(Payload, kind="send-mail", queue="email"):
    """Goes to another queue."""


@pytest.fixture
def site(redis_url: str, tmp_path: Path) -> Site:
    return Site(folder=tmp_path, redis_url=redis_url)


@pytest.fixture
async def client(redis_url: str) -> AsyncGenerator[AsyncClient]:
    async with AsyncClient(redis_url) as client:
        yield client


@asynccontextmanager
async def followed(site: Site, *arguments: str) -> AsyncGenerator[Process]:
    """``skycap events`` while it runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "skycap", "events", *arguments, "--config", str(site.config)),
        env=CLEAN,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line(process: Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode()


async def test_the_past_comes_first_and_then_what_happens_until_ctrl_c(site: Site, client: AsyncClient) -> None:
    await client.enqueue(Greeting(), job_id="first")
    await client.enqueue(Mail(), job_id="second")
    async with followed(site, "--last", "1") as process:
        assert (await line(process)).split()[1:] == ["email", "second", "available"]
        await client.queue("default").cancel("first")
        at, *rest = (await line(process)).split()
        assert rest == ["default", "first", "cancelled"]
        assert at.count(":") == 2
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert process.returncode == 130
    assert out == b""
    assert err.strip() == b""


async def test_events_of_one_queue_are_lines_of_json(site: Site, client: AsyncClient) -> None:
    await client.enqueue(Mail(), job_id="elsewhere")
    await client.enqueue(Greeting(), job_id="here")
    async with followed(site, "default", "--last", "10", "--json") as process:
        event: dict[str, Any] = json.loads(await line(process))
        assert event.pop("at").endswith("+00:00")
        assert event == {"queue": "default", "jobId": "here", "event": "available"}
        await client.queue("email").cancel("elsewhere")
        await client.queue("default").cancel("here")
        assert json.loads(await line(process))["jobId"] == "here"


async def test_events_of_one_job_leave_out_all_others(site: Site, client: AsyncClient) -> None:
    await client.enqueue(Greeting(), job_id="mine")
    await client.enqueue(Greeting(), job_id="other")
    async with followed(site, "--job", "mine", "--last", "2") as process:
        assert "mine" in await line(process)
        await client.queue("default").cancel("other")
        await client.queue("default").cancel("mine")
        assert (await line(process)).split()[2:] == ["mine", "cancelled"]


async def test_events_of_a_queue_that_there_is_not_is_a_usage_error(site: Site) -> None:
    done = await command("events", "nowhere", "--config", site.config)
    assert (done.code, done.out) == (64, "")
    assert "there is no queue 'nowhere'; configured: default, email" in done.err


async def test_events_without_redis_is_exit_69(tmp_path: Path) -> None:
    site = Site(folder=tmp_path, redis_url=f"unix://{tmp_path}/nowhere.sock")
    done = await command("events", "--config", site.config)
    assert (done.code, done.out) == (69, "")
    assert done.err.startswith("redis: ")
