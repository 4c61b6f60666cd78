"""The embedded Valkey (or Redis): a unix socket, an append-only file, nothing evicted."""

from __future__ import annotations

import asyncio
import signal
from datetime import timedelta
from pathlib import Path

from skycap.embedded.privileges import give
from skycap.embedded.process import Child, Place

_START_LIMIT = timedelta(seconds=60)
"""It reads its whole append-only file first."""
_STOP_LIMIT = timedelta(seconds=10)


class Valkey:
    """A Valkey in ``place``, started from ``program``."""

    def __init__(self, program: Path, place: Place) -> None:
        self._program = program
        self._place = place
        self._socket = place.sockets / "valkey.sock"
        self._child: Child | None = None

    @property
    def url(self) -> str:
        return f"unix://{self._socket}"

    async def start(self) -> None:
        """Return once it answers; what it held when it was stopped or killed is there again."""
        data = give(self._place.folder / "valkey", self._place.identity)
        settings: dict[str, str | Path] = {
            "port": "0",
            "unixsocket": self._socket,
            "unixsocketperm": "700",
            "dir": data,
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        arguments = (word for name, value in settings.items() for word in (f"--{name}", value))
        log = self._place.folder / "valkey.log"
        self._child = Child(self._program, *arguments, place=self._place, log=log, stop_signal=signal.SIGTERM)
        await self._child.until_ready(self._answers, limit=_START_LIMIT)

    async def stop(self) -> None:
        if self._child:
            await self._child.stop(limit=_STOP_LIMIT)

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_unix_connection(self._socket)
        except OSError:
            return False
        try:
            writer.write(b"PING\r\n")
            return await reader.readline() == b"+PONG\r\n"  # or -LOADING
        except OSError:
            return False
        finally:
            writer.close()
