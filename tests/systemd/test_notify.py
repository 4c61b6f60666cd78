"""What the daemon tells systemd, and when it keeps silent; no systemd is needed."""

from __future__ import annotations

import json
import re
import resource
import signal
import time
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from skycap import AsyncClient, Payload
from skycap.job import JobState
from tests.support.daemons import Site
from tests.support.workers import PATIENCE
from tests.systemd.notified import Notification, NotifiedDaemon, notified

WATCHDOG = timedelta(seconds=2)
SHORT_WATCHDOG = timedelta(milliseconds=200)
IDLE = "default 0/5, email 0/3, processing 0/5, scheduled 0/2"
BUSY = IDLE.replace("default 0/5", "default 1/5")


class Misbehave(Payload, kind="misbehave"):
    """Handled by plugins/trouble.py."""

    how: str


@pytest.fixture
def site(redis_url: str, tmp_path: Path) -> Site:
    return Site(folder=tmp_path, redis_url=redis_url, plugins_dir=Path(__file__).parent / "plugins")


async def begin(site: Site, daemon: NotifiedDaemon, how: str) -> str:
    """The id of a job that the daemon has begun."""
    async with AsyncClient(site.redis_url) as client:
        job_id = (await client.enqueue(Misbehave(how=how))).job_id
    await daemon.hears("X_TEST", "begin")
    return job_id


async def state_of(site: Site, job_id: str) -> tuple[JobState, int]:
    async with AsyncClient(site.redis_url) as client:
        job = await client.queue("default").get(job_id)
    assert job is not None
    return job.state, job.attempt


def between(heard: Sequence[Notification], first: str, last: str) -> Sequence[Notification]:
    words = [said.get("X_TEST") for said in heard]
    return heard[words.index(first) + 1 : words.index(last)]


def is_fed(heard: Sequence[Notification]) -> bool:
    return any("WATCHDOG" in said for said in heard)


