"""The real units with an installed skycap, under a systemd that is really booted; in seconds, and only as root."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from skycap import AsyncClient
from skycap.job import JobState
from skycap.observe.operator_events import MESSAGE_IDS
from tests.support.workers import eventually
from tests.systemd import page
from tests.systemd.machine import PASSWORD, Machine, booted
from tests.systemd.misbehaving import finished, now, put, running

pytestmark = pytest.mark.timeout(180)

SHORT_LEASE = "[worker]\nlease_seconds = 1"
RESTART_SOON = "RestartSec=100ms"


async def test_start_returns_when_the_daemon_is_ready(machine: Machine) -> None:
    async with machine.daemon("late", drop_in="Environment=TROUBLE=late") as unit:
        assert (await machine.run("ls /var/lib/skycap/late")).out == "started\n"
        shown = await machine.show(unit)
    assert (shown["ActiveState"], shown["SubState"]) == ("active", "running")
    assert shown["StatusText"].startswith("default 0/5, email 0/3, processing 0/5, scheduled 0/2")
    assert shown["WatchdogUSec"] == "30s"


@dataclass(frozen=True, kw_only=True)
class Traces:
    """What one daemon that ran a job left."""

    job_id: str
    result: dict[str, Any]
    entries: list[dict[str, str]]
    of_its_queue: list[dict[str, str]]
    """What the journal finds by the field of the queue."""
    explained: str
    environment: str
    everything: str
    """What systemd and its journal tell of the whole machine."""


@pytest.fixture(scope="module")
def traces(started: Machine) -> Traces:
    return asyncio.run(_traces(started))


async def _traces(machine: Machine) -> Traces:
    async with AsyncClient(machine.redis_url) as client, machine.daemon("work") as unit:
        job = await finished(client, await put(client, "look_around"))
        await machine.run("journalctl --sync")
        log = (await machine.run(f"journalctl --unit {unit} --output json _COMM=skycap")).out
        of_its_queue = (await machine.run(f"journalctl --unit {unit} --output json SKYCAP_QUEUE=default")).out
        return Traces(
            job_id=job.id,
            result=job.result,
            entries=[json.loads(line) for line in log.splitlines()],
            of_its_queue=[json.loads(line) for line in of_its_queue.splitlines()],
            explained=(await machine.run(f"journalctl -x --unit {unit}")).out,
            environment=(await machine.run(f"cat /proc/{job.result['pid']}/environ")).out,
            everything=(await machine.run("journalctl --output export && systemctl show '*'")).out,
        )


def test_a_handler_can_do_its_work(traces: Traces) -> None:
    """MemoryDenyWriteExecute is in the way of no compiled library."""
    assert set(traces.result["import"].values()) == {"ok"}
    assert traces.result["inline css"] == "ok"
    assert traces.result["read"]["credential"] == "ok"
    written = traces.result["write"]
    assert {place for place in written if written[place] == "ok"} == {"state", "runtime", "tmp"}


def test_a_handler_can_do_nothing_else(traces: Traces) -> None:
    result = traces.result
    assert result["root"] is False
    assert {result["write"][place] for place in ("etc", "opt", "credentials")} == {"EROFS"}
    assert (result["read"]["its source"], result["read"]["home"]) == ("EACCES", "EACCES")
    assert result["read"]["other processes"] == "ENOENT"
    assert (result["writable code"], result["raw socket"]) == ("EPERM", "EPERM")


def test_its_log_has_fields_and_a_priority(traces: Traces) -> None:
    entries = {entry["SKYCAP_EVENT"]: entry for entry in traces.entries}
    priorities = {event: entry["PRIORITY"] for event, entry in entries.items()}
    assert (entries["job completed"]["SKYCAP_KIND"], entries["job completed"]["SKYCAP_QUEUE"]) == (
        "misbehave",
        "default",
    )
    assert entries["daemon started"]["MESSAGE_ID"] == MESSAGE_IDS["daemon started"]
    assert priorities["daemon started"] == priorities["job completed"] == "6"
    assert priorities["redis puts jobs at risk"] == "4", "this machine's Redis keeps nothing on disk"


def test_a_job_is_found_by_its_queue(traces: Traces) -> None:
    (line,) = (entry for entry in traces.of_its_queue if entry["SKYCAP_EVENT"] == "job completed")
    fields = {name: line[name] for name in ("SKYCAP_JOB_ID", "SKYCAP_KIND", "SKYCAP_QUEUE", "PRIORITY")}
    assert fields == {
        "SKYCAP_JOB_ID": traces.job_id,
        "SKYCAP_KIND": "misbehave",
        "SKYCAP_QUEUE": "default",
        "PRIORITY": "6",
    }
    assert "daemon started" not in {entry["SKYCAP_EVENT"] for entry in traces.of_its_queue}


def test_the_journal_explains_what_an_admin_must_act_on(traces: Traces) -> None:
    assert " Subject: Jobs are being taken\n" in traces.explained
    assert " Defined-By: skycap\n" in traces.explained


def test_its_secret_reaches_nobody_else(traces: Traces) -> None:
    assert "CREDENTIALS_DIRECTORY=" in traces.environment
    assert PASSWORD not in traces.environment
    assert "daemon started" in traces.everything
    assert PASSWORD not in traces.everything


async def test_stop_drains_even_where_that_takes_longer_than_the_unit_allows(
    machine: Machine, client: AsyncClient
) -> None:
    """The daemon asks systemd for the time that its own configuration gives to running jobs."""
    async with machine.daemon("drain", drop_in="TimeoutStopSec=500ms") as unit:
        job_id = await running(client, "take_a_moment")
        await machine.run(f"systemctl stop {unit}")
        job, shown = await now(client, job_id), await machine.show(unit)
    assert (job.state, job.attempt) == (JobState.COMPLETED, 1)
    assert (shown["ActiveState"], shown["Result"], shown["ExecMainStatus"]) == ("inactive", "success", "0")


async def test_a_kill_during_the_stop_hands_jobs_back_at_once(machine: Machine, client: AsyncClient) -> None:
    async with machine.daemon("hurry") as unit:
        job_id = await running(client, "take_long")
        await machine.run(f"systemctl stop --no-block {unit}")

        async def is_draining() -> bool:
            return (await machine.show(unit))["StatusText"].startswith("draining: 1 job, ")

        await eventually(is_draining)
        await machine.run(f"systemctl kill {unit}")
        await machine.run(f"systemctl stop {unit}")
        job, shown = await now(client, job_id), await machine.show(unit)
    assert (job.state, job.attempt) == (JobState.AVAILABLE, 0)
    assert (shown["ActiveState"], shown["Result"]) == ("inactive", "success")


async def test_a_killed_daemon_is_restarted_and_its_job_runs_again(machine: Machine, client: AsyncClient) -> None:
    async with machine.daemon("kill", config=SHORT_LEASE, drop_in=RESTART_SOON) as unit:
        job_id = await put(client, "take_long_once")

        async def is_in_its_handler() -> bool:
            return (await machine.run("test -e /var/lib/skycap/kill/first-time", check=False)).code == 0

        await eventually(is_in_its_handler)
        before = await machine.show(unit)
        await machine.run(f"kill -9 {before['MainPID']}")
        job = await finished(client, job_id)
        after = await machine.show(unit)
    assert (job.state, job.attempt, job.result) == (JobState.COMPLETED, 1, int(after["MainPID"]))
    assert (after["NRestarts"], after["ActiveState"]) == ("1", "active")


async def test_one_that_leaks_is_started_again_and_its_jobs_are_done(machine: Machine, client: AsyncClient) -> None:
    """By what skycap itself measures: this machine's kernel may have no memory controller."""
    drop_in = f"{RESTART_SOON}\nEnvironment=TROUBLE=hurried"
    async with machine.daemon("leak", config='[worker]\nmax_memory = "300MiB"', drop_in=drop_in) as unit:
        leaking = [await put(client, "leak") for _ in range(10)]
        jobs = [await finished(client, job_id) for job_id in leaking]
        shown, log = await machine.show(unit), await machine.journal(unit)
    assert [(job.state, job.attempt) for job in jobs] == [(JobState.COMPLETED, 1)] * len(leaking)
    assert 1 <= int(shown["NRestarts"]) < len(leaking)
    assert "memory used up; restarting: " in log
    assert "code=exited, status=75" in log


