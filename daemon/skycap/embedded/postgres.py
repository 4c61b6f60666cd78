"""The embedded PostgreSQL: a cluster of its own with one database, on a unix socket."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import subprocess
from datetime import timedelta
from pathlib import Path

from skycap.embedded.binaries import EmbeddedUnavailable
from skycap.embedded.privileges import give, reachable_postgres
from skycap.embedded.process import Child, Place

_PORT = 5432
"""Only a part of the socket's name."""
_CREATE_LIMIT = timedelta(seconds=120)
_START_LIMIT = timedelta(seconds=120)
"""After a kill it first goes through its log again."""
_STOP_LIMIT = timedelta(seconds=20)

_BUILTIN_LOCALE_MAJOR = 17
_STATUS_LINE = 7
"""Of postmaster.pid, from 0: LOCK_FILE_LINE_PM_STATUS in PostgreSQL's miscadmin.h, which pg_ctl reads likewise."""


class Postgres:
    """A PostgreSQL in ``place``, started from ``programs``, a folder with ``initdb`` and ``postgres``."""

    def __init__(self, programs: Path, place: Place) -> None:
        self._programs = programs
        self._place = place
        self._cluster = place.folder / "pg"
        self._child: Child | None = None

    @property
    def url(self) -> str:
        return f"postgresql://skycap@/skycap?host={self._place.sockets}&port={_PORT}"

    async def start(self) -> None:
        """Return once it takes connections; the first time, after making the cluster and the database ``skycap``."""
        self._programs = await asyncio.to_thread(reachable_postgres, self._programs, self._place.identity)
        major = await asyncio.to_thread(_major, self._programs)
        if self._cluster.exists():
            self._refuse_other_major(major)
        else:
            await self._create_cluster(major)
        give(self._cluster, self._place.identity)
        # The lock that every server process holds is ours, so none is left, whatever runs under the id in this file.
        self._pid_file.unlink(missing_ok=True)
        self._child = self._run("postgres", "-D", self._cluster, *self._settings(), stop_signal=signal.SIGINT)
        await self._child.until_ready(self._takes_connections, limit=_START_LIMIT)

    async def stop(self) -> None:
        if self._child:
            await self._child.stop(limit=_STOP_LIMIT)

    @property
    def _pid_file(self) -> Path:
        return self._cluster / "postmaster.pid"

    def _refuse_other_major(self, major: int) -> None:
        made_by = int((self._cluster / "PG_VERSION").read_text(encoding="ascii"))
        if made_by != major:
            raise EmbeddedUnavailable(
                f"{self._cluster} was made by PostgreSQL {made_by}, but {self._programs} is PostgreSQL {major}, which "
                f"cannot read it: install PostgreSQL {made_by}, or choose another data folder, or move this one away"
            )

    async def _create_cluster(self, major: int) -> None:
        """Make it under another name first, so that a cluster that has its own name is whole."""
        unfinished = self._cluster.with_name("pg.new")
        if unfinished.exists():
            shutil.rmtree(unfinished)
        give(unfinished, self._place.identity)
        await self._run_to_end("initdb", "-D", unfinished, *_initdb_options(major))
        # A single-user server needs no socket and no wait. -F, and initdb's --no-sync: nothing is here to lose yet.
        single = ("postgres", "--single", "-F", "-D", unfinished, "-c", "exit_on_error=on", "postgres")
        await self._run_to_end(*single, stdin=b"CREATE DATABASE skycap;\n")
        unfinished.rename(self._cluster)

    def _settings(self) -> list[str]:
        settings = {
            "listen_addresses": "",
            "port": str(_PORT),
            "unix_socket_directories": str(self._place.sockets),
            "unix_socket_permissions": "0700",
            "max_connections": "50",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        if _has_library(self._programs, "pg_stat_statements"):
            settings["shared_preload_libraries"] = "pg_stat_statements"
        return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]

    async def _takes_connections(self) -> bool:
        try:
            lines = self._pid_file.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > _STATUS_LINE and lines[_STATUS_LINE].strip() == "ready"

    async def _run_to_end(self, program: str, *arguments: str | Path, stdin: bytes = b"") -> None:
        child = self._run(program, *arguments, stop_signal=signal.SIGKILL, stdin=stdin)
        try:
            await child.until_done(limit=_CREATE_LIMIT)
        finally:
            await child.stop(limit=_STOP_LIMIT)

    def _run(self, program: str, *arguments: str | Path, stop_signal: signal.Signals, stdin: bytes = b"") -> Child:
        log = self._place.folder / f"{program}.log"
        path = self._programs / program
        return Child(path, *arguments, place=self._place, log=log, stop_signal=stop_signal, stdin=stdin)


def _major(programs: Path) -> int:
    """From ``postgres (PostgreSQL) 18.6`` and the like."""
    postgres = programs / "postgres"
    told = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"\(PostgreSQL\) (\d+)", told.stdout)
    if found is None:
        raise EmbeddedUnavailable(f"{postgres} does not run here: {told.stderr.strip() or told.stdout.strip()}")
    return int(found[1])


def _initdb_options(major: int) -> list[str]:
    # Built in, the order of texts is the same on every machine; before 17 it was the C library's.
    locale = ["--locale-provider=builtin"] if major >= _BUILTIN_LOCALE_MAJOR else []
    return [
        "--username=skycap",
        "--auth=trust",  # who can enter the socket's folder is its owner
        "--encoding=UTF8",
        *locale,
        "--locale=C.UTF-8",
        "--wal-segsize=4",
        "--no-sync",
        "--no-instructions",
    ]


def _has_library(programs: Path, name: str) -> bool:
    folders = ("lib", "lib/postgresql", "lib64/pgsql", "lib/pgsql")
    return any((programs.parent / folder / f"{name}.so").exists() for folder in folders)
