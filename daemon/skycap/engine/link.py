"""Link: how scripts and reads reach Redis; every failure to do so is Unavailable, whatever redis-py calls it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import cache
from importlib.resources import files
from typing import Any, Protocol, Self, TypeVar, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import (
    BusyLoadingError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from skycap.errors import Unavailable

_T = TypeVar("_T")

SOCKET_TIMEOUT_SECONDS = 5.0
"""A Redis that does not answer for this long is gone; a half-open connection is noticed after it."""

MOST_CONNECTIONS = 50

_TRANSIENT = (
    RedisConnectionError,
    RedisTimeoutError,
    BusyLoadingError,
    ReadOnlyError,
    OutOfMemoryError,
    OSError,
)
_TRANSIENT_REPLIES = ("BUSY", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "TRYAGAIN", "CLUSTERDOWN", "UNBLOCKED")


def connection_options() -> dict[str, Any]:
    """What every pool of ours is made with: redis-py retries nothing for a pool that is made from an address."""
    return {
        "max_connections": MOST_CONNECTIONS,
        "socket_timeout": SOCKET_TIMEOUT_SECONDS,
        "socket_connect_timeout": SOCKET_TIMEOUT_SECONDS,
    }


class Script:
    """One Lua script with the shared part of all queue scripts before it."""

    def __init__(self, name: str) -> None:
        folder = files("skycap.engine") / "lua"
        self.name = name
        self.text = (folder / "queue.lua").read_text() + "\n" + (folder / f"{name}.lua").read_text()
        # Redis names scripts by SHA-1; nothing is secured by it.
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


@cache
def script(name: str) -> Script:
    return Script(name)


class Link:
    """One process's way to Redis, over a pool it does not own.

    Nothing is retried here: redis-py would silently send a write twice, and each caller knows best how long it
    may wait. All scripts are idempotent, so that a caller whose answer was lost may send the same call again.
    """

    def __init__(self, pool: BlockingConnectionPool) -> None:
        self._pool = pool
        self._redis = cast("_Client", Redis(connection_pool=pool))

    @classmethod
    def to(cls, url: str) -> Self:
        """A link with a pool of its own, for ``close``."""
        # redis-py says no type of from_url.
        return cls(cast("Any", BlockingConnectionPool).from_url(url, **connection_options()))

    async def close(self) -> None:
        """Close the pool; for a link that was made by ``to``."""
        await self._pool.disconnect()

    async def call(self, name: str, prefix: str, *arguments: str | bytes | float) -> Any:
        """Run a script on the queue with this prefix; raises Unavailable."""
        lua = script(name)
        with _reaching_redis():
            try:
                return await _heeding_cancellation(self._redis.evalsha(lua.sha, 1, prefix, *arguments))
            except NoScriptError:
                return await _heeding_cancellation(self._redis.eval(lua.text, 1, prefix, *arguments))

    async def command(self, *words: str | bytes | float) -> Any:
        """Send one plain command; raises Unavailable."""
        with _reaching_redis():
            return await _heeding_cancellation(self._redis.execute_command(*words))

    async def pipeline(self, commands: list[tuple[str | bytes | float, ...]]) -> list[Any]:
        """Send several commands in one round trip; raises Unavailable."""
        with _reaching_redis():
            async with self._redis.pipeline(transaction=False) as pipe:
                for words in commands:
                    pipe.execute_command(*words)
                return await _heeding_cancellation(pipe.execute())

    @asynccontextmanager
    async def subscribed(self, channel: str) -> AsyncGenerator[AsyncIterator[str]]:
        """The messages of a channel, on a connection of its own, from now on; raises Unavailable."""
        subscription = self._redis.pubsub()
        try:
            with _reaching_redis():
                await subscription.subscribe(channel)
            yield _texts(subscription)
        finally:
            await subscription.aclose()


class _Pipeline(Protocol):
    def execute_command(self, *words: str | bytes | float) -> object: ...
    async def execute(self) -> list[Any]: ...


class _Subscription(Protocol):
    async def subscribe(self, channel: str) -> None: ...
    def listen(self) -> AsyncIterator[dict[str, Any]]: ...
    async def aclose(self) -> None: ...


class _Client(Protocol):
    """What we use of redis-py, which types its commands for synchronous and asynchronous clients alike."""

    async def evalsha(self, sha: str, numkeys: int, *arguments: str | bytes | float) -> Any: ...
    async def eval(self, script: str, numkeys: int, *arguments: str | bytes | float) -> Any: ...
    async def execute_command(self, *words: str | bytes | float) -> Any: ...
    def pipeline(self, *, transaction: bool) -> AbstractAsyncContextManager[_Pipeline]: ...
    def pubsub(self) -> _Subscription: ...


async def _heeding_cancellation(reply: Awaitable[_T]) -> _T:
    """The reply, or CancelledError when this task was cancelled while it waited for it.

    redis-py sends with asyncio.wait_for, which before Python 3.12 swallows a cancellation that comes when the data
    has just been sent (cpython issue 86296). A loop that is to end would then go on for ever.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        return await reply
    finally:
        # Also in place of an error: who handles that would go on, too.
        if task and task.cancelling() > before:
            raise asyncio.CancelledError


async def _texts(subscription: _Subscription) -> AsyncIterator[str]:
    with _reaching_redis():
        async for message in subscription.listen():
            if message["type"] == "message":
                yield message["data"].decode()


@contextmanager
def _reaching_redis() -> Generator[None]:
    try:
        yield
    except _TRANSIENT as error:
        raise Unavailable("redis", _without_address(error)) from error
    except ResponseError as error:
        if str(error).startswith(_TRANSIENT_REPLIES):
            raise Unavailable("redis", str(error)) from error
        raise


def _without_address(error: Exception) -> str:
    # redis-py puts host and port into some messages; the log may go where the address should not.
    kind = type(error).__name__
    return str(error) if isinstance(error, RedisError) and isinstance(error, ResponseError) else kind
