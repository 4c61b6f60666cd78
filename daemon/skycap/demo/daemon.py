"""The daemon of the demo: a real ``skycap run`` in a process of its own, that dies with the demo."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from skycap.embedded.privileges import Identity
from skycap.errors import SkycapError

_START_SECONDS = 30
_STOP_SECONDS = 10
_LOG_TAIL_LINES = 15

# What an admin configured for the real daemon must not reach the demo's.
_FOREIGN = ("DATABASE_URL", "DIRECT_URL", "SMTP_HOST", "SMTP_PORT", "SMTP_USER", "SMTP_PASSWORD", "SMTP_FROM")


class DaemonFailed(SkycapError):
    """The daemon ended, or was not ready in time; the message ends with its log."""


class DaemonProcess:
    """``async with DaemonProcess(log, "--config", path) as daemon``: ready when entered, drained when left.

    Or step by step: ``spawn``, ``configure`` (for ``--config /dev/stdin``), ``until_ready``, ``close``. A daemon takes
    longer to load than all that it is configured with takes to start, so that spawning it first saves that time.
    """

    def __init__(self, log: Path, *options: str, environ: Mapping[str, str] | None = None) -> None:
        """``environ`` is added to this process's environment, from which whatever configures a daemon is removed."""
        self._log = log
        self._options = options
        self._environ = environ or {}
        self._process: asyncio.subprocess.Process | None = None
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._listening: asyncio.Task[None] | None = None
        self._is_ready = asyncio.Event()
        self.http_url = ""

    async def __aenter__(self) -> Self:
        try:
            await self.spawn()
            await self.until_ready()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def spawn(self) -> None:
        # An abstract address needs no file that a killed demo would leave behind.
        address = f"\0skycap-demo-{os.getpid()}-{secrets.token_hex(8)}"
        self._notices.bind(address)
        # Appended to: another demo may be writing to it, and this one is refused only later.
        with self._log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *_command("run", *self._options),
                env={**_environment(address), **self._environ},
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is the demo's, which then stops the daemon in good order
            )
        self._listening = asyncio.create_task(self._listen(), name="daemon notices")

    async def configure(self, text: str) -> None:
        """Give it its configuration on its standard input."""
        stdin = self._started.stdin
        if stdin is None:
            raise RuntimeError("the daemon was spawned without a standard input")
        stdin.write(text.encode())
        stdin.close()
        await stdin.wait_closed()

    async def until_ready(self) -> None:
        """Return when it takes jobs. Raises DaemonFailed when it ended instead, or took too long."""
        process = self._started
        ready = asyncio.create_task(self._is_ready.wait())
        ended = asyncio.create_task(process.wait())
        try:
            await asyncio.wait((ready, ended), timeout=_START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not ready.done():
                how = f"ended with status {process.returncode}" if ended.done() else "was not ready in time"
                raise DaemonFailed(f"the daemon {how}; {self._log} ends with\n{self._log_tail()}")
        finally:
            ready.cancel()
            ended.cancel()

    async def close(self) -> None:
        """Stop it if it runs, and forget it."""
        if self._process is not None:
            await self.stop()
        if self._listening is not None:
            self._listening.cancel()
            # The event loop lets go of the socket only then; closed before, its number would be that of another one.
            await asyncio.wait((self._listening,))
        self._notices.close()

    async def stop(self) -> int:
        """SIGTERM, and SIGKILL for one that does not heed it; the exit code."""
        process = self._started
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                return await process.wait()
        except TimeoutError:
            process.kill()
            return await process.wait()

    async def kill(self) -> None:
        """SIGKILL: what no daemon can prepare for."""
        self._started.kill()
        await self._started.wait()

    @property
    def pid(self) -> int:
        return self._started.pid

    @property
    def _started(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError("the daemon was not started")
        return self._process

    async def _listen(self) -> None:
        """Take all that the daemon would tell systemd, which takes it, too: until the end."""
        while True:
            notice = (await asyncio.get_running_loop().sock_recv(self._notices, 4096)).decode()
            said = {name: value for name, _, value in (line.partition("=") for line in notice.splitlines())}
            if said.get("READY") == "1":
                self.http_url = said.get("X_SKYCAP_HTTP", "")
                self._is_ready.set()

    def _log_tail(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-_LOG_TAIL_LINES:])


def _command(*arguments: str) -> list[str]:
    uid, gid = os.geteuid(), os.getegid()
    this_user = Identity(way="same", uid=uid, gid=gid, owner=(uid, gid))
    return this_user.launch_command(sys.executable, "-m", "skycap", *arguments, death_signal=signal.SIGKILL)


def _environment(notify_address: str) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SKYCAP_") and name not in _FOREIGN and name != "WATCHDOG_USEC"
    }
    return {**kept, "NOTIFY_SOCKET": notify_address.replace("\0", "@", 1)}
