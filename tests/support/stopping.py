"""Programs that are stopped (SIGSTOP) for a while: their connections stay open, and nobody answers on them."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def stopped(*pids: int) -> Generator[None]:
    """With all their children, as of now. Linux only."""
    tree = [each for pid in pids for each in _with_children(pid)]
    for pid in tree:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in tree:
            os.kill(pid, signal.SIGCONT)


def _with_children(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in _with_children(int(child)))]
