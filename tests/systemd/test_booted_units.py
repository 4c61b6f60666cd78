"""The units beside the service: sockets, the target, timers and drop-ins, under a systemd that is really booted."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from skycap import AsyncClient
from skycap.engine.queue import Queue
from skycap.engine.schedule_book import ScheduleBook
from skycap.engine.stored import text
from skycap.job import JobState
from tests.support.workers import PATIENCE, eventually
from tests.systemd.machine import INNER_REDIS_URL, Machine
from tests.systemd.misbehaving import finished, put

pytestmark = pytest.mark.timeout(180)

DROP_INS = Path("/opt/skycap/share/skycap/systemd/drop-ins")
TICK = """
[schedules.every-second]
kind = "misbehave"
payload = { how = "do_nothing" }
every_seconds = 1
overlap = "allow"
"""


async def ask(machine: Machine, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a request to a socket of the machine's."""
    reader, writer = await asyncio.open_unix_connection(f"/proc/{machine.init}/root{path}")
    writer.write(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    return reader, writer


async def status(reader: asyncio.StreamReader) -> str:
    async with asyncio.timeout(PATIENCE.total_seconds()):
        return (await reader.read()).decode().partition("\r\n")[0]


async def test_who_connects_during_a_restart_waits_and_is_answered(machine: Machine) -> None:
    waits = "ExecStartPre=/bin/sh -c 'until test -e /run/skycap/go; do sleep 0.02; done'"
    async with machine.daemon("held", drop_in=waits, start=False) as unit:
        await machine.run("systemctl start skycap@held.socket && touch /run/skycap/go")
        await machine.run(f"systemctl start {unit}")
        before = await machine.show(unit)
        await machine.run(f"rm /run/skycap/go && systemctl restart --no-block {unit}")

        async def is_between() -> bool:
            return (await machine.show(unit))["SubState"] == "start-pre"

        await eventually(is_between)
        reader, writer = await ask(machine, "/run/skycap/held.sock")
        await machine.run("touch /run/skycap/go")
        assert await status(reader) == "HTTP/1.1 200 OK"
        writer.close()
        after = await machine.show(unit)
        mode = (await machine.run("stat --format '%A %U' /run/skycap/held.sock")).out
        await machine.run(f"systemctl stop skycap@held.socket {unit}")
    assert mode == "srw-rw---- root\n"
    assert int(before["MainPID"]) != int(after["MainPID"])
    assert after["NRestarts"] == "0", "it was no crash"


async def test_callers_do_not_start_a_wrong_configuration_for_ever(machine: Machine) -> None:
    async with machine.daemon("lost", config="[queues.email]\nconcurrency = -3", start=False) as unit:
        await machine.run("systemctl start skycap@lost.socket")
        reader, writer = await ask(machine, "/run/skycap/lost.sock")

        async def has_given_up() -> bool:
            return (await machine.show("skycap@lost.socket"))["Result"] == "trigger-limit-hit"

        await eventually(has_given_up)
        with pytest.raises(ConnectionResetError):  # who asked is told, too
            await status(reader)
        writer.close()
        tries = (await machine.journal(unit)).count("concurrency: -3 is not at least 1")
        await machine.run("systemctl reset-failed skycap@lost.socket")
    assert 1 <= tries <= 5


async def test_a_timer_ticks_a_schedule_and_doubles_no_daemon(machine: Machine, client: AsyncClient) -> None:
    """Every second, first alone and then beside a daemon: each tick is decided about once."""
    queue = client.queue("default")
    often = "[Timer]\nOnCalendar=\nOnCalendar=*:*:*\nAccuracySec=1ms\n"
    await machine.write("/etc/skycap/main.toml", TICK)
    await machine.write("/etc/systemd/system/skycap-schedule@.timer.d/often.conf", often)
    await machine.run("systemctl daemon-reload && systemctl start skycap-schedule@every-second.timer")
    try:

        async def has_ticked(times: int) -> bool:
            return len(await ScheduleBook(queue).decided("every-second")) >= times

        await eventually(partial(has_ticked, 1))
        waiting = await queue.jobs(JobState.AVAILABLE)
        async with machine.daemon("main", config=TICK):
            so_far = len(await ScheduleBook(queue).decided("every-second"))
            await eventually(partial(has_ticked, so_far + 2))
        result = (await machine.show("skycap-schedule@every-second.service"))["Result"]
    finally:
        await machine.run("systemctl stop skycap-schedule@every-second.timer skycap-schedule@every-second.service")
        await machine.run("rm -r /etc/systemd/system/skycap-schedule@.timer.d && systemctl daemon-reload")
    assert waiting, "the timer alone enqueued none"
    assert result == "success"
    ticks = [tick for tick, _ in await ScheduleBook(queue).decided("every-second")]
    assert len(set(ticks)) == len(ticks)
    added = await made_available(queue)
    assert len(set(added)) == len(added) >= 3


async def made_available(queue: Queue) -> list[str]:
    """The ids of jobs, as often as each was added."""
    entries = await queue.link.command("XRANGE", queue.keys.events, "-", "+")
    words = [text(word) for _, fields in entries for word in fields]
    return [job_id for state, job_id in zip(words[::2], words[1::2], strict=True) if state == "available"]


async def add(machine: Machine, unit: str, drop_in: str) -> None:
    await machine.run(f"install -D -m 0644 -t /etc/systemd/system/{unit}.d {DROP_INS}/{drop_in}")
    await machine.run("systemctl daemon-reload")


async def test_a_lasting_account_keeps_what_the_passing_one_had(machine: Machine, client: AsyncClient) -> None:
    async with machine.daemon("moved") as unit:
        first = await finished(client, await put(client, "look_around"))
        await machine.run(f"systemctl stop {unit}")
        await add(machine, unit, "skycap@.service.d/static-user.conf")
        await machine.run(f"systemctl start {unit}")
        second = await finished(client, await put(client, "look_around"))
        account = (await machine.run("id --user skycap")).out
        owner = (await machine.run("stat --format %u /var/lib/skycap/moved/written")).out
        await machine.run(f"systemctl stop {unit}")
    assert {place for place, how in first.result["write"].items() if how == "ok"} == {"state", "runtime", "tmp"}
    assert second.result == first.result | {"pid": second.result["pid"]}
    assert owner == account


async def test_secrets_may_be_encrypted_on_the_disk(machine: Machine, client: AsyncClient) -> None:
    async with machine.daemon("sealed", start=False) as unit:
        await machine.run("install -d -m 0700 /etc/skycap/encrypted")
        seal = "systemd-creds encrypt --with-key=host --name=skycap_redis_url - /etc/skycap/encrypted/redis_url"
        await machine.run(seal, stdin=INNER_REDIS_URL)
        await add(machine, unit, "skycap@.service.d/encrypted-credentials.conf")
        await machine.run("mv /etc/skycap/credentials /etc/skycap/aside")
        try:
            await machine.run(f"systemctl start {unit}")
        finally:
            await machine.run("mv /etc/skycap/aside /etc/skycap/credentials")
        job = await finished(client, await put(client, "do_nothing"))
        on_disk = (await machine.run("cat /etc/skycap/encrypted/redis_url")).out
    assert job.state is JobState.COMPLETED
    assert "valkey" not in on_disk


async def test_the_bounds_of_memory_are_asked_for(machine: Machine) -> None:
    """Asked for only: this machine's kernel may have no memory controller to hold them with."""
    async with machine.daemon("small", start=False) as unit:
        await add(machine, unit, "skycap@.service.d/memory.conf")
        shown = await machine.show(unit)
    assert (shown["MemoryHigh"], shown["MemoryMax"]) == (str(600 * 2**20), str(800 * 2**20))
    assert (shown["OOMPolicy"], shown["Restart"]) == ("stop", "on-failure")
