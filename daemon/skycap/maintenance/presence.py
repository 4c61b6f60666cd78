"""Presence: a daemon that is there says so, for as long as it is."""

from __future__ import annotations

import asyncio
import platform
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib import metadata
from os import getpid
from pathlib import Path
from resource import getpagesize

from skycap.engine.fleet import Fleet, Presence, Slots
from skycap.errors import Unavailable

INTERVAL = timedelta(seconds=5)

_TIME_TO_LEAVE = timedelta(seconds=1)


class PresenceTeller:
    """Tells the fleet of one daemon every INTERVAL. While Redis is away it goes on trying, and nobody is told of it."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        daemon_id: str,
        slots: Callable[[], Mapping[str, Slots]],
        is_draining: Callable[[], bool],
        interval: timedelta = INTERVAL,
    ) -> None:
        self._fleet = fleet
        self._id = daemon_id
        self._slots = slots
        self._is_draining = is_draining
        self._interval = interval.total_seconds()
        self._started_at = datetime.now(UTC)

    async def run(self) -> None:
        """For ever; when it is cancelled, the fleet is told that the daemon is gone."""
        try:
            while True:
                with suppress(Unavailable):
                    await self._fleet.tell(self.now())
                await asyncio.sleep(self._interval)
        finally:
            with suppress(Unavailable, TimeoutError):
                async with asyncio.timeout(_TIME_TO_LEAVE.total_seconds()):
                    await self._fleet.leave(self._id)

    def now(self) -> Presence:
        return Presence(
            id=self._id,
            host=socket.gethostname(),
            process=getpid(),
            version=metadata.version("skycap"),
            python=platform.python_version(),
            started_at=self._started_at,
            queues=self._slots(),
            memory_bytes=resident_bytes(),
            is_draining=self._is_draining(),
        )


def resident_bytes() -> int:
    """The memory that this process has in use; 0 where the system does not say so in /proc/self."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return 0
    return int(pages) * getpagesize()