async def test_a_job_that_blocks_the_event_loop_is_ended_by_the_watchdog(machine: Machine, client: AsyncClient) -> None:
    drop_in = f"{RESTART_SOON}\nWatchdogSec=1"
    async with machine.daemon("hang", config=SHORT_LEASE, drop_in=drop_in) as unit:
        job = await finished(client, await put(client, "block_the_loop_once"))
        shown, log = await machine.show(unit), await machine.journal(unit)
    assert (job.state, job.result, shown["NRestarts"]) == (JobState.COMPLETED, int(shown["MainPID"]), "1")
    assert "Watchdog timeout" in log
    assert "in block_the_loop_once" in log, "the stack of what hung"


async def test_a_wrong_configuration_is_one_line_and_no_restart(machine: Machine) -> None:
    async with machine.daemon("wrong", config="[queues.email]\nconcurrency = -3", start=False) as unit:
        started = await machine.run(f"systemctl start {unit}", check=False)
        shown, log = await machine.show(unit), await machine.journal(unit)
    assert started.code != 0
    assert (shown["ActiveState"], shown["SubState"], shown["NRestarts"]) == ("failed", "failed", "0")
    assert (shown["Result"], shown["ExecMainStatus"]) == ("exit-code", "78")
    (line,) = (line for line in log.splitlines() if "skycap: " in line)
    assert line.startswith("skycap: /etc/skycap/wrong.toml: queues.email.concurrency: -3 is not at least 1")