def logged(daemon: NotifiedDaemon, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in daemon.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def at_seconds(said: Notification) -> float:
    return int(said["MONOTONIC_USEC"]) / 1_000_000


async def test_it_is_ready_then_feeds_the_watchdog_and_stops_with_a_last_word(site: Site) -> None:
    began = time.monotonic()
    async with notified(site, watchdog=WATCHDOG) as daemon:
        ready = await daemon.hears("READY")
        fed = [await daemon.hears("WATCHDOG") for _ in range(3)]
        code = await daemon.stop()
    ended = time.monotonic()
    assert daemon.heard[0]["STATUS"] == "loading plugins"
    assert int(daemon.heard[0]["EXTEND_TIMEOUT_USEC"]) > 90_000_000, "no more time than it has anyway"
    assert (ready["READY"], ready["STATUS"]) == ("1", IDLE)
    assert all(said["WATCHDOG"] == "1" for said in fed)
    assert max(at_seconds(after) - at_seconds(before) for before, after in pairwise(fed)) < WATCHDOG.total_seconds()
    (stopping,) = (said for said in daemon.heard if "STOPPING" in said)
    *_, extended = (said for said in daemon.heard if "EXTEND_TIMEOUT_USEC" in said)
    assert stopping["STATUS"] == "draining: 0 jobs, 25 s left"
    assert extended["EXTEND_TIMEOUT_USEC"] == "35000000", "25 s of grace, and 10 s to settle and close"
    assert sum("READY" in said for said in daemon.heard) == 1
    moments = [at_seconds(said) for said in daemon.heard]
    assert moments == sorted(moments)
    assert began < moments[0] <= moments[-1] < ended, "MONOTONIC_USEC is not CLOCK_MONOTONIC in microseconds"
    assert code == 0


async def test_without_a_watchdog_it_feeds_none(site: Site) -> None:
    async with notified(site) as daemon:
        await daemon.hears("READY")
        assert await daemon.stop() == 0
    assert not is_fed(daemon.heard)


async def test_it_is_not_ready_until_the_plugins_have_started(site: Site) -> None:
    async with notified(site, watchdog=WATCHDOG, trouble="never-started hurried") as daemon:
        await daemon.hears("X_TEST", "starting")
        # Again and again: each time three times as long as until the next.
        for _ in range(2):
            await daemon.hears("EXTEND_TIMEOUT_USEC", "300000")
    assert not any("READY" in said or "WATCHDOG" in said for said in daemon.heard)


async def test_it_can_be_stopped_before_it_is_ready(site: Site) -> None:
    async with notified(site, trouble="never-started") as daemon:
        await daemon.hears("X_TEST", "starting")
        assert await daemon.stop() == 0
    assert not any("READY" in said for said in daemon.heard)


async def test_a_job_that_blocks_the_event_loop_keeps_the_watchdog_from_being_fed(site: Site) -> None:
    async with notified(site, watchdog=SHORT_WATCHDOG) as daemon:
        await daemon.hears("WATCHDOG")
        await begin(site, daemon, "block_the_loop")
        await daemon.hears("X_TEST", "end")
        await daemon.hears("WATCHDOG")
        assert await daemon.stop() == 0
    assert not is_fed(between(daemon.heard, "begin", "end"))


async def test_consumers_that_make_no_progress_keep_the_watchdog_from_being_fed(site: Site) -> None:
    async with notified(site, watchdog=SHORT_WATCHDOG, trouble="hurried") as daemon:
        await daemon.hears("WATCHDOG")
        await begin(site, daemon, "wedge_the_consumers")
        await daemon.hears("X_TEST", "end")
    assert is_fed(between(daemon.heard, "begin", "middle")), "not given the time it has"
    assert not is_fed(between(daemon.heard, "middle", "end"))
    (unfed,) = logged(daemon, "watchdog not fed")
    assert unfed["stuck"].startswith("queue "), "of all, the first that is stuck"


async def test_a_clock_that_is_stuck_keeps_the_watchdog_from_being_fed(site: Site) -> None:
    async with notified(site, watchdog=SHORT_WATCHDOG, trouble="hurried") as daemon:
        await daemon.hears("WATCHDOG")
        await begin(site, daemon, "wedge_the_clock")
        await daemon.hears("X_TEST", "end")
    assert is_fed(between(daemon.heard, "begin", "middle")), "not given the time it has"
    assert not is_fed(between(daemon.heard, "middle", "end"))
    assert [line["stuck"] for line in logged(daemon, "watchdog not fed")] == ["clock of scheduled"]


async def test_the_watchdog_is_fed_while_redis_is_away(site: Site) -> None:
    """A restart would not bring Redis back."""
    site.redis_url = f"unix://{site.folder}/nowhere.sock"
    async with notified(site, watchdog=SHORT_WATCHDOG, trouble="hurried") as daemon:
        for _ in range(12):  # more than fit into the time after which consumers count as stalled
            await daemon.hears("WATCHDOG")
        assert await daemon.stop() == 0


async def test_the_watchdog_is_fed_while_the_last_job_drains(site: Site) -> None:
    async with notified(site, watchdog=SHORT_WATCHDOG, trouble="hurried") as daemon:
        job_id = await begin(site, daemon, "take_a_while")
        assert await daemon.stop() == 0
    assert is_fed(between(daemon.heard, "middle", "end"))
    assert await state_of(site, job_id) == (JobState.COMPLETED, 1)


async def test_the_status_says_what_runs_and_waits_and_how_its_dependencies_are(site: Site) -> None:
    async with notified(site, trouble="hurried") as daemon, AsyncClient(site.redis_url) as client:
        await daemon.hears("STATUS", f"{IDLE}; none waiting; redis ok")
        await client.queue("default").pause()
        await client.enqueue(Misbehave(how="do_nothing"))
        waits = await daemon.says(f"{IDLE}; 1 waiting, oldest ")
        await client.queue("default").resume()
        await begin(site, daemon, "take_a_while")
        await daemon.says(f"{BUSY}; none waiting")
        daemon.process.send_signal(signal.SIGTERM)
        assert (await daemon.hears("STOPPING"))["STATUS"] == "draining: 1 job, 25 s left"
        assert await daemon.ended() == 0
    assert re.search(r"oldest \d\.\d s; redis ok$", waits["STATUS"])


async def test_the_status_says_since_when_a_dependency_is_away(site: Site) -> None:
    site.redis_url = f"unix://{site.folder}/nowhere.sock"
    site.database_url = f"postgresql://nobody@localhost:1/nothing?host={site.folder}"
    async with notified(site, trouble="hurried") as daemon:
        said = await daemon.says(f"{IDLE}; waiting for redis, ")
        assert re.search(r"waiting for redis, \d\.\d s, waiting for postgresql, \d\.\d s$", said["STATUS"])
        assert await daemon.stop() == 0


async def test_the_watchdogs_signal_leaves_the_stack_of_what_hangs(site: Site) -> None:
    async with notified(site, watchdog=WATCHDOG) as daemon:
        await begin(site, daemon, "block_the_loop_for_long")
        resource.prlimit(daemon.process.pid, resource.RLIMIT_CORE, (0, 0))
        daemon.process.send_signal(signal.SIGABRT)
        assert await daemon.ended() == -signal.SIGABRT
    log = daemon.log.read_text()
    assert "Fatal Python error: Aborted" in log
    assert 'trouble.py", line' in log
    assert "in misbehave" in log


@pytest.mark.parametrize("how", ["take_long", "use_a_thread", "resist"])
async def test_a_second_signal_hands_running_jobs_back_at_once(site: Site, how: str) -> None:
    """Only one that resists its cancellation is not handed back: its lease will run out."""
    async with notified(site) as daemon:
        job_id = await begin(site, daemon, how)
        daemon.process.send_signal(signal.SIGTERM)
        await daemon.hears("STOPPING")
        assert await state_of(site, job_id) == (JobState.RUNNING, 1)
        again = time.monotonic()
        assert await daemon.stop() == 0
    assert time.monotonic() - again < 10, "the grace period of 25 s was waited for"
    assert await state_of(site, job_id) == ((JobState.RUNNING, 1) if how == "resist" else (JobState.AVAILABLE, 0))


async def test_a_plugin_that_does_not_come_to_its_end_has_the_grace_period(site: Site) -> None:
    site.extra["worker"] = {"grace_seconds": 0.5}
    async with notified(site, trouble="never-stopped") as daemon:
        await daemon.hears("READY")
        assert await daemon.stop() == 0
    assert "a plugin was not done" in daemon.log.read_text()


async def test_no_job_is_taken_once_plugins_know_that_it_stops(site: Site) -> None:
    site.extra["worker"] = {"grace_seconds": 3}
    async with notified(site, trouble="never-stopped") as daemon, AsyncClient(site.redis_url) as client:
        # Its consumers have come so far that none is just asking for a job, which it would be given.
        await client.wait(await begin(site, daemon, "do_nothing"), queue="default", timeout=PATIENCE)
        daemon.process.send_signal(signal.SIGTERM)
        await daemon.hears("X_TEST", "stopping")
        job_id = (await client.enqueue(Misbehave(how="take_long"))).job_id
        assert await daemon.ended() == 0
    assert await state_of(site, job_id) == (JobState.AVAILABLE, 0)
    assert [said["X_TEST"] for said in daemon.heard if "X_TEST" in said] == ["begin", "end", "stopping"]


async def test_a_wrong_configuration_ends_at_once_and_says_nothing_to_systemd(site: Site) -> None:
    site.extra["queues.email"] = {"concurrency": -3}
    began = time.monotonic()
    async with notified(site, watchdog=WATCHDOG) as daemon:
        code = await daemon.ended()
    assert (code, daemon.heard) == (78, [])
    assert time.monotonic() - began < 5
    assert len(daemon.log.read_text().splitlines()) == 1


async def test_a_consumer_that_dies_takes_the_daemon_with_it_to_be_restarted(site: Site) -> None:
    async with notified(site) as daemon:
        await daemon.hears("READY")
        await begin(site, daemon, "break_the_consumers")
        assert await daemon.ended() == 70
    assert "ZeroDivisionError" in daemon.log.read_text()
