"""`systemctl reload` of the real unit, under a systemd that is really booted."""

from __future__ import annotations

import asyncio

import pytest

from skycap import AsyncClient
from skycap.job import JobState
from tests.support.workers import PATIENCE
from tests.systemd.machine import Machine
from tests.systemd.misbehaving import finished, put, running

pytestmark = pytest.mark.timeout(180)


async def test_one_that_is_refused_fails_with_its_line_and_the_daemon_goes_on(
    machine: Machine, client: AsyncClient
) -> None:
    async with machine.daemon("torn") as unit:
        before = await machine.show(unit)
        during = await running(client, "take_a_moment")
        await machine.write("/etc/skycap/torn.toml", "[queues.email]\nconcurrency = -3")
        refused = await machine.run(f"systemctl reload {unit}", check=False)
        shown, log = await machine.show(unit), await machine.journal(unit)
        ended = [await finished(client, job_id) for job_id in (during, await put(client, "do_nothing"))]
        await machine.write("/etc/skycap/torn.toml", "[queues.email]\nconcurrency = 1")
        await machine.run(f"systemctl reload {unit}")
        mended = await machine.show(unit)
    assert refused.code != 0
    said = "reload refused: /etc/skycap/torn.toml: queues.email.concurrency: -3 is not at least 1"
    (line,) = (line for line in log.splitlines() if line.startswith("skycap: "))
    assert line.startswith(f"skycap: {said}")
    assert shown["StatusText"].startswith(said)
    assert (shown["ActiveState"], shown["MainPID"]) == ("active", before["MainPID"])
    assert [(job.state, job.attempt) for job in ended] == [(JobState.COMPLETED, 1)] * 2
    assert "email 0/1" in mended["StatusText"]
    assert (mended["MainPID"], mended["NRestarts"]) == (before["MainPID"], "0")


async def test_connections_to_a_socket_that_systemd_holds_outlive_it(machine: Machine) -> None:
    """Also where http.bind has changed meanwhile: the socket is instead of it."""
    async with machine.daemon("steady", start=False) as unit:
        await machine.run(f"systemctl start skycap@steady.socket {unit}")
        before = await machine.show(unit)
        reader, writer = await asyncio.open_unix_connection(f"/proc/{machine.init}/root/run/skycap/steady.sock")

        async def status() -> str:
            writer.write(b"HEAD /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            async with asyncio.timeout(PATIENCE.total_seconds()):
                return (await reader.readuntil(b"\r\n\r\n")).decode().partition("\r\n")[0]

        answers = [await status()]
        for name in ("one", "two"):
            await machine.write("/etc/skycap/steady.toml", f'[http]\nbind = "unix:/run/skycap/steady/{name}.sock"')
            await machine.run(f"systemctl reload {unit}")
            answers.append(await status())
        writer.close()
        later = await machine.run("curl --silent --fail --unix-socket /run/skycap/steady.sock http://x/api/health")
        after, made = await machine.show(unit), (await machine.run("ls /run/skycap/steady")).out
        await machine.run(f"systemctl stop skycap@steady.socket {unit}")
    assert answers == ["HTTP/1.1 200 OK"] * 3
    assert later.out
    assert (after["MainPID"], after["NRestarts"]) == (before["MainPID"], "0")
    assert ".sock" not in made