async def test_what_is_wrong_with_the_credentials_skycap_says_itself(machine: Machine) -> None:
    """Also where there is no such folder: of that, systemd itself would say "Protocol error", again and again."""
    await machine.run("cd /etc/skycap && mkdir empty misspelt && echo x >misspelt/redis_ulr")

    async def log_of(name: str) -> str:
        drop_in = f"LoadCredential=\nLoadCredential=skycap:/etc/skycap/{name}"
        async with machine.daemon(name, drop_in=drop_in, start=False) as unit:
            await machine.run(f"systemctl start {unit}", check=False)
            shown = await machine.show(unit)
            assert (shown["ExecMainStatus"], shown["NRestarts"]) == ("78", "0")
            return await machine.journal(unit)

    missing, empty, misspelt = await asyncio.gather(log_of("missing"), log_of("empty"), log_of("misspelt"))
    assert "/etc/skycap/missing.toml: redis.url: is not set" in missing
    assert "/etc/skycap/empty.toml: redis.url: is not set" in empty
    assert "/skycap_redis_ulr: is no setting of skycap; did you mean SKYCAP_REDIS_URL?" in misspelt


async def test_two_daemons_share_a_host_and_the_target_starts_reloads_and_stops_both(machine: Machine) -> None:
    bind = '[http]\nbind = "unix:/run/skycap/{name}/http.sock"'
    async with (
        machine.daemon("one", config=bind.format(name="one"), start=False) as one,
        machine.daemon("two", config=bind.format(name="two"), start=False) as two,
    ):
        await machine.run(f"systemctl enable {one} {two}")
        await machine.run("systemctl start skycap.target")
        await machine.run(f"systemctl is-active {one} {two}")
        at_boot = (await machine.run("systemctl list-dependencies --plain multi-user.target")).out.split()
        await machine.run("systemctl reload skycap.target")

        async def have_reloaded() -> bool:
            logs = [await machine.journal(unit) for unit in (one, two)]
            return all("reloaded: " in log for log in logs)

        await eventually(have_reloaded)
        await machine.run(f"systemctl is-active {one} {two}")
        await machine.run("systemctl stop skycap.target")

        async def are_inactive() -> bool:
            states = await machine.run(f"systemctl is-active {one} {two}", check=False)
            return states.out.split() == ["inactive", "inactive"]

        await eventually(are_inactive)
        await machine.run(f"systemctl disable {one} {two}")
    assert {one, two} <= set(at_boot)


async def test_a_check_looks_at_the_unit_as_it_runs(machine: Machine) -> None:
    """As systemd/README.md says, but for the addresses: SKYCAP_ENV is known from the unit."""
    (typed,) = page.commands("Check")
    check = (
        typed.command.replace("main.toml", "checked.toml")
        + " --only unit,secrets,redis,configuration.environment --json"
    )
    async with machine.daemon("checked", drop_in="TimeoutStopSec=20\nLimitNOFILE=1024") as unit:
        odd = {each["name"]: each for each in json.loads((await machine.run(check)).out)["checks"]}
        await machine.run(f"rm -r /etc/systemd/system/{unit}.d && systemctl daemon-reload")
        usual = {each["name"]: each for each in json.loads((await machine.run(check)).out)["checks"]}
        await machine.run("chmod 0644 /etc/skycap/credentials/redis_url")
        readable = await machine.run(check, check=False)
        await machine.run("chmod 0600 /etc/skycap/credentials/redis_url")
    assert (
        odd["unit.installed"]["says"]
        == f"{unit.removesuffix('.service')} is active, from /etc/systemd/system/skycap@.service"
    )
    assert "test.conf" in odd["unit.shipped"]["says"]
    assert odd["unit.stop"]["says"] == "a stop is cut off after 20 s, and a drain may take 35 s"
    assert odd["unit.files"]["says"] == "may open 1024 files"
    expected = {"unit.enabled": "warn"}
    found = {name: each["status"] for name, each in usual.items() if name.startswith("unit.")}
    assert found == dict.fromkeys(found, "ok") | expected, usual
    assert usual["configuration.environment"]["says"] == "production"
    assert (usual["secrets.files"]["status"], usual["redis.connection"]["status"]) == ("ok", "ok")
    assert usual["redis.fleet"]["says"].startswith("1 daemons run, of ")
    assert readable.code == 1
    assert "/etc/skycap/credentials/redis_url is open to everybody on this host (0644)" in readable.out
    assert PASSWORD not in readable.out + readable.err


def test_a_machine_leaves_nothing_behind(started: Machine, wheel: Path) -> None:
    with booted(wheel) as machine:
        assert Path(f"/proc/{machine.init}").exists()
        assert [*Path("/sys/fs/cgroup").glob(f"**/{machine.cgroup}")]
    assert not Path(f"/proc/{machine.init}").exists()
    assert [*Path("/sys/fs/cgroup").glob(f"**/{machine.cgroup}")] == []
    assert not machine.folder.parent.exists()
    assert machine.folder.parent.name not in Path("/proc/self/mountinfo").read_text()
