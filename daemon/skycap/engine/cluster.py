"""Cluster: every queue on the node that owns its slot.

redis-py's cluster client is not used: it sends failed writes again by itself, asks the cluster which words of a
command are keys, and answers in other shapes than a single server does. All we need of a cluster is who owns a slot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

from redis.crc import key_slot
from redis.exceptions import ResponseError

from skycap.engine.conversation import Words
from skycap.engine.hosts import Address
from skycap.engine.refusal import accepted, code_of
from skycap.engine.server import Server
from skycap.errors import ConfigurationError, Unavailable

_MOST_REDIRECTIONS = 5

_Send = Callable[[Server, Sequence[Words]], Awaitable[list[Any]]]


class Cluster:
    """As Server, for a cluster; any of ``seeds`` is asked who is in it."""

    def __init__(self, seeds: Sequence[Address], open_server: Callable[[Address], Server]) -> None:
        self._seeds = tuple(seeds)
        self._known = list(seeds)
        self._open_server = open_server
        self._servers: dict[Address, Server] = {}
        self._owners: dict[int, Address] = {}
        self._learning = asyncio.Lock()
        self._is_closed = False

    async def ask(self, commands: Sequence[Words]) -> list[Any]:
        """The replies, errors among them as values; raises Unavailable when there are none."""
        return await self._send_to_owner(commands, Server.ask)

    async def block(self, words: Words, *, timeout: timedelta) -> Any:
        """The reply of a command that its node may hold back for ``timeout``."""

        async def block(server: Server, commands: Sequence[Words]) -> list[Any]:
            return [await server.block(words, timeout=timeout) for words in commands]

        (reply,) = await self._send_to_owner([words], block)
        return reply

    async def close(self) -> None:
        """Whoever waits gets Unavailable."""
        self._is_closed = True
        for server in self._servers.values():
            await server.close()

    async def _send_to_owner(self, commands: Sequence[Words], send: _Send) -> list[Any]:
        replies: dict[int, Any] = {}
        left = list(range(len(commands)))
        for _ in range(_MOST_REDIRECTIONS):
            address = await self._owner(_slot(commands[left[0]]))
            replies |= zip(left, await self._sent(address, [commands[index] for index in left], send), strict=True)
            # What came to a wrong node was not run there: sending it on does nothing twice.
            left = [index for index in left if code_of(replies[index]) == "MOVED"]
            if not left:
                return [replies[index] for index in range(len(commands))]
            self._redirect(str(replies[left[0]]), address)
        raise Unavailable("redis", "the nodes of the cluster send us from one to another")

    async def _sent(self, address: Address, commands: Sequence[Words], send: _Send) -> list[Any]:
        try:
            replies = await send(self._server(address), commands)
        except Unavailable:
            self._forget(address)
            raise
        if any(code_of(reply) == "CLUSTERDOWN" for reply in replies):
            self._forget(address)
        return replies

    async def _owner(self, slot: int) -> Address:
        if slot not in self._owners:
            async with self._learning:
                if slot not in self._owners:
                    await self._learn()
        if slot not in self._owners:
            raise Unavailable("redis", f"no node of the cluster owns slot {slot}")
        return self._owners[slot]

    async def _learn(self) -> None:
        """Ask one node after another, until one knows who owns which slots."""
        problem = Unavailable("redis", "no node of the cluster is known")
        for address in tuple(self._known):
            try:
                (table,) = await self._server(address).ask([("CLUSTER", "SLOTS")])
            except Unavailable as error:
                self._forget(address)
                problem = error
                continue
            self._owners = _owners(_table(table), asked=address)
            await self._keep([*dict.fromkeys([*self._owners.values(), *self._seeds])])
            return
        raise problem

    async def _keep(self, known: list[Address]) -> None:
        self._known = known
        for address in self._servers.keys() - set(known):
            await self._servers.pop(address).close()

    def _redirect(self, moved: str, asked: Address) -> None:
        """``moved`` is the reply ``MOVED slot host:port``."""
        _, slot, address = moved.split(" ")
        host, _, port = address.rpartition(":")
        self._owners[int(slot)] = (host or asked[0], int(port))

    def _forget(self, address: Address) -> None:
        """Another node may own its slots by now; it is the last one to ask."""
        self._owners.clear()
        if address in self._known:
            self._known.remove(address)
            self._known.append(address)

    def _server(self, address: Address) -> Server:
        if self._is_closed:
            raise Unavailable("redis", "the link is closed")
        if address not in self._servers:
            self._servers[address] = self._open_server(address)
        return self._servers[address]


def _slot(words: Words) -> int:
    """The slot of a command's key: all of ours have a hash tag. Commands without a key may go to any node."""
    if words[0] in {"EVAL", "EVALSHA"}:
        key = words[3]
    else:
        texts = [word for word in words[1:] if isinstance(word, str | bytes)] or [""]
        key = next((text for text in texts if "{" in str(text)), texts[0])
    return key_slot(key if isinstance(key, bytes) else str(key).encode())


def _table(reply: Any) -> Any:
    if isinstance(reply, ResponseError) and "cluster support disabled" in str(reply):
        raise ConfigurationError("redis.url: this server is no node of a cluster; write redis:// or rediss://")
    return accepted(reply, "CLUSTER SLOTS")


def _owners(table: Any, *, asked: Address) -> dict[int, Address]:
    """``table`` is what CLUSTER SLOTS answers: first slot, last slot, master, replicas for each range."""
    owners: dict[int, Address] = {}
    for first, last, master, *_ in table:
        # A node that does not know its own name has none; it is the one that was asked.
        address = (master[0].decode() if master[0] else asked[0], master[1])
        owners.update(dict.fromkeys(range(first, last + 1), address))
    return owners
