"""HttpServer: the status endpoint on loopback or a unix socket."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import structlog
from aiohttp import web

from skycap.errors import ConfigurationError
from skycap.http.errors import answer_errors

_log = structlog.get_logger("skycap.http")

_LARGEST_REQUEST_BYTES = 1024 * 1024


class Routes(Protocol):
    """Some of what it serves."""

    def add_to(self, router: web.UrlDispatcher) -> None: ...


class HttpServer:
    """Serves until ``stop``. ``url`` is known once it has started (port 0 picks a free one)."""

    def __init__(self, routes: Sequence[Routes], *, host: str, port: int, path: Path | None) -> None:
        """The path of a unix socket, or else host and port."""
        application = web.Application(middlewares=[answer_errors], client_max_size=_LARGEST_REQUEST_BYTES)
        for each in routes:
            each.add_to(application.router)
        # Signals are the supervisor's; access is not logged, since probes ask every few seconds.
        self._runner = web.AppRunner(application, handle_signals=False, access_log=None, shutdown_timeout=1)
        self._host, self._port, self._path = host, port, path
        self.url = ""

    async def start(self) -> None:
        """Raises ConfigurationError when the address is taken."""
        await self._runner.setup()
        try:
            if self._path is not None:
                await web.UnixSite(self._runner, str(self._path)).start()
                self._path.chmod(0o660)
                self.url = f"unix:{self._path}"
            else:
                await web.TCPSite(self._runner, self._host, self._port).start()
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
