"""Sentinel: the master that Sentinel names at the moment, asked for anew with each connection."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any, cast

from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from skycap.engine.conversation import Conversation
from skycap.engine.hosts import Address, Hosts
from skycap.engine.server import Server

SENTINEL_PORT = 26379
_SENTINEL_TIMEOUT = timedelta(seconds=1)
"""After it the next Sentinel is asked; that and the connection to the master must fit into CONNECT_TIMEOUT."""
_LOOK_EVERY = timedelta(seconds=1)
_THEIRS = "sentinel_"
"""The beginning of parameters that are for the Sentinels and not for the master."""


class MasterOfSentinels(Server):
    """As Server, for ``redis+sentinel://user:password@host:port,host:port/service/database``.

    A master that was replaced takes writes for some ten seconds more, and then forgets them. So Sentinel is asked
    again and again who the master is, and the old one is left.
    """

    def __init__(self, url: str, **options: Any) -> None:
        hosts = Hosts.parse(url, default_port=SENTINEL_PORT)
        service, *database = hosts.path
        master = {name: value for name, value in hosts.options.items() if not name.startswith(_THEIRS)}
        if database:
            master.setdefault("db", int(database[0]))
        self._sentinels = cast("Any", Sentinel)(hosts.addresses, sentinel_kwargs=_sentinel_options(hosts, options))
        self._pool = cast("Any", SentinelConnectionPool)(
            service, self._sentinels, ssl=hosts.tls, **{**options, **master}
        )
        self._watch: asyncio.Task[None] | None = None
        super().__init__(self._pool.make_connection)

    async def close(self) -> None:
        if self._watch:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        await super().close()
        with suppress(RedisError, OSError):  # they were to be closed, and are
            await self._sentinels.aclose()

    def _converse(self) -> Conversation:
        conversation = super()._converse()
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._follow(), name="skycap redis master")
        return conversation

    async def _follow(self) -> None:
        task = asyncio.current_task()
        known: Address | None = None
        # redis-py asks with asyncio.wait_for, which before Python 3.12 may swallow a cancellation.
        while task and not task.cancelling():
            with suppress(RedisError, OSError):  # what we are connected to may work all the same
                master = await self._sentinels.discover_master(self._pool.service_name)
                if known not in {None, master}:
                    self.leave("Sentinel names another master")
                known = master
            await asyncio.sleep(_LOOK_EVERY.total_seconds())


def _sentinel_options(hosts: Hosts, options: dict[str, Any]) -> dict[str, Any]:
    theirs = {name.removeprefix(_THEIRS): value for name, value in hosts.options.items() if name.startswith(_THEIRS)}
    encrypted = hosts.tls and theirs.pop("tls", "yes") == "yes"
    certificates = {name: value for name, value in hosts.options.items() if name.startswith("ssl_")}
    return {
        **theirs,
        **(certificates if encrypted else {}),
        "ssl": encrypted,
        "socket_timeout": _SENTINEL_TIMEOUT.total_seconds(),
        "socket_connect_timeout": _SENTINEL_TIMEOUT.total_seconds(),
        "maint_notifications_config": options["maint_notifications_config"],
        "retry": Retry(NoBackoff(), 0),  # left to itself redis-py asks one that is away ten times
    }
