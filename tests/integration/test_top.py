"""``skycap top`` in a real terminal: what it shows, while Redis goes and comes, and how it gives the terminal back."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from skycap import AsyncClient
from skycap.engine.fleet import Fleet
from skycap.engine.link import Link
from skycap.engine.queue import NewJob
from tests.support.commands import command
from tests.support.daemons import Site
from tests.support.redis_servers import proxy
from tests.support.situations import daemon
from tests.support.terminal import ENTERED, LEFT, Terminal, terminal
from tests.support.workers import Note


@pytest.fixture
async def site(redis_url: str, tmp_path: Path) -> Site:
    """A fleet of one daemon, that has said so, and a job that waits."""
    link = Link.to(redis_url)
    await Fleet(link).tell(daemon("jobs-1", 4711, hours=2))
    await link.close()
    async with AsyncClient(redis_url) as client:
        queue = client.queue("email")
        await queue.configure()
        await queue.add([NewJob(envelope=client.envelope(Note(text="waits")))])
    return Site(folder=tmp_path, redis_url=redis_url)


def shows(screen: Terminal, *words: str) -> bool:
    return all(any(word in line for line in screen.frame) for word in words)


async def test_it_follows_the_fleet_and_says_when_redis_is_silent(site: Site) -> None:
    async with proxy(site.redis_url) as way:
        site.redis_url = way.url
        async with terminal("top", "--config", str(site.config), "--interval", "0.2") as screen:
            usual = screen.attributes
            await screen.until(lambda: shows(screen, "All is well", "email", "jobs-1", "q quits"))
            (row,) = [line for line in screen.frame if line.startswith("email")]
            assert row.split()[:2] == ["email", "1"]
            assert (len(screen.frame), max(map(len, screen.frame)) <= 80) == (24, True)
            screen.resize(0, 0)  # as over a serial line
            await screen.until(lambda: len(screen.frame) == 24)
            screen.resize(40, 8)
            await screen.until(lambda: len(screen.frame) == 8 and max(map(len, screen.frame)) <= 40)
            way.go_silent()
            await screen.until(lambda: shows(screen, "Redis has not answered", "email"))
            way.speak()
            await screen.until(lambda: shows(screen, "All is well"))
            screen.type("\x1b[A")  # an arrow is no Escape
            screen.type("q")
            assert await screen.process.wait() == 0
            assert screen.attributes == usual
            assert "\x1b[K" not in screen.output  # it takes the last column of a full line
            assert screen.output.count(ENTERED) == 1
            assert screen.output.rstrip().endswith(LEFT)


async def test_ctrl_z_and_ctrl_c_give_the_terminal_back(site: Site) -> None:
    environ = {"NO_COLOR": "1"}
    async with terminal("top", "--config", str(site.config), "--interval", "0.2", environ=environ) as screen:
        await screen.until(lambda: shows(screen, "email"))
        assert "\x1b[1m" not in screen.output
        screen.type("\x1a")
        await screen.until(lambda: LEFT in screen.output)
        await screen.until_stopped()
        screen.process.send_signal(signal.SIGCONT)
        await screen.until(lambda: screen.output.count(ENTERED) == 2)
        screen.type("\x03")
        assert await screen.process.wait() == 0
        assert screen.output.count(LEFT) == 2


async def test_a_pipe_gets_one_plain_table(site: Site) -> None:
    done = await command("top", "--config", site.config)
    assert done.code == 0
    assert "\x1b" not in done.out
    rows = {line.split()[0]: line.split() for line in done.out.splitlines() if line.strip()}
    assert [rows["email"][place] for place in (1, 3)] == ["1", "0/3"]
    assert rows["jobs-1"][:4] == ["jobs-1", "4711", "0.1.0", "3/15"]


async def test_programs_get_one_document(site: Site) -> None:
    document = (await command("top", "--json", "--config", site.config)).json
    assert document["queues"]["email"]["waiting"] == 1
    assert document["queues"]["email"]["concurrency"] == 3
    assert [each["host"] for each in document["daemons"]] == ["jobs-1"]
    assert document["breakers"]["stripe"]["state"] == "closed"
    assert (document["troubles"], document["alarms"]) == ([], [])


@pytest.mark.parametrize("option", ["--once", "--json"])
async def test_once_without_redis_is_exit_69(tmp_path: Path, option: str) -> None:
    site = Site(folder=tmp_path, redis_url=f"unix://{tmp_path}/nowhere.sock")
    done = await command("top", option, "--config", site.config)
    assert (done.code, done.out) == (69, "")
    assert done.err.startswith("redis: no answer in time")
