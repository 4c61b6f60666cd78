"""What a terminal gets that a pipe does not: colours, tables that fit, and how far long work is."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import struct
import sys
import termios
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from skycap import AsyncClient
from skycap.cli.cells import width_of
from skycap.cli.progress import working
from skycap.engine.queue import DeadOnArrival, NewJob
from skycap.outcome import DeadReason
from tests.support.daemons import CLEAN, Site, skycap
from tests.support.workers import Note, eventually

GREEN = "\x1b[32mloaded\x1b[0m"
PLAIN = {name: value for name, value in CLEAN.items() if name not in {"NO_COLOR", "FORCE_COLOR", "COLUMNS"}}


async def on_terminal(*arguments: str | Path, columns: int = 80, environ: dict[str, str] | None = None) -> str:
    """What is printed where stdout and stderr are the same terminal."""
    return (await _run(arguments, columns, environ or {}, stdout_too=True))[1]


async def with_progress(*arguments: str | Path) -> tuple[str, str]:
    """What a pipe gets, and what the terminal does, which stderr alone is."""
    return await _run(arguments, 80, {}, stdout_too=False)


@pytest.mark.parametrize(
    ("environ", "is_coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
async def test_states_are_coloured_on_a_terminal(environ: dict[str, str], is_coloured: bool) -> None:
    printed = await on_terminal("plugins", "list", environ={"TERM": "xterm"} | environ)
    assert (GREEN in printed, "\x1b" in printed) == (is_coloured, is_coloured)


@pytest.mark.parametrize(("environ", "is_coloured"), [({}, False), ({"FORCE_COLOR": "1"}, True)])
async def test_a_pipe_gets_colours_only_if_it_asks(environ: dict[str, str], is_coloured: bool) -> None:
    done = await skycap("plugins", "list", environ=environ)
    assert (GREEN in done.out) is is_coloured


async def test_a_table_fits_the_terminal_and_a_pipe_gets_it_whole() -> None:
    narrow = (await on_terminal("kinds", columns=90, environ={"NO_COLOR": "1"})).splitlines()
    assert max(width_of(line) for line in narrow) <= 90
    assert any("…" in line for line in narrow)
    assert "analyze-stale-tables" in "\n".join(narrow), "the first column, by which one asks, is never shortened"
    assert "…" not in (await skycap("kinds")).out


async def test_long_work_shows_on_a_terminal_how_far_it_is(redis_url: str, tmp_path: Path) -> None:
    site = Site(folder=tmp_path, redis_url=redis_url)
    async with AsyncClient(redis_url) as client:
        envelopes = [client.envelope(Note(text=str(number))) for number in range(200)]
        dead = DeadOnArrival(reason=DeadReason.PERMANENT, error="no")
        await client.queue("default").add([NewJob(envelope=replace(each), dead=dead) for each in envelopes])
    redriven, shown = await with_progress("dead", "redrive", "--all", "--config", site.config, "--json")
    assert redriven.split() == ["{", '"redriven":', "200,", '"missing":', "[]", "}"]
    assert "redriving" in shown
    assert "200/200" in shown


async def test_work_of_unknown_length_says_how_long_it_takes_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    shown = ""

    async def is_shown(text: str) -> bool:
        nonlocal shown
        with suppress(BlockingIOError):
            shown += os.read(ours, 65536).decode()
        return text in shown

    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setenv("TERM", "xterm")
        async with working("replaying") as say:
            await eventually(lambda: is_shown("replaying, "))
            say("copying: 2,000 rows")
            await eventually(lambda: is_shown("copying: 2,000 rows, "))
        await eventually(lambda: is_shown("rows, "))
        assert shown.endswith("\r\x1b[K")
    os.close(ours)


async def _run(
    arguments: tuple[str | Path, ...], columns: int, environ: dict[str, str], *, stdout_too: bool
) -> tuple[str, str]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "skycap", *map(str, arguments)),
        env={"TERM": "xterm", **PLAIN, **environ},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=theirs if stdout_too else asyncio.subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    shown = asyncio.create_task(asyncio.to_thread(_all_of, ours))
    out, _ = await process.communicate()
    text = await shown
    os.close(ours)
    return (out or b"").decode(), text.replace("\r\n", "\n")


def _all_of(terminal: int) -> str:
    read = b""
    while True:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # nobody has it open any more
            chunk = b""
        if not chunk:
            return read.decode()
        read += chunk
