"""PostgreSQL servers of a test's own, to be stopped and killed: a primary, and a standby that streams from it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import asyncpg

from skycap.embedded.binaries import find_programs
from skycap.embedded.privileges import choose_identity, give, reachable_postgres
from skycap.embedded.process import Child, Place
from tests.support.skips import skip
from tests.support.workers import eventually

_LIMIT = timedelta(seconds=60)
_QUIET = ("-c", "fsync=off", "-c", "timezone=UTC", "-c", "log_timezone=UTC", "-c", "listen_addresses=")


class PostgresServer:
    """A server with the database ``postgres`` on a unix socket; ``settings`` as for ``postgres -c``."""

    def __init__(self, programs: Path, place: Place, cluster: Path, *, port: int, settings: tuple[str, ...]) -> None:
        self._programs = programs
        self._place = place
        self._port = port
        self._settings = settings
        self._child: Child | None = None
        self.cluster = cluster

    @property
    def url(self) -> str:
        return f"postgresql://skycap@/postgres?host={self._place.sockets}&port={self._port}"

    async def start(self) -> None:
        """Return once it takes connections."""
        options = ("-p", str(self._port), "-k", self._place.sockets, *_QUIET)
        own = tuple(word for setting in self._settings for word in ("-c", setting))
        self._child = self.run("postgres", "-D", self.cluster, *options, *own)
        await eventually(self._answers)

    async def stop(self) -> None:
        """A fast shutdown: everybody is disconnected."""
        if self._child is not None:
            await self._child.stop(limit=_LIMIT)
            self._child = None

    async def crash(self) -> None:
        """An immediate shutdown: nobody says farewell, and the next start has to recover."""
        self._signal(signal.SIGQUIT)
        await self.stop()

    @property
    def pid(self) -> int:
        """Of the server's main process."""
        return int((self.cluster / "postmaster.pid").read_text().splitlines()[0])

    def _signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def set(self, name: str, value: str | None) -> None:
        """For all sessions, those that are open included."""
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute("SET default_transaction_read_only = off")
            await connection.execute(
                f"ALTER SYSTEM RESET {name}" if value is None else f"ALTER SYSTEM SET {name} = {value}"
            )
            await connection.execute("SELECT pg_reload_conf()")
        finally:
            await connection.close()

    @asynccontextmanager
    async def standby(self) -> AsyncGenerator[PostgresServer]:
        """A copy made by pg_basebackup that follows this server, stopped at the end."""
        if not (self._programs / "pg_basebackup").exists():
            skip("pg_basebackup is not installed (Debian's package postgresql)")
        copy = self.cluster.with_name("standby")
        source = ("-h", self._place.sockets, "-p", str(self._port), "-U", "skycap")
        await self.run("pg_basebackup", *source, "-D", copy, "-R", "-X", "stream", "-c", "fast", "-N").until_done(
            limit=_LIMIT
        )
        standby = PostgresServer(self._programs, self._place, copy, port=self._port + 1, settings=())
        await standby.start()
        try:
            yield standby
        finally:
            await standby.stop()

    def run(self, program: str, *arguments: str | Path) -> Child:
        log = self._place.folder / f"{program}-{self._port}.log"
        return Child(self._programs / program, *arguments, place=self._place, log=log, stop_signal=signal.SIGINT)

    async def _answers(self) -> bool:
        try:
            connection = await asyncpg.connect(self.url, timeout=1)
        except (OSError, asyncpg.PostgresError):
            return False
        await connection.close()
        return True


@asynccontextmanager
async def postgres_server(*settings: str) -> AsyncGenerator[PostgresServer]:
    """A new server, gone at the end with all its data."""
    folder = Path(tempfile.mkdtemp(prefix="skycap-"))  # a socket's path must be short
    try:
        programs = find_programs(redis=False, database=True).postgres
        assert programs is not None
        identity = await asyncio.to_thread(choose_identity, folder, programs / "initdb", programs / "postgres")
        programs = await asyncio.to_thread(reachable_postgres, programs, identity)
        give(folder, identity)
        lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            place = Place(folder=folder, sockets=folder, identity=identity, lock=lock)
            server = PostgresServer(programs, place, folder / "primary", port=5432, settings=settings)
            command = ("-D", server.cluster, "-U", "skycap", "-A", "trust", "--encoding=UTF8", "--locale=C", "-N")
            await server.run("initdb", *command).until_done(limit=_LIMIT)
            await server.start()
            try:
                yield server
            finally:
                await server.stop()
        finally:
            os.close(lock)
    finally:
        shutil.rmtree(folder)
