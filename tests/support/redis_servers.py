"""Redis in the ways an admin may run it: alone, behind Sentinel, as a cluster, with TLS, over a bad network."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import trustme

from skycap.embedded.binaries import find_programs
from skycap.embedded.privileges import Identity
from skycap.embedded.process import Child, Place
from skycap.embedded.waiting import until
from tests.support.redis import redis_at

_LIMIT = timedelta(seconds=10)
SERVICE = "skycap-test"
"""What the Sentinel of these tests calls its master."""


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@dataclass
class RedisServer:
    """A Valkey (or Redis) of the test's own, on a TCP port, with its data in ``folder``."""

    folder: Path
    port: int = field(default_factory=free_port)
    _child: Child | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def start(self, *options: str | Path, wait: str = "+PONG") -> None:
        """Start with ``options`` such as ``"--maxmemory", "1mb"``; return once it answers a PING with ``wait``.

        With a password it answers everybody else with -NOAUTH, and is ready all the same.
        """
        self.folder.mkdir(exist_ok=True)
        words = (*options, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.folder)
        valkey = find_programs(redis=True, database=False).valkey
        assert valkey is not None
        me = (os.geteuid(), os.getegid())
        lock = os.open(self.folder, os.O_RDONLY)
        try:
            place = Place(
                folder=self.folder,
                sockets=self.folder,
                identity=Identity(way="same", uid=me[0], gid=me[1], owner=me),
                lock=lock,
            )
            log = self.folder.with_suffix(".log")
            self._child = Child(valkey, *words, place=place, log=log, stop_signal=signal.SIGKILL)
        finally:
            os.close(lock)

        async def answers() -> bool:
            return await self._ping() in {wait, "-NOAUTH"}

        await self._child.until_ready(answers, limit=_LIMIT)

    async def kill(self) -> None:
        """End it as a power failure would."""
        if self._child:
            await self._child.stop(limit=_LIMIT)

    async def _ping(self) -> str:
        """The first word of the answer."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return ""
        try:
            writer.write(b"PING\r\n")
            return (await reader.readline()).decode().strip().partition(" ")[0]
        except OSError:
            return ""
        finally:
            writer.close()


@asynccontextmanager
async def redis_server(folder: Path, *options: str | Path) -> AsyncGenerator[RedisServer]:
    """A server that keeps nothing on disk by itself."""
    server = RedisServer(folder)
    await server.start("--save", "", *options)
    try:
        yield server
    finally:
        await server.kill()


@dataclass(frozen=True, kw_only=True)
class Guarded:
    """A master and its replica; ``url`` leads to whichever is the master of ``service``."""

    url: str
    sentinel_url: str
    service: str
    master: RedisServer
    replica: RedisServer


@asynccontextmanager
async def sentinel(folder: Path) -> AsyncGenerator[Guarded]:
    """A master, a replica, and a Sentinel that takes half a second of silence for a death. All want a password."""
    async with AsyncExitStack() as stack:
        protected = ("--requirepass", "secret", "--masterauth", "secret", "--repl-diskless-sync-delay", "0")
        master = await stack.enter_async_context(redis_server(folder / "master", *protected))
        replica = await stack.enter_async_context(
            redis_server(folder / "replica", *protected, "--replicaof", f"127.0.0.1 {master.port}")
        )
        watching = RedisServer(folder / "sentinel")
        stack.push_async_callback(watching.kill)
        watching.folder.mkdir()
        configuration = watching.folder / "sentinel.conf"
        configuration.write_text(
            f"sentinel monitor {SERVICE} 127.0.0.1 {master.port} 1\n"
            f"sentinel auth-pass {SERVICE} secret\n"
            f"sentinel down-after-milliseconds {SERVICE} 500\n"
            f"sentinel failover-timeout {SERVICE} 2000\n"
        )
        await watching.start(configuration, "--sentinel")

        async def knows_both() -> bool:
            async with redis_at(watching.url) as client:
                (known,) = (await client.sentinel_masters()).values()
                return bool(known["num-slaves"] == 1)

        async def is_in_step() -> bool:
            async with redis_at(f"redis://:secret@127.0.0.1:{replica.port}") as client:
                return bool((await client.info("replication"))["master_link_status"] == "up")

        await until(is_in_step, limit=_LIMIT)
        await until(knows_both, limit=_LIMIT)
        nobody = free_port()
        url = f"redis+sentinel://:secret@127.0.0.1:{nobody},127.0.0.1:{watching.port}/{SERVICE}/0"
        yield Guarded(url=url, sentinel_url=watching.url, service=SERVICE, master=master, replica=replica)


@dataclass(frozen=True, kw_only=True)
class Sharded:
    """Three masters; ``url`` names two of them."""

    url: str
    nodes: list[RedisServer]


@asynccontextmanager
async def cluster(folder: Path) -> AsyncGenerator[Sharded]:
    """Three masters without replicas, each with a third of the slots."""
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(
                redis_server(
                    folder / f"node{number}",
                    *("--cluster-enabled", "yes", "--cluster-port", str(free_port())),
                    *("--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no"),
                )
            )
            for number in range(3)
        ]
        third = 16384 // 3
        clients = [await stack.enter_async_context(redis_at(node.url)) for node in nodes]
        for number, client in enumerate(clients):
            last = 16383 if number == 2 else (number + 1) * third - 1
            await client.execute_command("CLUSTER", "ADDSLOTSRANGE", number * third, last)
            await client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            await _meet(clients[0], client, nodes[number].port)

        async def all_agree() -> bool:
            return all([await _knows(client, len(nodes)) for client in clients])

        await until(all_agree, limit=_LIMIT)
        yield Sharded(url=f"redis+cluster://127.0.0.1:{nodes[0].port},127.0.0.1:{nodes[1].port}", nodes=nodes)


async def _meet(first: Any, other: Any, port: int) -> None:
    if first is not other:
        bus = (await other.config_get("cluster-port"))["cluster-port"]
        await first.execute_command("CLUSTER", "MEET", "127.0.0.1", port, bus)


async def _knows(client: Any, nodes: int) -> bool:
    lines = (await client.execute_command("CLUSTER", "INFO")).decode().split("\r\n")
    return {"cluster_state:ok", "cluster_slots_ok:16384", f"cluster_size:{nodes}"} <= set(lines)


class Proxy:
    """A way to a server that can be cut, and that can go silent as a broken network does: without closing anything."""

    def __init__(self, target: str, *, context: ssl.SSLContext | None = None) -> None:
        self.chunks = 0
        """How often something came from a client: at most as often as the clients wrote."""
        self.connections = 0
        self.answers_to_lose = 0
        """How many of the next answers do not arrive: instead of each, all connections break."""
        self._target = urlsplit(target)
        self._context = context
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        """The one that it got when it was first opened, and keeps."""

    @property
    def url(self) -> str:
        return f"{'rediss' if self._context else 'redis'}://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Break all connections, as a router that restarts."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    def go_silent(self) -> None:
        """Take everything, new connections too, and pass nothing on."""
        self._flowing.clear()

    def speak(self) -> None:
        """Undo ``go_silent``."""
        self._flowing.set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._context)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        self._flowing.set()
        self.cut()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            their_reader, their_writer = await self._reach()
            self._writers.add(their_writer)
            try:
                await asyncio.gather(self._pass(reader, their_writer, ours=True), self._pass(their_reader, writer))
            finally:
                their_writer.close()
                self._writers.discard(their_writer)
        except OSError:
            pass  # either side may go at any time
        finally:
            writer.close()
            self._writers.discard(writer)

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._target.scheme == "unix":
            return await asyncio.open_unix_connection(self._target.path)
        return await asyncio.open_connection(self._target.hostname, self._target.port)

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, ours: bool = False) -> None:
        while data := await source.read(65536):
            self.chunks += ours
            if self.answers_to_lose and not ours:
                self.answers_to_lose -= 1
                self.cut()
                return
            await self._flowing.wait()
            sink.write(data)
            await sink.drain()
        sink.close()


@asynccontextmanager
async def proxy(url: str, *, context: ssl.SSLContext | None = None) -> AsyncGenerator[Proxy]:
    """A Proxy before the server at ``url``, which is ``unix://`` or ``redis://``."""
    between = Proxy(url, context=context)
    await between.open()
    try:
        yield between
    finally:
        await between.close()


@dataclass(frozen=True, kw_only=True)
class Encrypted:
    """A server that speaks TLS only; ``ca_file`` signed its certificate for 127.0.0.1."""

    address: str
    ca_file: Path


@asynccontextmanager
async def tls_redis(url: str, folder: Path) -> AsyncGenerator[Encrypted]:
    """TLS before the server at ``url``: the Valkey of the wheel has none of its own."""
    authority = trustme.CA()
    ca_file = folder / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    cast("Any", authority.issue_cert("127.0.0.1")).configure_cert(context)
    async with proxy(url, context=context) as front:
        yield Encrypted(address=front.url, ca_file=ca_file)
