"""How far long work is: on stderr, and only where that is a terminal, so that pipes and logs stay clean."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress

import click

_SHOWN_AFTER_SECONDS = 0.5
_EVERY_SECONDS = 0.2
_FRAMES = "|/-\\"
_CLEARED = "\r\x1b[K"


def is_shown() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


@contextmanager
def progress(label: str, total: int) -> Generator[Callable[[], None]]:
    """A bar for ``total`` steps; what it gives is called after each."""
    with click.progressbar(length=total, label=label, show_pos=True, file=sys.stderr, hidden=not is_shown()) as bar:
        yield lambda: bar.update(1)


@asynccontextmanager
async def working(label: str) -> AsyncGenerator[Callable[[str], None]]:
    """For work of unknown length: ``label`` and how long it takes already; what it gives changes the label."""
    current = [label]

    async def draw() -> None:
        began = time.monotonic()
        await asyncio.sleep(_SHOWN_AFTER_SECONDS)
        for frame in itertools.cycle(_FRAMES):
            print(f"{_CLEARED}{frame} {current[0]}, {time.monotonic() - began:.0f} s", end="", file=sys.stderr)
            sys.stderr.flush()
            await asyncio.sleep(_EVERY_SECONDS)

    def say(text: str) -> None:
        current[0] = text

    if not is_shown():
        yield say
        return
    drawing = asyncio.create_task(draw())
    try:
        yield say
    finally:
        drawing.cancel()
        with suppress(asyncio.CancelledError):
            await drawing
        print(_CLEARED, end="", file=sys.stderr, flush=True)
