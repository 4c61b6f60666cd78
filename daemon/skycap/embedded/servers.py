"""Both embedded servers as one: found, started together, published, stopped."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Self

from skycap.embedded.binaries import Programs, find_programs
from skycap.embedded.folder import Addresses, DataFolder
from skycap.embedded.postgres import Postgres
from skycap.embedded.privileges import choose_identity, give
from skycap.embedded.process import Place
from skycap.embedded.valkey import Valkey


class EmbeddedServers:
    """A private Valkey and PostgreSQL that keep their data in ``folder`` and end with this process.

    They end with the thread that starts them, even: start them from one that lives as long as they are needed. Any
    event loop will do, for ``stop`` also another one. Raises EmbeddedUnavailable, and leaves nothing running, when they
    cannot be started.
    """

    def __init__(self, folder: Path, *, redis: bool = True, database: bool = True) -> None:
        self._wanted = (redis, database)
        self._folder = DataFolder(folder)
        self._valkey: Valkey | None = None
        self._postgres: Postgres | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def redis_url(self) -> str:
        if self._valkey is None:
            raise RuntimeError("the embedded Valkey is not started")
        return self._valkey.url

    @property
    def database_url(self) -> str:
        if self._postgres is None:
            raise RuntimeError("the embedded PostgreSQL is not started")
        return self._postgres.url

    async def start(self) -> None:
        """Return once both answer and ``read_addresses`` finds them."""
        redis, database = self._wanted
        programs = find_programs(redis=redis, database=database)
        await self._folder.claim()
        try:
            await self._start(programs)
        except BaseExceptionGroup as failures:
            await self.stop()
            raise failures.exceptions[0] from None  # two that failed at once have one cause, or are mended one by one
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop both in good order. Does nothing when they are not started."""
        self._folder.withdraw()
        await asyncio.gather(*(server.stop() for server in (self._valkey, self._postgres) if server))
        self._valkey = self._postgres = None
        self._folder.release()

    async def _start(self, programs: Programs) -> None:
        place = await self._prepare(programs)
        self._valkey = Valkey(programs.valkey, place) if programs.valkey else None
        self._postgres = Postgres(programs.postgres, place) if programs.postgres else None
        async with asyncio.TaskGroup() as starting:
            for server in (self._valkey, self._postgres):
                if server:
                    starting.create_task(server.start())
        self._folder.publish(
            Addresses(
                redis_url=self._valkey.url if self._valkey else None,
                database_url=self._postgres.url if self._postgres else None,
            )
        )

    async def _prepare(self, programs: Programs) -> Place:
        folder = self._folder
        identity = await asyncio.to_thread(choose_identity, folder.path, *programs.files)
        sockets = give(folder.sockets, identity)
        return Place(folder=folder.path, sockets=sockets, identity=identity, lock=folder.servers_lock)
