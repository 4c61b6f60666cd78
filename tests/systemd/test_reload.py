"""SIGHUP to a real daemon: what changes, what is refused, and what becomes of the jobs that run meanwhile."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import signal
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from skycap import AsyncClient, Payload
from skycap.job import JobState
from tests.support.daemons import Finished, Site, skycap
from tests.support.redis import redis_at
from tests.support.workers import PATIENCE, eventually
from tests.systemd.notified import NotifiedDaemon, notified

PLUGIN = """
import asyncio
from datetime import timedelta
from pathlib import Path
from skycap import Context, Payload, Plugin

plugin = Plugin("work")


class Work(Payload, kind="do-work"):
    until: str = ""


@plugin.job()
async def do_work(ctx: Context, payload: Work) -> str:
    while payload.until and not Path(payload.until).exists():
        await asyncio.sleep(0.02)
    return "CODE"
"""
MORE = """

class More(Payload, kind="do-more", queue="extra"):
    pass


@plugin.job()
async def do_more(ctx: Context, payload: More) -> str:
    return "more"


plugin.schedule(every=timedelta(seconds=0.2), payload=More(), name="more")
"""


OF_THE_TEST = 3
"""Connections to Redis: a plain one, and two of the client, which also waits for events."""


class Work(Payload, kind="do-work"):
    """Handled by PLUGIN."""

    until: str = ""
    """The file with whose creation it ends."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """A daemon that may be reloaded, and what it is made from."""

    site: Site
    daemon: NotifiedDaemon
    client: AsyncClient
    url: str

    def write_plugin(self, code: str, more: str = "") -> None:
        write_plugin(self.site, code, more)

    async def reload(self) -> str:
        """The status at its end."""
        _ = self.site.config  # written anew
        self.daemon.process.send_signal(signal.SIGHUP)
        began = await self.daemon.hears("RELOADING")
        ended = await self.daemon.hears("READY")
        assert 0 < int(began["MONOTONIC_USEC"]) <= int(ended["MONOTONIC_USEC"])
        return ended["STATUS"]

    async def reload_by_command(self) -> Finished:
        """As the unit's ExecReload= does."""
        _ = self.site.config
        environ = {"RUNTIME_DIRECTORY": str(self.site.folder)}
        return await skycap("config", "reload", str(self.daemon.process.pid), environ=environ)

    async def put(self) -> str:
        return (await self.client.enqueue(Work())).job_id

    async def begin(self, jobs: int) -> list[str]:
        """Jobs that run until ``let_end``."""
        held = [(await self.client.enqueue(Work(until=str(self.end)))).job_id for _ in range(jobs)]

        async def are_running() -> bool:
            states = [job and job.state for job in [await self.client.queue("default").get(each) for each in held]]
            return states == [JobState.RUNNING] * jobs

        await eventually(are_running)
        return held

    def let_end(self) -> None:
        self.end.touch()

    @property
    def end(self) -> Path:
        return self.site.folder / "end"

    async def result(self, job_id: str, queue: str = "default") -> Any:
        job = await self.client.wait(job_id, queue=queue, timeout=PATIENCE)
        assert job is not None
        assert job.state.is_final, f"{job_id} is still {job.state}"
        assert job.attempt == 1
        return job.result

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.daemon.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]


def write_plugin(site: Site, code: str, more: str = "") -> None:
    assert site.plugins_dir is not None
    (site.plugins_dir / "work.py").write_text(PLUGIN.replace("CODE", code) + more)


@pytest.fixture
def site(redis_url: str, tmp_path: Path) -> Site:
    (tmp_path / "plugins").mkdir()
    site = Site(
        folder=tmp_path, redis_url=redis_url, plugins_dir=tmp_path / "plugins", load_plugins=("work", "accounts")
    )
    write_plugin(site, "old")
    return site


@asynccontextmanager
async def started(site: Site) -> AsyncGenerator[Running]:
    async with notified(site) as daemon, AsyncClient(site.redis_url) as client:
        url = (await daemon.hears("READY"))["X_SKYCAP_HTTP"]
        yield Running(site=site, daemon=daemon, client=client, url=url)
        if daemon.process.returncode is None:
            assert await daemon.stop() == 0


async def test_plugin_queue_concurrency_and_schedule_change_and_no_job_is_lost_or_doubled(site: Site) -> None:
    site.extra["queues.default"] = {"concurrency": 100, "keep_finished_count": 1000}
    async with started(site) as running:
        first = await running.begin(100)
        behind = [await running.put() for _ in range(100)]
        site.extra["queues.default"]["concurrency"] = 7
        site.extra["queues.extra"] = {"concurrency": 4}
        running.write_plugin("new", MORE)
        status = await running.reload()
        assert re.match(r"default \d/7, .*, extra 0/4; 100 jobs, \d+ s left, on what was before the reload", status)
        assert Counter([await running.result(job_id) for job_id in behind]) == {"new": 100}
        running.let_end()
        results = Counter([await running.result(job_id) for job_id in first])
        assert results == {"old": 100}, "a job that ran did not end with the code that it began with"
        async with redis_at(site.redis_url) as redis:
            assert int(await redis.hget("skycap:{default}:meta", "completed")) == 200, "a job ran twice"
            await eventually(lambda: _are_more(redis))
    assert len(running.logged("reloaded")) == 1


async def _are_more(redis: Any) -> bool:
    return int(await redis.hget("skycap:{extra}:meta", "completed") or 0) > 0


