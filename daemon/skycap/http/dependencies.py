"""Dependencies: whether the servers that a daemon needs answer, asked once for all who want to know at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

Ping = Callable[[], Awaitable[timedelta]]
"""How long a round trip takes; raises whatever it likes where there is none."""

ANSWER_WITHIN = timedelta(seconds=1.5)

_T = TypeVar("_T")


class SharedCall(Generic[_T]):
    """Callers at the same time share a call; those within ``good_for`` its answer, within ``bad_for`` its failure."""

    def __init__(
        self,
        call: Callable[[], Awaitable[_T]],
        *,
        good_for: timedelta = timedelta(0),
        bad_for: timedelta = timedelta(0),
    ) -> None:
        self._call = call
        self._good_for = good_for.total_seconds()
        self._bad_for = bad_for.total_seconds()
        self._task: asyncio.Task[_T] | None = None
        self._began = 0.0

    async def answer(self) -> _T:
        """Raises TimeoutError after ANSWER_WITHIN, and what the call raises."""
        task = self._task
        if task is None or self._is_used_up(task):
            task = self._task = asyncio.create_task(self._made(), name="shared call")
            self._began = time.monotonic()
        left = self._began + ANSWER_WITHIN.total_seconds() - time.monotonic()
        await asyncio.wait((task,), timeout=max(0.0, left))
        if not task.done():
            # Nobody waits until it has heeded that: a driver may first ask the server that does not answer.
            task.cancel()
        if not task.done() or task.cancelled():
            raise TimeoutError
        return task.result()

    async def _made(self) -> _T:
        return await self._call()

    def _is_used_up(self, task: asyncio.Task[_T]) -> bool:
        if not task.done():
            return False
        failed = task.cancelled() or task.exception() is not None
        return time.monotonic() - self._began > (self._bad_for if failed else self._good_for)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """``response_time`` is None when the server did not answer, for the ``problem``."""

    response_time: timedelta | None
    problem: str = ""

    @property
    def is_up(self) -> bool:
        return self.response_time is not None


class Dependency:
    """One server. Whoever asks while it is asked, or within ``good_for`` afterwards, causes no ping."""

    def __init__(self, ping: Ping, *, good_for: timedelta = timedelta(0)) -> None:
        self._ping = SharedCall(ping, good_for=good_for, bad_for=good_for)

    async def reading(self) -> Reading:
        """Within ANSWER_WITHIN; never raises."""
        try:
            return Reading(response_time=await self._ping.answer())
        except TimeoutError:
            return Reading(response_time=None, problem=f"no answer within {ANSWER_WITHIN.total_seconds():g} s")
        except Exception as error:  # noqa: BLE001 - a server that answers with nonsense does not answer
            return Reading(response_time=None, problem=str(error) or type(error).__name__)


class Dependencies:
    """By name; those that this installation does not have are None."""

    def __init__(self, found: Mapping[str, Dependency | None]) -> None:
        self._found = found

    async def readings(self) -> dict[str, Reading | None]:
        """Of all, in their order."""
        readings = await asyncio.gather(*(_reading(each) for each in self._found.values()))
        return dict(zip(self._found, readings, strict=True))


class Schema:
    """Which migrations the database lacks, asked at most once a minute."""

    def __init__(self, missing: Callable[[], Awaitable[Sequence[str]]] | None) -> None:
        self._missing = None if missing is None else SharedCall(missing, good_for=timedelta(minutes=1))

    async def missing(self) -> Sequence[str] | None:
        """None where there is no database, or nobody knows."""
        if self._missing is None:
            return None
        try:
            return await self._missing.answer()
        except Exception:  # noqa: BLE001 - whatever keeps it from being known is told as the database's state
            return None


async def _reading(dependency: Dependency | None) -> Reading | None:
    return None if dependency is None else await dependency.reading()
