"""HttpServer: the status endpoint on loopback or a unix socket."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

import structlog
from aiohttp import web

from skycap.engine.audit import AuditLog
from skycap.http.access import Access, Guard
from skycap.http.audit import Auditor
from skycap.http.compression import compressed
from skycap.http.errors import ErrorAnswers
from skycap.http.guards import LocalGuard
from skycap.http.headers import protect
from skycap.http.listening import Answering, Listening, Place
from skycap.http.traces import traced
from skycap.http.web_pages import WebPages

_log = structlog.get_logger("skycap.http")

_LARGEST_REQUEST_BYTES = 1024 * 1024
_LAST_ANSWERS_SECONDS = 5.0


class Routes(Protocol):
    """Some of what it serves."""

    def add_to(self, router: web.UrlDispatcher) -> None: ...


class HttpServer:
    """Serves until ``stop``. ``url`` is known once it has started (port 0 picks a free one)."""

    def __init__(
        self,
        routes: Sequence[Routes],
        *,
        host: str,
        port: int,
        path: Path | None,
        sockets: Sequence[socket.socket] = (),
        guard: Guard | None = None,
        hosts: Sequence[str] = (),
        audit: AuditLog | None = None,
        development: bool = False,
        at_stop: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        """The path of a unix socket, or else host and port; ``sockets`` that listen already are instead of them.

        Without a guard, all on this machine are let in. ``hosts`` are further names by which browsers may reach it,
        ``audit`` is where actions of admins are noted.
        ``at_stop`` ends what would hold its own end up.
        """
        self.place = Place(host=host, port=port, path=path, sockets=tuple(sockets))
        own_host = self.place.web_host
        application = web.Application(
            middlewares=[
                compressed,
                ErrorAnswers(development=development).middleware,
                # Outside of the access, so that it sees whom that refuses.
                *([Auditor(audit).middleware] if audit else []),
                Access(guard or LocalGuard(own_host, hosts), WebPages(own_host, hosts)).middleware,
                traced,
            ],
            client_max_size=_LARGEST_REQUEST_BYTES,
        )
        application.on_response_prepare.append(protect)
        for each in routes:
            each.add_to(application.router)
        self._answering = Answering(application)
        self._at_stop = at_stop
        self._listening: Listening | None = None

    @property
    def url(self) -> str:
        return self._listening.url if self._listening else ""

    async def start(self) -> None:
        """Raises ConfigurationError when the address is taken."""
        await self._answering.start()
        listening = Listening(self._answering)
        try:
            await listening.begin(self.place)
        except BaseException:
            await self._answering.stop(0)
            raise
        self._listening = listening
        _log.info("status endpoint listens", url=self.url)

    async def take_over(self, predecessor: HttpServer) -> None:
        """Start on the socket and the connections of another server, which from then on only ends its answers."""
        await self._answering.start()
        listening = self._listening = predecessor._listening
        predecessor._listening = None
        if listening is not None:
            listening.answering = self._answering

    async def stop(self) -> None:
        if self._listening is not None:
            await self._listening.end(self._end_streams)
        else:
            await self._end_streams()
        await self._answering.stop(_LAST_ANSWERS_SECONDS)

    async def _end_streams(self) -> None:
        for end in self._at_stop:
            await end()
