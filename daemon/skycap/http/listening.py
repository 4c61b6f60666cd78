"""Listening: the socket of the status endpoint and its connections, which outlive what is answered on them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from skycap.errors import ConfigurationError

_BACKLOG = 1024
"""Connections that wait to be accepted: all clients of a daemon that restarts come back at once."""
_KEEP_ALIVE_SECONDS = 75.0
"""Longer than proxies keep theirs (60 s is usual), so that it is never us who closes under a request."""
_LINGERING_SECONDS = 2.0
"""How long the rest of a refused body is read, for the asker to see the answer."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where to listen: ``sockets`` that do so already, or else the path of a unix socket, or else host and port."""

    host: str
    port: int
    path: Path | None
    sockets: tuple[socket.socket, ...] = ()

    @property
    def web_host(self) -> str:
        """Where browsers reach it; empty for unix sockets, which none does."""
        if self.sockets:
            inet = (each for each in self.sockets if each.family is not socket.AF_UNIX)
            return next((str(each.getsockname()[0]) for each in inet), "")
        return "" if self.path else self.host

    def is_as(self, other: Place) -> bool:
        """Whether one goes on where the other listens; what is configured does not move passed sockets."""
        return self.sockets == other.sockets if self.sockets else self == other

    async def listen(self, runner: web.ServerRunner) -> None:
        """Raises OSError when the address is taken."""
        for site in self._sites(runner):
            await site.start()
        if self.path is not None and not self.sockets:
            self.path.chmod(0o660)  # the group is let in

    def _sites(self, runner: web.ServerRunner) -> list[web.BaseSite]:
        if self.sockets:
            return [web.SockSite(runner, each, backlog=_BACKLOG) for each in self.sockets]
        if self.path is not None:
            return [web.UnixSite(runner, str(self.path), backlog=_BACKLOG)]
        return [web.TCPSite(runner, self.host, self.port, backlog=_BACKLOG)]

    def __str__(self) -> str:
        return str(self.path or f"{self.host}:{self.port}")


class Answering:
    """One application, without a socket: it answers the requests that are given to it."""

    def __init__(self, application: web.Application) -> None:
        self._runner = web.AppRunner(application, handle_signals=False)
        self._requests = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self) -> None:
        await self._runner.setup()

    async def stop(self, patience_seconds: float) -> None:
        """Let the requests under way be answered, within ``patience_seconds``."""
        try:
            async with asyncio.timeout(patience_seconds):
                await self._idle.wait()
        except TimeoutError:
            pass  # whoever asked has had the time
        await self._runner.cleanup()

    def request_of(self, *parts: Any) -> web.BaseRequest:
        """The request that aiohttp has read."""
        return self._server.request_factory(*parts)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self._requests += 1
        self._idle.clear()
        try:
            return await self._server.request_handler(request)
        finally:
            self._requests -= 1
            if not self._requests:
                self._idle.set()

    @property
    def _server(self) -> web.Server:
        assert self._runner.server is not None  # noqa: S101 - it was started
        return self._runner.server


class Listening:
    """Hands each request to who answers now; ``url`` is known once it has begun (port 0 picks a free one)."""

    def __init__(self, answering: Answering) -> None:
        self.answering = answering
        """May be replaced at any time: connections stay, and their next requests go there."""
        self._runner: web.ServerRunner | None = None
        self.url = ""

    async def begin(self, place: Place) -> None:
        """Raises ConfigurationError when the address is taken."""
        self._runner = web.ServerRunner(
            web.Server(
                self._answer,
                request_factory=self._request_of,
                access_log=None,  # probes ask every few seconds
                auto_decompress=False,  # see bodies: within bounds
                keepalive_timeout=_KEEP_ALIVE_SECONDS,
                lingering_time=_LINGERING_SECONDS,
            ),
            handle_signals=False,  # they are the supervisor's
            shutdown_timeout=1,
        )
        await self._runner.setup()
        try:
            await place.listen(self._runner)
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigurationError(
                f"http.bind: cannot listen on {place}: {error.strerror}; choose another address or stop what uses it"
            ) from error
        self.url = _url(self._runner.addresses[0])

    async def end(self, before_the_last_answers: Callable[[], Awaitable[None]]) -> None:
        """Take no more connections; what is being answered has a second."""
        if self._runner is None:
            return
        for site in self._runner.sites:
            await site.stop()
        await before_the_last_answers()
        await self._runner.cleanup()

    def _request_of(self, *parts: Any) -> web.BaseRequest:
        return self.answering.request_of(*parts)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self.answering.answer(request)


def _url(address: Any) -> str:
    """Of what getsockname(2) says."""
    if isinstance(address, str | bytes):
        return f"unix:{os.fsdecode(address)}".replace("\0", "@")
    host, port = address[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
