"""LoopMonitor: notices that a handler blocks the event loop, on which all jobs and leases wait, and says which one."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import structlog

from skycap.context import RunningJob

_log = structlog.get_logger("skycap.event_loop")

THRESHOLD = timedelta(milliseconds=250)
STILL_BLOCKED_AFTER = timedelta(seconds=5)

LOOKS_PER_THRESHOLD = 2
"""A block's beginning is known to half of the time between two looks, here 60 ms. Eight looks a second cost about a
thousandth of a CPU; an idle event loop is not woken for them."""

_PYTHON_ITSELF = f"{Path(os.__file__).parent}/"
_SKYCAP = f"{Path(__file__).parents[1]}/"


@dataclass(frozen=True, kw_only=True)
class BlockFigures:
    """How often, how long in all and how long at worst jobs of one kind blocked the event loop."""

    blocked_total: int = 0
    blocked_seconds_total: float = 0.0
    longest_seconds: float = 0.0

    def plus(self, seconds: float) -> BlockFigures:
        return BlockFigures(
            blocked_total=self.blocked_total + 1,
            blocked_seconds_total=self.blocked_seconds_total + seconds,
            longest_seconds=max(self.longest_seconds, seconds),
        )


class LoopMonitor:
    """Watches the event loop that it is started on, from a thread, since a blocked loop cannot watch itself.

    ``job_of`` names the job that a task runs, or None; it is called on the monitor's thread. Blamed is the task that
    runs when the threshold is passed.
    """

    def __init__(
        self,
        job_of: Callable[[asyncio.Task[Any]], RunningJob | None],
        *,
        threshold: timedelta = THRESHOLD,
        still_blocked_after: timedelta = STILL_BLOCKED_AFTER,
    ) -> None:
        self._job_of = job_of
        self._threshold = threshold.total_seconds()
        self._still_blocked_after = still_blocked_after.total_seconds()
        self._interval = self._threshold / LOOKS_PER_THRESHOLD
        self._figures: dict[str, BlockFigures] = {}
        self._signal = threading.Event()
        """Set by the event loop when it answers, and by ``stop``."""
        self._is_stopped = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Watch the running event loop until ``stop``."""
        self._thread = threading.Thread(
            target=self._watch,
            args=(asyncio.get_running_loop(), threading.get_ident()),
            name="skycap event loop monitor",
            daemon=True,
        )
        self._thread.start()

    def stop(self) -> None:
        """End the watch for good."""
        self._is_stopped = True
        self._signal.set()
        if self._thread is not None:
            self._thread.join(timeout=1)  # not for ever: it may be writing to a log that nobody reads

    def figures(self) -> dict[str, BlockFigures]:
        """By kind of job; "" stands for what no job did."""
        return dict(self._figures)

    def _watch(self, loop: asyncio.AbstractEventLoop, loops_thread: int) -> None:
        looked = time.monotonic()
        while not self._signal.wait(self._interval):
            if asyncio.current_task(loop) is not None:
                self._look(looked + self._interval / 2, loop, loops_thread)
            if self._is_stopped:
                return
            self._signal.clear()
            looked = time.monotonic()

    def _look(self, began: float, loop: asyncio.AbstractEventLoop, loops_thread: int) -> None:
        """Ask the event loop to answer, and follow the block that began at ``began`` if it does not in time."""
        left = began + self._threshold - time.monotonic()
        # Without time left, the loop's thread has held the whole interpreter: it is named before it can go on.
        suspect = _suspect(loop, loops_thread, self._job_of) if left <= 0 else None
        loop.call_soon_threadsafe(self._signal.set)
        if suspect is None:
            if self._signal.wait(left):
                return
            suspect = _suspect(loop, loops_thread, self._job_of)
        self._see_through(began, suspect)

    def _see_through(self, began: float, suspect: _Suspect) -> None:
        if not self._signal.wait(max(began + self._still_blocked_after - time.monotonic(), 0)):
            so_far = time.monotonic() - began
            _log.warning("event loop still blocked", seconds=round(so_far, 1), **suspect.fields)
            self._signal.wait()
        if self._is_stopped:
            return
        seconds = time.monotonic() - began
        self._figures[suspect.kind] = self._figures.get(suspect.kind, BlockFigures()).plus(seconds)
        _log.warning("event loop blocked", seconds=round(seconds, 1), **suspect.fields)


@dataclass(frozen=True, kw_only=True)
class _Suspect:
    job: RunningJob | None
    where: str

    @property
    def kind(self) -> str:
        return self.job.kind if self.job else ""

    @property
    def fields(self) -> dict[str, Any]:
        return {"job": self.job and self.job.id, "kind": self.job and self.job.kind, "where": self.where}


def _suspect(
    loop: asyncio.AbstractEventLoop, loops_thread: int, job_of: Callable[[asyncio.Task[Any]], RunningJob | None]
) -> _Suspect:
    task = asyncio.current_task(loop)
    return _Suspect(job=job_of(task) if task else None, where=_where(loops_thread))


def _where(thread: int) -> str:
    """The innermost line in the thread that is neither Python's own nor skycap's; if there is none, the innermost."""
    frames = list(_frames(thread))
    if not frames:
        return "unknown"
    frame = next((each for each in frames if not _is_machinery(each.f_code.co_filename)), frames[0])
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"


def _frames(thread: int) -> Iterator[FrameType]:
    frame = sys._current_frames().get(thread)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # documented so
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_machinery(file: str) -> bool:
    if file.startswith((_SKYCAP, "<frozen")):
        return True
    # Packages may be installed in a folder of Python's own.
    return file.startswith(_PYTHON_ITSELF) and "/site-packages/" not in file
