"""FullScreen: the terminal as a screen of lines, which is given back as it was, however the command ends."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import termios
import tty
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Literal, Self

Event = Literal["quit", "resized"]

_QUIT_KEYS: Final = frozenset(b"qQ\x1b\x04")
"""q, Escape and Ctrl-D; Ctrl-C is a signal."""
_FUNCTION_KEY: Final = re.compile(rb"\x1b[\[O][0-9;]*[A-Za-z~]")
"""An arrow begins as Escape does."""

# Another screen without a cursor, whose lines are cut off at its edge instead of wrapped.
_ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l"
_LEAVE: Final = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME: Final = "\x1b[H"
_BLANK_LINE: Final = "\x1b[2K"
"""Before its words: after the last column, clearing the rest of the line would take that column, too."""
_TO_END: Final = "\x1b[J"

_END_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class FullScreen:
    """``async with FullScreen() as screen``; what happens to it comes out of ``events``."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._stdin = sys.stdin.fileno() if sys.stdin.isatty() else None
        self._attributes = None if self._stdin is None else termios.tcgetattr(self._stdin)

    async def __aenter__(self) -> Self:
        self._take()
        for each in _END_SIGNALS:
            self._loop.add_signal_handler(each, self._happened, "quit")
        self._loop.add_signal_handler(signal.SIGWINCH, self._happened, "resized")
        self._loop.add_signal_handler(signal.SIGTSTP, self._suspend)
        if self._stdin is not None:
            self._loop.add_reader(self._stdin, self._key, self._stdin)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stdin is not None:
            self._loop.remove_reader(self._stdin)
        for each in (*_END_SIGNALS, signal.SIGWINCH, signal.SIGTSTP):
            self._loop.remove_signal_handler(each)
        self._give_back()

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines; as old terminals had where it says none, as some over a serial line."""
        columns, lines = os.get_terminal_size(sys.stdout.fileno())
        return columns or 80, lines or 24

    def draw(self, lines: Sequence[str]) -> None:
        """Over what is there, so that nothing flickers; lines that the screen has no room for are left out."""
        shown = [_BLANK_LINE + line for line in lines[: self.size[1]]]
        _write(_HOME + "\n".join(shown) + _TO_END)

    def _happened(self, event: Event) -> None:
        self.events.put_nowait(event)

    def _key(self, stdin: int) -> None:
        typed = os.read(stdin, 64)
        if not typed or _QUIT_KEYS.intersection(_FUNCTION_KEY.sub(b"", typed)):  # nothing: the terminal is gone
            self._happened("quit")

    def _suspend(self) -> None:
        """Ctrl-Z: the shell gets its terminal, and after ``fg`` we have ours again."""
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()
        self._happened("resized")

    def _take(self) -> None:
        if self._stdin is not None:
            tty.setcbreak(self._stdin)
        _write(_ENTER)

    def _give_back(self) -> None:
        _write(_LEAVE)
        if self._stdin is not None and self._attributes is not None:
            termios.tcsetattr(self._stdin, termios.TCSADRAIN, self._attributes)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
