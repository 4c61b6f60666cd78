"""Attempts: those that are being made now, each with the time that it may take."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any, Self

from skycap.context import RunningJob

_LOOK_SECONDS = 0.02
"""How far past its limit an attempt may get. One look at all of them is cheaper than a timer for each."""


class Attempts:
    """Cancels the task of an attempt that takes too long."""

    def __init__(self) -> None:
        self._limited: dict[asyncio.Task[Any], _Attempt] = {}
        self._timer: asyncio.TimerHandle | None = None

    def limited_to(self, seconds: float, job: RunningJob) -> _Attempt:
        """A block that is cancelled after ``seconds``; then ``is_out_of_time``, and no CancelledError comes out."""
        return _Attempt(self, time.monotonic() + seconds, job)

    def job_of(self, task: asyncio.Task[Any] | None) -> RunningJob | None:
        """The job that a task runs; may be asked from another thread."""
        attempt = self._limited.get(task) if task is not None else None
        return attempt.job if attempt else None

    def begin(self, attempt: _Attempt, task: asyncio.Task[Any]) -> None:
        self._limited[task] = attempt
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)

    def end(self, task: asyncio.Task[Any]) -> None:
        self._limited.pop(task, None)

    def _look(self) -> None:
        now = time.monotonic()
        for task, attempt in self._limited.items():
            if now >= attempt.ends_at and not attempt.is_out_of_time:
                attempt.is_out_of_time = True
                task.cancel()
        self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look) if self._limited else None


class _Attempt:
    """One of them; a context manager around what it does."""

    __slots__ = ("_attempts", "_task", "ends_at", "is_out_of_time", "job")

    def __init__(self, attempts: Attempts, ends_at: float, job: RunningJob) -> None:
        self._attempts = attempts
        self._task: asyncio.Task[Any] | None = None
        self.ends_at = ends_at
        self.job = job
        self.is_out_of_time = False

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        if self._task is not None:
            self._attempts.begin(self, self._task)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if self._task is None:
            return False
        self._attempts.end(self._task)
        if not self.is_out_of_time:
            return False
        # As asyncio.timeout does: what is left after taking back our own cancellation is somebody else's.
        return self._task.uncancel() == 0 and kind is not None and issubclass(kind, asyncio.CancelledError)
