"""A child process that cannot outlive this one: its start, the wait until it is ready, its stop."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from skycap.embedded.binaries import EmbeddedUnavailable
from skycap.embedded.privileges import Identity
from skycap.embedded.waiting import until

_LOG_TAIL_LINES = 12
_KILL_LIMIT = timedelta(seconds=10)
"""Only a process that the kernel itself holds up takes longer to die."""


class ServerFailed(EmbeddedUnavailable):
    """A server, or a program that prepares one, failed or was not ready in time; the message ends with its log."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where and as whom the servers run; ``lock`` is a file descriptor that they and their children keep open."""

    folder: Path
    sockets: Path
    identity: Identity
    lock: int


class Child:
    """A running program. It gets ``stop_signal`` from ``stop()``, and (on Linux) when its parent dies in whatever way.

    To the kernel the parent is the *thread* that made the Child: it must live as long as the program is needed.
    """

    # Not subprocess' preexec_fn: that runs Python between fork and exec, in a copy of a program with threads, and may
    # hang there on a lock that another thread held. A script that execs costs 20 ms, and no copy of our memory.
    def __init__(
        self, *command: str | Path, place: Place, log: Path, stop_signal: signal.Signals, stdin: bytes = b""
    ) -> None:
        self._name = Path(command[0]).name
        self._log = log
        self._stop_signal = stop_signal
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with tempfile.TemporaryFile() as source, os.fdopen(os.open(log, flags, 0o600), "wb") as output:
            source.write(stdin)
            source.seek(0)
            self._process = subprocess.Popen(
                place.identity.launch_command(*command, death_signal=stop_signal),
                cwd=place.folder,
                env=_environment(),
                stdin=source,
                stdout=output,
                stderr=output,
                pass_fds=(place.lock,),
                start_new_session=True,  # Ctrl-C on the terminal is for us; we stop the servers when we are done
            )

    async def until_ready(self, is_ready: Callable[[], Awaitable[bool]], *, limit: timedelta) -> None:
        """Return once ``is_ready``. Raises ServerFailed as soon as the program has ended, or after ``limit``."""

        async def runs_and_is_ready() -> bool:
            if await self._has_ended():
                raise self._failure(f"ended with status {self._process.returncode}")
            return await is_ready()

        try:
            await until(runs_and_is_ready, limit=limit)
        except TimeoutError:
            raise self._failure(f"was not ready within {limit.total_seconds():g} s") from None

    async def until_done(self, *, limit: timedelta) -> None:
        """Return once the program has ended well. Raises ServerFailed when it did not, or not within ``limit``."""
        try:
            await until(self._has_ended, limit=limit)
        except TimeoutError:
            raise self._failure(f"was not done within {limit.total_seconds():g} s") from None
        if self._process.returncode != 0:
            raise self._failure(f"ended with status {self._process.returncode}")

    async def stop(self, *, limit: timedelta) -> None:
        """Stop it in good order, or with SIGKILL after ``limit``. Does nothing when it has ended."""
        if not await self._has_ended():
            self._process.send_signal(self._stop_signal)
        try:
            await until(self._has_ended, limit=limit)
        except TimeoutError:
            self._process.kill()
            await until(self._has_ended, limit=_KILL_LIMIT)

    async def _has_ended(self) -> bool:
        return self._process.poll() is not None

    def _failure(self, problem: str) -> ServerFailed:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        tail = "\n    ".join(lines[-_LOG_TAIL_LINES:])
        return ServerFailed(f"{self._name} {problem}; {self._log} ends with\n    {tail}")


def _environment() -> dict[str, str]:
    """Only what a program needs to start: ours may hold passwords, and PGPORT and its like would change the server."""
    kept = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")
    return {"LC_ALL": "C"} | {name: os.environ[name] for name in kept if name in os.environ}
