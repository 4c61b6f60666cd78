"""HttpServer: the status endpoint on loopback or a unix socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

import structlog
from aiohttp import web

from skycap.errors import ConfigurationError
from skycap.http.access import Access, Guard
from skycap.http.compression import compressed
from skycap.http.errors import ErrorAnswers
from skycap.http.guards import LocalGuard
from skycap.http.traces import traced

_log = structlog.get_logger("skycap.http")

_LARGEST_REQUEST_BYTES = 1024 * 1024
_BACKLOG = 1024
"""Connections that wait to be accepted: all clients of a daemon that restarts come back at once."""
_KEEP_ALIVE_SECONDS = 75.0
"""Longer than proxies keep theirs (60 s is usual), so that it is never us who closes under a request."""
_LINGERING_SECONDS = 2.0
"""How long the rest of a refused body is read, for the asker to see the answer."""


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
        guard: Guard | None = None,
        development: bool = False,
        at_stop: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        """The path of a unix socket, or else host and port. Without a guard, all on this machine are let in.

        ``at_stop`` ends what would hold its own end up.
        """
        application = web.Application(
            middlewares=[
                compressed,
                ErrorAnswers(development=development).middleware,
                Access(guard or LocalGuard("" if path else host)).middleware,
                traced,
            ],
            client_max_size=_LARGEST_REQUEST_BYTES,
        )
        for each in routes:
            each.add_to(application.router)
        for end in at_stop:
            application.on_shutdown.append(_without_application(end))
        self._runner = web.AppRunner(
            application,
            handle_signals=False,  # they are the supervisor's
            access_log=None,  # probes ask every few seconds
            shutdown_timeout=1,
            auto_decompress=False,  # see bodies: within bounds
            keepalive_timeout=_KEEP_ALIVE_SECONDS,
            lingering_time=_LINGERING_SECONDS,
        )
        self._host, self._port, self._path = host, port, path
        self.url = ""

    async def start(self) -> None:
        """Raises ConfigurationError when the address is taken."""
        await self._runner.setup()
        try:
            if self._path is not None:
                await web.UnixSite(self._runner, str(self._path), backlog=_BACKLOG).start()
                self._path.chmod(0o660)
                self.url = f"unix:{self._path}"
            else:
                await web.TCPSite(self._runner, self._host, self._port, backlog=_BACKLOG).start()
                host, port = self._runner.addresses[0][:2]
                self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        except OSError as error:
            await self._runner.cleanup()
            where = self._path or f"{self._host}:{self._port}"
            raise ConfigurationError(
                f"http.bind: cannot listen on {where}: {error.strerror}; choose another address or stop what uses it"
            ) from error
        _log.info("status endpoint listens", url=self.url)

    async def stop(self) -> None:
        await self._runner.cleanup()


def _without_application(end: Callable[[], Awaitable[None]]) -> Callable[[web.Application], Awaitable[None]]:
    async def call(_application: web.Application) -> None:
        await end()

    return call
