"""Link: how scripts and commands reach Redis, be it one server, the master of a Sentinel or a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Protocol, Self, cast

from redis.asyncio import ConnectionPool, SSLConnection
from redis.asyncio.connection import Connection
from redis.maint_notifications import MaintNotificationsConfig

from skycap.engine.cluster import Cluster
from skycap.engine.conversation import CONNECT_TIMEOUT, Words
from skycap.engine.hosts import Address, Hosts
from skycap.engine.refusal import accepted, code_of
from skycap.engine.script import script
from skycap.engine.sentinel import MasterOfSentinels
from skycap.engine.server import Server
from skycap.errors import Unavailable

REDIS_PORT = 6379

_OF_PRODUCERS = ("add", "add_all")
"""The scripts that a client enqueues with."""


class Route(Protocol):
    """What carries commands to where they belong."""

    async def ask(self, commands: Sequence[Words]) -> list[Any]: ...
    async def block(self, words: Words, *, timeout: timedelta) -> Any: ...
    async def close(self) -> None: ...


class Link:
    """One process's way to Redis: a connection that all callers share, and a few for commands that block.

    Every method raises Unavailable for whatever may be over soon, and never tells the address. Nothing is sent twice:
    each caller knows best how long it may wait, and all scripts are idempotent, so that a caller whose answer was
    lost may make the same call again.
    """

    def __init__(self, route: Route) -> None:
        self._route = route

    @classmethod
    def to(cls, url: str) -> Self:
        """A link to a checked address; it connects when it is first used."""
        scheme = url.partition("://")[0].lower()
        if scheme in {"redis+sentinel", "rediss+sentinel"}:
            return cls(MasterOfSentinels(url, **_connection_options()))
        if scheme in {"redis+cluster", "rediss+cluster"}:
            return cls(_cluster(Hosts.parse(url, default_port=REDIS_PORT)))
        # redis-py says no type of from_url. Of a pool we only need that it knows how to make a connection.
        return cls(Server(cast("Any", ConnectionPool).from_url(url, **_connection_options()).make_connection))

    @property
    def spans_queues(self) -> bool:
        """Whether one script can work on several queues: in a cluster, each may lie on another server."""
        return not isinstance(self._route, Cluster)

    async def call(self, name: str, prefix: str, *arguments: str | bytes | float) -> Any:
        """Run a script on the queue with this prefix."""
        return await self.call_over(name, (prefix,), *arguments)

    async def call_over(self, name: str, prefixes: Sequence[str], *arguments: str | bytes | float) -> Any:
        """Run a script on the queues with these prefixes; several only where it ``spans_queues``."""
        lua = script(name)
        (reply,) = await self._route.ask([("EVALSHA", lua.sha, len(prefixes), *prefixes, *arguments)])
        if code_of(reply) == "NOSCRIPT":
            # A server that knows none of our scripts: it was started anew, or took the place of another.
            whole = ("EVAL", lua.text, len(prefixes), *prefixes, *arguments)
            reply, *_ = await self._route.ask([whole, *_loading_for_producers()])
            if code_of(reply) == "NOPERM" and "'eval'" in str(reply):
                raise Unavailable("redis", f"{name}: this user may not load it, and no daemon of this version has yet")
        return accepted(reply, name)

    async def load_for_producers(self, prefix: str) -> None:
        """Load the scripts that add jobs to the queue with this prefix, for users who may not send a script (EVAL).

        Where this user may not, nothing is loaded: those users then get Unavailable, with the reason.
        """
        # The first command says which server of a cluster; the others have no key.
        await self._route.ask([("EXISTS", prefix), *_loading_for_producers()])

    async def command(self, *words: str | bytes | float) -> Any:
        """Send one plain command; one that blocks would hold everybody else up, and goes through ``blocking``."""
        (reply,) = await self._route.ask([words])
        return accepted(reply, str(words[0]))

    async def pipeline(self, commands: Sequence[tuple[str | bytes | float, ...]]) -> list[Any]:
        """Send several commands on one queue in one round trip; the first error is raised."""
        if not commands:
            return []
        replies = await self._route.ask(commands)
        return [accepted(reply, str(words[0])) for words, reply in zip(commands, replies, strict=True)]

    async def blocking(self, *words: str | bytes | float, timeout: timedelta) -> Any:
        """Send a command that Redis answers within ``timeout``, which its own words must say too."""
        return accepted(await self._route.block(words, timeout=timeout), str(words[0]))

    async def close(self) -> None:
        """Close all connections at once; whoever waits gets Unavailable, and so does whoever comes later."""
        await self._route.close()


def _loading_for_producers() -> list[Words]:
    return [("SCRIPT", "LOAD", script(name).text) for name in _OF_PRODUCERS]


def _cluster(hosts: Hosts) -> Cluster:
    def open_server(address: Address) -> Server:
        host, port = address
        pool = cast("Any", ConnectionPool)(
            connection_class=SSLConnection if hosts.tls else Connection,
            **{**_connection_options(), **hosts.options, "host": host, "port": port},
        )
        return Server(pool.make_connection)

    return Cluster(hosts.addresses, open_server)


def _connection_options() -> dict[str, Any]:
    """What every connection of ours is made with: redis-py only connects it, so that it needs no other time limit."""
    return {
        "socket_timeout": None,
        "socket_connect_timeout": CONNECT_TIMEOUT.total_seconds(),
        # They are for one provider's servers, need a right of their own, and look the host's name up once more.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
