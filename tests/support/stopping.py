"""Programs that are stopped (SIGSTOP) for a while: their connections stay open, and nobody answers on them."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def stopped(*pids: int) -> Generator[None]:
    """With all their children, as of now. Linux only."""
    tree = [each for pid in pids for each in _stop(pid)]
    try:
        yield
    finally:
        for pid in tree:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _stop(pid: int) -> list[int]:
    """Who was stopped: a parent first, so that no more children come. One that ends meanwhile needs no stopping."""
    try:
        os.kill(pid, signal.SIGSTOP)
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (ProcessLookupError, FileNotFoundError):
        return []
    return [pid, *(each for child in children for each in _stop(int(child)))]
