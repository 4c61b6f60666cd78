"""``skycap demo``: what a stranger sees first, and that nothing outlives it."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import sys
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest
from aiohttp import ClientSession

from tests.support.daemons import CLEAN, skycap
from tests.support.workers import PATIENCE, eventually

README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"XDG_STATE_HOME": str(tmp_path)}


async def test_the_demo_delivers_a_booking_confirmation(home: dict[str, str]) -> None:
    done = await skycap("demo", "--json", environ=home)
    assert done.code == 0, done.err
    assert set(done.json) == {"delivered", "http", "jobs"}
    (job,) = done.json["jobs"]
    assert set(job) == {"id", "kind", "state", "attempts", "milliseconds", "messageId", "file"}
    assert (done.json["delivered"], job["kind"], job["state"], job["attempts"]) == (
        *(1, "send-booking-confirmation", "completed", 1),
    )
    mail = _mail(job["file"])
    assert mail["Message-ID"] == job["messageId"]
    parts = [part.get_content_type() for part in mail.walk() if not part.is_multipart()]
    assert parts == ["text/plain", "text/html", "text/calendar"]


def _mail(file: str) -> EmailMessage:
    return message_from_bytes(Path(file).read_bytes(), policy=policy.default)


async def test_it_prints_what_the_readme_shows_and_can_be_repeated(home: dict[str, str]) -> None:
    shown = re.search(r"\$ ./skycap demo\n(.*?)```", README.read_text(), re.DOTALL)
    assert shown is not None
    for _ in range(2):
        done = await skycap("demo", environ=home)
        assert done.code == 0, done.err
        assert _shape(done.err + done.out) == _shape(shown[1])


def _shape(text: str) -> list[str]:
    """The lines with their numbers, ids and paths left out."""
    lines = (re.sub(r"\S*[0-9/]\S*", "#", " ".join(line.split())) for line in text.splitlines())
    return [line for line in lines if line]


async def test_killed_it_leaves_no_process_and_no_port(home: dict[str, str]) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "skycap", "demo", "--json", "--keep"),
        env={**CLEAN, **home},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE.total_seconds()):
        text = (await process.stdout.readuntil(b"\n}\n")).decode()
        tries = (await process.stderr.readuntil(b"ls ")).decode()
    url = re.search(r'"http": "(.+)"', text)
    assert url is not None
    await _works(tries)
    async with ClientSession(url[1]) as http:
        async with http.get("/api/health") as response:
            assert response.status == 200
        children = _descendants(process.pid)
        assert len(children) >= 3, "the daemon, Valkey and PostgreSQL"
        second = await skycap("demo", environ=home)
        assert (second.code, second.out) == (69, "")
        assert f"in use by process {process.pid}" in second.err
        process.send_signal(signal.SIGKILL)
        await process.wait()

        async def all_gone() -> bool:
            return not any(_is_alive(child) for child in children)

        await eventually(all_gone)
        with pytest.raises(OSError, match="onnect"):
            await http.get("/api/health")


async def _works(tries: str) -> None:
    """The commands that it offers to try do what they promise."""
    commands = [shlex.split(line)[1:] for line in tries.splitlines() if line.startswith("  skycap ")]
    assert [command[0] for command in commands] == ["jobs", "top", "enqueue"]
    done = [await skycap(*command) for command in commands]
    assert [each.code for each in done] == [0, 0, 0], [each.err for each in done]
    job_id = done[-1].out.split()[1]

    async def is_completed() -> bool:
        shown = await skycap("jobs", "show", job_id, "--json", *commands[0][2:])
        return bool(shown.json["state"] == "completed")

    await eventually(is_completed)


def _descendants(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        parents.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    try:
        return state.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
