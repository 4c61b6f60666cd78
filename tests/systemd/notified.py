"""A daemon that takes the test for systemd: each of its notifications is heard, in order."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from tests.support.daemons import CLEAN, Site
from tests.support.workers import PATIENCE

Notification = dict[str, str]


@dataclass(kw_only=True)
class NotifiedDaemon:
    """``heard`` has all that was said until now."""

    process: Process
    socket: socket.socket
    log: Path
    heard: list[Notification] = field(default_factory=list[Notification])
    _heeded: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def hears(self, name: str, value: str | None = None) -> Notification:
        """The next notification that sets ``name`` (to ``value``)."""
        return await self._next(lambda said: name in said and value in {None, said[name]})

    async def says(self, beginning: str) -> Notification:
        """The next status that begins so."""
        return await self._next(lambda said: said.get("STATUS", "").startswith(beginning))

    async def _next(self, is_meant: Callable[[Notification], bool]) -> Notification:
        async with asyncio.timeout(PATIENCE.total_seconds()):
            while True:
                for said in self.heard[self._heeded :]:
                    self._heeded += 1
                    if is_meant(said):
                        return said
                self._news.clear()
                await self._news.wait()

    async def ended(self) -> int:
        """The exit code of a daemon that ends by itself."""
        try:
            async with asyncio.timeout(PATIENCE.total_seconds()):
                code = await self.process.wait()
        except TimeoutError:
            raise AssertionError(f"it does not end; its log is\n{self.log.read_text()}") from None
        with suppress(BlockingIOError):
            while True:
                self._note(self.socket.recv(4096))
        return code

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await self.ended()

    async def listen(self) -> None:
        """As systemd does: at once, since what finds the socket full is lost."""
        while True:
            self._note(await asyncio.get_running_loop().sock_recv(self.socket, 4096))

    def _note(self, message: bytes) -> None:
        self.heard.append(dict(line.split("=", 1) for line in message.decode().splitlines()))
        self._news.set()


@asynccontextmanager
async def notified(
    site: Site,
    *,
    watchdog: timedelta | None = None,
    trouble: str = "",
    passed: Sequence[socket.socket] = (),
    passed_to: str = "$$",
) -> AsyncGenerator[NotifiedDaemon]:
    """A daemon that was just started, and is killed at the end unless it has ended.

    ``trouble`` is for plugins/trouble.py; the sockets ``passed`` are for the process ``passed_to``, in a shell's words.
    """
    with (
        tempfile.TemporaryDirectory() as folder,  # pytest's own may be too long for the path of a socket
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening,
        site.log.open("wb") as log,
    ):
        listening.bind(f"{folder}/notify")
        listening.setblocking(False)
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", _passing(passed, passed_to), "bash"),
            *(sys.executable, "-m", "skycap", "run", "--config", site.config),
            env={
                **CLEAN,
                "NOTIFY_SOCKET": f"{folder}/notify",
                "RUNTIME_DIRECTORY": str(site.folder),
                "TROUBLE": trouble,
                **_watched(watchdog),
            },
            cwd=site.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[each.fileno() for each in passed],
        )
        daemon = NotifiedDaemon(process=process, socket=listening, log=site.log)
        listener = asyncio.create_task(daemon.listen())
        try:
            yield daemon
        finally:
            listener.cancel()
            await asyncio.wait({listener})  # or it takes its hands off a descriptor that is somebody else's by then
            if process.returncode is None:
                process.kill()
                await process.wait()


def _watched(watchdog: timedelta | None) -> dict[str, str]:
    return {} if watchdog is None else {"WATCHDOG_USEC": str(watchdog // timedelta(microseconds=1))}


def _passing(passed: Sequence[socket.socket], to: str) -> str:
    """A script that starts its arguments as systemd does: with the sockets from descriptor 3 on (sd_listen_fds(3))."""
    if not passed:
        return 'exec "$@"'
    # By way of higher numbers, since each may lie where another one goes.
    aside = [f"{100 + index}<&{each.fileno()}" for index, each in enumerate(passed)]
    in_order = [f"{3 + index}<&{100 + index} {100 + index}<&-" for index in range(len(passed))]
    return f'exec {" ".join((*aside, *in_order))}; LISTEN_PID={to} LISTEN_FDS={len(passed)} exec "$@"'