async def test_connections_to_the_status_endpoint_outlive_reloads(site: Site) -> None:
    """Those to Redis do not: each generation closes its own."""
    async with started(site) as running, redis_at(site.redis_url) as redis:
        host, _, port = running.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))

        async def kinds() -> str:
            writer.write(b"GET /api/kinds HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            assert head.startswith("HTTP/1.1 200 ")
            (length,) = re.findall(r"(?i)content-length: (\d+)", head)
            return (await reader.readexactly(int(length))).decode()

        async def connections() -> set[str]:
            return {each["id"] for each in await redis.client_list()}

        assert "do-more" not in await kinds()
        assert await running.result(await running.put()) == "old"
        before = await connections()
        for number in range(3):
            running.write_plugin(f"new {number}", MORE)
            site.extra["queues.extra"] = {"concurrency": 1}
            await running.reload()
            assert "do-more" in await kinds()
            assert await running.result(await running.put()) == f"new {number}"
        writer.close()

        async def are_closed() -> bool:
            return len(before & await connections()) <= OF_THE_TEST

        assert len(before) > OF_THE_TEST
        await eventually(are_closed)


async def test_the_address_may_change_and_one_that_is_taken_is_refused(site: Site) -> None:
    site.extra["http"] = {"bind": f"unix:{site.folder}/old.sock"}
    async with started(site) as running:
        site.extra["http"] = {"bind": f"unix:{site.folder}/missing/new.sock"}
        assert (await running.reload()).startswith("reload refused: http.bind: cannot listen on ")
        assert await health(site.folder / "old.sock") == 200
        site.extra["http"] = {"bind": f"unix:{site.folder}/new.sock"}
        assert not (await running.reload()).startswith("reload refused")
        assert await health(site.folder / "new.sock") == 200


async def health(path: Path) -> int:
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=str(path))) as http,
        http.get("http://localhost/api/health") as answer,
    ):
        return answer.status


def break_the_file(site: Site) -> None:
    site.extra["worker"] = {"grace_seconds": -1}


def break_the_plugin(site: Site) -> None:
    write_plugin(site, "new", "import nonsense")


def contradict(site: Site) -> None:
    site.extra["jobs.do-wrok"] = {"timeout_seconds": 3}


def break_a_template(site: Site) -> None:
    folder = site.folder / "templates" / "transactional"
    folder.mkdir(parents=True)
    (folder / "welcome.html.j2").write_text("{% if %}")
    site.extra["mail"] = {"templates_dir": str(site.folder / "templates")}


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (break_the_file, "worker.grace_seconds: -1 is not at least 0"),
        (break_the_plugin, "ModuleNotFoundError: No module named 'nonsense'"),
        (contradict, "jobs.do-wrok: no plugin handles this kind"),
        (break_a_template, "welcome.html.j2"),
    ],
)
async def test_what_is_broken_is_refused_in_one_line_and_the_old_goes_on(
    site: Site, spoil: Callable[[Site], None], why: str
) -> None:
    async with started(site) as running:
        spoil(site)
        config = site.config
        checked = await skycap("config", "check", "--config", config)
        assert (checked.code, checked.out) == (78, "")
        assert why in checked.err
        status = await running.reload()
        assert status.startswith("reload refused: ")
        assert why in status
        again = await running.reload_by_command()
        assert again.code == 78
        assert f"skycap: {status.partition(';')[0]}" in again.err
        assert len(again.err.splitlines()) == 1
        assert "\n" not in status
        refusal, _ = running.logged("reload refused")
        assert (refusal["level"], why in refusal["problem"]) == ("error", True)
        assert await running.result(await running.put()) == "old"
        site.extra.clear()
        write_plugin(site, "mended")
        assert (await skycap("config", "check", "--config", site.config)).code == 0
        assert (await running.reload_by_command()).code == 0
        assert await running.result(await running.put()) == "mended"


async def test_signals_that_come_together_are_one_reload_and_none_begins_while_it_drains(site: Site) -> None:
    async with started(site) as running:
        running.daemon.process.send_signal(signal.SIGSTOP)
        for _ in range(3):
            running.daemon.process.send_signal(signal.SIGHUP)
        running.daemon.process.send_signal(signal.SIGCONT)
        await running.daemon.hears("RELOADING")
        await running.daemon.hears("READY")
        (job_id,) = await running.begin(1)
        running.daemon.process.send_signal(signal.SIGTERM)
        await running.daemon.hears("STOPPING")
        running.daemon.process.send_signal(signal.SIGHUP)
        running.let_end()
        assert await running.daemon.ended() == 0
        assert await running.result(job_id) == "old"
    assert len(running.logged("reloaded")) == 1
    assert sum("RELOADING" in said for said in running.daemon.heard) == 1


async def test_a_stop_while_it_reloads_drains_both(site: Site) -> None:
    """The plugin is imported for a while: what a reload makes then is thrown away."""
    async with started(site) as running:
        before = await running.begin(1)
        assert not (await running.reload()).startswith("reload refused")
        after = await running.begin(1)
        running.let_end()
        running.write_plugin("never", "import time\ntime.sleep(1)\n")
        running.daemon.process.send_signal(signal.SIGHUP)
        await running.daemon.hears("RELOADING")
        assert await running.daemon.stop() == 0
        assert [await running.result(job_id) for job_id in (*before, *after)] == ["old", "old"]
    assert len(running.logged("reloaded")) == 1


async def test_memory_does_not_grow_with_reloads(site: Site) -> None:
    site.load_plugins = None
    async with started(site) as running:

        async def memory_after(reloads: int) -> int:
            for number in range(reloads):
                running.write_plugin(f"code {number}")
                assert not (await running.reload()).startswith("reload refused")
            return resident_kib(running.daemon.process.pid)

        settled = await memory_after(12)  # until then, typing's own caches fill
        grown = await memory_after(8) - settled
    assert grown < 4 * 1024, f"{grown} KiB more after 8 further reloads, at {settled}"


def resident_kib(process: int) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize() // 1024
