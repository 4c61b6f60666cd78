"""What ``skycap run`` does once the settings are known: the part that loads the whole daemon."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import structlog

from skycap.assembly import Daemon, assemble
from skycap.errors import ConfigurationError
from skycap.exits import Exit
from skycap.http.passed_sockets import passed_sockets
from skycap.settings import Settings, load_settings
from skycap.supervisor.life import supervise
from skycap.telemetry import spans_of

_TIME_TO_END = timedelta(seconds=2)


def serve(settings: Settings, config: Path | None, overrides: Mapping[str, object], *, embedded: bool) -> Exit:
    """Run the daemon until it ends; ``embedded`` starts the servers that ``settings`` name no address of."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        code = runner.run(_serve(settings, config, overrides, embedded=embedded))
        _leave_stragglers_behind(code)
    return code


async def _serve(settings: Settings, config: Path | None, overrides: Mapping[str, object], *, embedded: bool) -> Exit:
    sockets = passed_sockets()
    async with AsyncExitStack() as closing:
        addresses = await _start_embedded(settings, closing) if embedded else {}
        closing.enter_context(spans_of(settings))
        if addresses:
            settings = load_settings(config, overrides={**overrides, **addresses})
        unread = [settings]  # read once more for a reload only: it may come from a pipe

        def make() -> Daemon:
            read = unread.pop() if unread else load_settings(config, overrides={**overrides, **addresses})
            return assemble(read, sockets=sockets)

        return await supervise(make)


def _leave_stragglers_behind(code: Exit) -> None:
    """Let nothing keep the process from ending: a handler's thread, which Python would wait for, cannot be stopped.

    All jobs are settled or handed back by now.
    """

    def leave() -> None:
        structlog.get_logger("skycap.serve").warning("a handler's thread goes on, and is left behind")
        os._exit(code)

    timer = threading.Timer(_TIME_TO_END.total_seconds(), leave)
    timer.daemon = True
    timer.start()


async def _start_embedded(settings: Settings, closing: AsyncExitStack) -> dict[str, object]:
    """The addresses of the servers that had to be started."""
    from skycap.embedded import EmbeddedServers  # production does not have what it needs

    if settings.production:
        raise ConfigurationError("--embedded: not in production (SKYCAP_ENV); configure redis.url and database.url")
    needs = {"redis": settings.redis.url is None, "database": settings.database.url is None}
    if not any(needs.values()):
        return {}
    servers = await closing.enter_async_context(EmbeddedServers(settings.state_dir(), **needs))
    return {
        **({"redis.url": servers.redis_url} if needs["redis"] else {}),
        **({"database.url": servers.database_url} if needs["database"] else {}),
    }


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """That of uvloop where the extra of that name is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop
