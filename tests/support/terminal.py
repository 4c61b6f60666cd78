"""Terminal: a pseudo-terminal with a program in it, as a person sees and types it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import signal
import struct
import sys
import termios
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from tests.support.daemons import CLEAN
from tests.support.workers import PATIENCE, eventually

ENTERED: Final = "\x1b[?1049h"
LEFT: Final = "\x1b[?1049l"

# A session of its own has no terminal before it takes one; without, no Ctrl-C and no change of size would reach it.
_TAKE_TERMINAL: Final = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """Made by ``terminal()``."""

    def __init__(self, master: int, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._master = master
        self._said = bytearray()
        self._news = asyncio.Event()
        asyncio.get_running_loop().add_reader(master, self._read)

    @property
    def output(self) -> str:
        """All that came, with what steers a terminal."""
        return self._said.decode(errors="replace")

    @property
    def frame(self) -> list[str]:
        """The lines of the newest whole screen, without colours."""
        frames = re.findall(r"\x1b\[H(.*?)\x1b\[J", self.output, re.DOTALL)
        return [] if not frames else re.sub(r"\x1b\[[0-9;]*[mK]", "", str(frames[-1])).split("\r\n")

    @property
    def attributes(self) -> list[Any]:
        """How it treats what is typed."""
        return termios.tcgetattr(self._master)

    async def until_stopped(self) -> None:
        """As by Ctrl-Z, of which only /proc tells."""
        await eventually(self._is_stopped)

    async def _is_stopped(self) -> bool:
        return self._state() == "T"

    def _state(self) -> str:
        state = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2]
        return state.split()[0]

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once ``condition`` holds, which is asked whenever something comes."""
        try:
            async with asyncio.timeout(PATIENCE.total_seconds()):
                while not condition():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError("\n".join(["the screen never came to it:", *self.frame])) from None

    def _read(self) -> None:
        try:
            self._said += os.read(self._master, 65536)
        except OSError:  # the other side is closed
            asyncio.get_running_loop().remove_reader(self._master)
        self._news.set()


@asynccontextmanager
async def terminal(
    *arguments: str, columns: int = 80, lines: int = 24, environ: dict[str, str] | None = None
) -> AsyncGenerator[Terminal]:
    """``skycap ARGUMENTS`` in a terminal of that size, killed at the end if it still runs."""
    master, slave = os.openpty()
    os.set_blocking(master, False)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _TAKE_TERMINAL, sys.executable, "-m", "skycap", *arguments),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env={**CLEAN, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **(environ or {})},
    )
    shown = Terminal(master, process)
    try:
        yield shown
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
            await process.wait()
        asyncio.get_running_loop().remove_reader(master)
        os.close(master)
        os.close(slave)
