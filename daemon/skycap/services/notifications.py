"""Notifications: hears PostgreSQL's NOTIFY over a connection of its own, which is made anew when it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import asyncpg
import structlog

from skycap.backoff import Backoff
from skycap.context import Log
from skycap.services.pooler import ADVICE, is_pooled

_log: Log = structlog.get_logger(__name__)

_AWAY = Backoff(first=timedelta(milliseconds=200), factor=2, longest=timedelta(seconds=5), attempts=1)

_LIFE_SIGN_SECONDS = 30
"""A connection that a firewall has forgotten looks like a quiet one; so often it is asked whether it is there."""

_ANSWER_SECONDS = 5

# The last is what asyncpg raises on a connection that was lost as soon as it was made.
_FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, asyncpg.InternalClientError)


class Notifications:
    """What comes on one channel. ``dsn`` leads to the server itself: a transaction pooler has no LISTEN."""

    def __init__(self, dsn: str, channel: str) -> None:
        self._dsn = dsn
        self._channel = channel

    async def hear(self, heard: Callable[[], None]) -> None:
        """Call ``heard`` for each, until cancelled; after each connect, too, since something may have been missed."""
        misses = 0
        while True:
            try:
                connection = await asyncpg.connect(
                    self._dsn,
                    timeout=_ANSWER_SECONDS,
                    statement_cache_size=0,
                    server_settings={"application_name": "skycap"},
                )
            except _FAILURES as error:
                misses += 1
                if misses == 1:
                    _log.warning("notifications are not heard", channel=self._channel, reason=type(error).__name__)
            else:
                try:
                    await self._listen(connection, heard)
                except _FAILURES:
                    misses = 1
                finally:
                    connection.terminate()
            await asyncio.sleep(_AWAY.wait(max(1, misses)).total_seconds())

    async def _listen(self, connection: asyncpg.Connection[asyncpg.Record], heard: Callable[[], None]) -> None:
        """Until the connection is lost."""
        if await is_pooled(connection):
            _log.warning("notifications are not heard through a pooler", channel=self._channel, advice=ADVICE)
            connection.terminate()
            await asyncio.get_running_loop().create_future()
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())

        def notified(*_: object) -> None:
            heard()

        await connection.add_listener(self._channel, notified)
        heard()
        while not lost.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_LIFE_SIGN_SECONDS):
                    await lost.wait()
                continue
            await connection.execute("SELECT 1", timeout=_ANSWER_SECONDS)
