"""Dependencies: whether the servers that a daemon needs answer, asked once for all who want to know at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

Ping = Callable[[], Awaitable[timedelta]]
"""How long a round trip takes; raises whatever it likes where there is none."""

ANSWER_WITHIN = timedelta(seconds=1.5)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """``response_time`` is None when the server did not answer, for the ``problem``."""

    response_time: timedelta | None
    problem: str = ""

    @property
    def is_up(self) -> bool:
        return self.response_time is not None


class Dependency:
    """One server. Callers at the same time share a ping, and those within ``good_for`` its reading."""

    def __init__(self, ping: Ping, *, good_for: timedelta = timedelta(0)) -> None:
        self._ping = ping
        self._good_for = good_for
        self._asking: asyncio.Task[Reading] | None = None
        self._asked_at = -float("inf")

    async def reading(self) -> Reading:
        """Within ANSWER_WITHIN; never raises."""
        is_old = time.monotonic() - self._asked_at > self._good_for.total_seconds()
        if self._asking is None or (self._asking.done() and is_old):
            self._asked_at = time.monotonic()
            self._asking = asyncio.create_task(self._ask(), name="dependency")
        return await asyncio.shield(self._asking)

    async def _ask(self) -> Reading:
        try:
            async with asyncio.timeout(ANSWER_WITHIN.total_seconds()):
                return Reading(response_time=await self._ping())
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
    """Which migrations the database lacks, asked at most every ``good_for``."""

    def __init__(
        self, missing: Callable[[], Awaitable[Sequence[str]]] | None, *, good_for: timedelta = timedelta(minutes=1)
    ) -> None:
        self._missing = missing
        self._good_for = good_for.total_seconds()
        self._known: Sequence[str] | None = None
        self._known_at = -float("inf")

    async def missing(self) -> Sequence[str] | None:
        """None where there is no database, or nobody knows."""
        if self._missing is None:
            return None
        if time.monotonic() - self._known_at > self._good_for:
            try:
                async with asyncio.timeout(ANSWER_WITHIN.total_seconds()):
                    self._known = await self._missing()
            except Exception:  # noqa: BLE001 - whatever keeps it from being known is told as the database's state
                return self._known
            self._known_at = time.monotonic()
        return self._known


async def _reading(dependency: Dependency | None) -> Reading | None:
    return None if dependency is None else await dependency.reading()
