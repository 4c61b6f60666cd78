"""Renewal: the daemon that settings and plugins make as they are on disk now, wholly checked before it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from importlib import metadata

from skycap.assembly import Daemon
from skycap.discovery import imported_anew
from skycap.engine.durability import concerns
from skycap.errors import ConfigurationError, Unavailable
from skycap.settings import Settings

_VERSION = metadata.version("skycap")

_REDIS_SECONDS = 5.0


async def made_anew(make: Callable[[], Daemon], running: Daemon) -> Daemon:
    """A daemon that could take the place of the ``running`` one. Raises SkycapError for what must not; nothing runs."""
    # In a thread: plugins are imported and all templates compiled, while jobs go on.
    daemon = await asyncio.to_thread(_made, make)
    if daemon.settings.redis.url != running.settings.redis.url:
        await _refuse_unfit_redis(daemon)
    return daemon


def unchanged(old: Settings, new: Settings) -> Iterator[str]:
    """The settings that differ, and that only a restart changes."""
    if old.log.format != new.log.format:
        yield "log.format"
    if old.data_dir != new.data_dir:
        yield "data_dir"
    if old.telemetry != new.telemetry:
        yield "telemetry"


def _made(make: Callable[[], Daemon]) -> Daemon:
    version = metadata.version("skycap")
    if version != _VERSION:
        raise ConfigurationError(f"skycap {version} is installed, and {_VERSION} runs; restart the daemon instead")
    with imported_anew():
        daemon = make()
        refuse_what_is_left_out(daemon)
    return daemon


def refuse_what_is_left_out(daemon: Daemon) -> None:
    """A start leaves out what is broken, so that the rest works. Whoever reloads is there to mend it."""
    if daemon.left_out:
        raise ConfigurationError(daemon.left_out[0])


async def _refuse_unfit_redis(daemon: Daemon) -> None:
    try:
        async with asyncio.timeout(_REDIS_SECONDS):
            await concerns(daemon.broker.link)
    except (Unavailable, TimeoutError):
        pass  # one that is away is waited for, as at a start
    except ConfigurationError:
        await daemon.broker.link.close()
        raise
