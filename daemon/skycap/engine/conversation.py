"""Conversation: one connection to Redis that any number of callers share, from its start to its end.

redis-py connects it (TLS, user, database, Sentinel's choice of the master). From then on we write and read its
stream: everything that is asked in one turn of the event loop goes out in one write, and replies go to whoever asked
first. A call costs a third of what it costs through redis-py's client, and a tenth when a hundred are made at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, cast

import hiredis
from redis.exceptions import InvalidResponse, RedisError, ResponseError

from skycap.engine.refusal import code_of, unreachable
from skycap.errors import Unavailable

Words = tuple[str | bytes | float, ...]
"""One command."""

CONNECT_TIMEOUT = timedelta(seconds=3)
REPLY_TIMEOUT = timedelta(seconds=3)
"""A Redis that says nothing for this long, while somebody waits for it, is gone: so half-open connections show."""

_SECOND_LOOK_SECONDS = 0.1
"""When it was our own process that was held up, the replies are there and are read within this."""
_READ_BYTES = 65536
_ELSEWHERE = frozenset({"MASTERDOWN", "READONLY", "UNBLOCKED"})
"""These say that the server is no master any more: the next connection may find the one that is."""
_INCOMPLETE = object()

_packed: Callable[[Words], bytes] = cast("Any", hiredis).pack_command  # which says no type of what it returns


class Connection(Protocol):
    """What we use of redis-py's connections."""

    async def connect(self) -> None: ...
    async def disconnect(self, *, nowait: bool) -> None: ...


@dataclass(slots=True, eq=False)
class _Exchange:
    """Commands that were asked together, and the replies so far."""

    answer: asyncio.Future[list[Any]]
    expected: int
    asked_at: float
    patience_seconds: float
    replies: list[Any]


class Conversation(asyncio.Protocol):
    """Connects at once, in a task of its own; nobody who asks can harm it by being cancelled.

    When the connection fails or is ended, whoever waits gets Unavailable, and it ``is_over`` for good. Nothing is
    sent twice.
    """

    def __init__(self, make: Callable[[], Connection]) -> None:
        self.is_over = False
        self._loop = asyncio.get_running_loop()
        self._exchanges: deque[_Exchange] = deque()
        self._unsent: list[bytes] = []
        self._is_to_flush = False
        self._transport: asyncio.Transport | None = None
        self._parser = hiredis.Reader(
            protocolError=InvalidResponse, replyError=cast("Any", ResponseError), notEnoughData=_INCOMPLETE
        )
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._heard_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._task = asyncio.create_task(self._hold(make), name="skycap redis connection")

    def ask(
        self, commands: Sequence[Words], *, patience_seconds: float = REPLY_TIMEOUT.total_seconds()
    ) -> asyncio.Future[list[Any]]:
        """The replies, errors among them as values; Unavailable when the server is silent for so long."""
        packed = [*map(_packed, commands)]  # before anything is noted: it may raise
        answer: asyncio.Future[list[Any]] = self._loop.create_future()
        is_alone = not self._exchanges
        self._exchanges.append(_Exchange(answer, len(commands), self._loop.time(), patience_seconds, []))
        self._unsent += packed
        if not self._transport or self._is_to_flush:
            return answer
        if is_alone:
            self._send()  # at once; what is asked beside it follows together
        else:
            self._is_to_flush = True
            self._loop.call_soon(self._flush)
        return answer

    def end(self, problem: str) -> None:
        """Close the connection now, whatever is still on its way; ``problem`` is told to those who wait."""
        self._fail(problem)
        self._task.cancel()

    async def ended(self) -> None:
        """Return when nothing is left of it, after ``end``."""
        await asyncio.wait([self._task])

    async def _hold(self, make: Callable[[], Connection]) -> None:
        connection: Connection | None = None
        problem = "the connection was closed"
        try:
            connection = make()
            async with asyncio.timeout(CONNECT_TIMEOUT.total_seconds()):
                await connection.connect()
            # Sentinel is asked with asyncio.wait_for, which before Python 3.12 may swallow a cancellation.
            if not self.is_over and not self._task.cancelling():
                await self._listen(connection)
        except (RedisError, OSError, TimeoutError) as error:
            problem = unreachable(error)
        finally:
            self._fail(problem)
            if connection:
                await connection.disconnect(nowait=True)

    async def _listen(self, connection: Connection) -> None:
        # redis-py has no public name for the streams of a connection; its own methods for them take a task and a
        # timer for each write, and connect anew, to whatever server, when the connection has failed meanwhile.
        streams = cast("Any", connection)
        self._transport = cast("asyncio.Transport", streams._writer.transport)  # noqa: SLF001
        # Replies come to us without a further turn of the event loop for a task that reads them.
        self._transport.set_protocol(self)
        self._heard_at = self._loop.time()
        self._flush()
        await self._lost

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        try:
            self._parser.feed(data)
            while not self.is_over and (reply := self._parser.gets()) is not _INCOMPLETE:
                if not isinstance(reply, hiredis.PushNotification):
                    self._take(reply)
        except RedisError as error:
            self.end(unreachable(error))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._lost.done():
            self._lost.set_exception(exc or ConnectionResetError("Redis closed the connection"))
            self._lost.exception()  # whether or not anybody still waits for it

    def _flush(self) -> None:
        self._is_to_flush = False
        self._send()

    def _send(self) -> None:
        # One that is closing says so in a moment to whoever waits; uvloop's refuses what is written until then.
        if self._transport and self._unsent and not self._transport.is_closing():
            self._transport.write(b"".join(self._unsent))
            self._unsent.clear()
            self._look_in_time()

    def _take(self, reply: Any) -> None:
        if not self._exchanges:
            raise InvalidResponse("a reply to nothing")
        exchange = self._exchanges[0]
        exchange.replies.append(reply)
        if len(exchange.replies) == exchange.expected:
            self._exchanges.popleft()
            if not exchange.answer.done():
                exchange.answer.set_result(exchange.replies)
        if code_of(reply) in _ELSEWHERE:
            self.end(str(reply))

    def _look_in_time(self) -> None:
        # One timer, for the oldest: one for each call would cost more than the call.
        due = self._due()
        if self._timer is None or due < self._timer.when():
            if self._timer:
                self._timer.cancel()
            self._timer = self._loop.call_at(due, self._look)

    def _due(self) -> float:
        return max(self._exchanges[0].asked_at, self._heard_at) + self._exchanges[0].patience_seconds

    def _look(self, *, again: bool = False) -> None:
        self._timer = None
        if not self._exchanges:
            return
        if self._due() > self._loop.time():
            self._look_in_time()
        elif not again:
            self._timer = self._loop.call_later(_SECOND_LOOK_SECONDS, lambda: self._look(again=True))
        else:
            self.end(f"no answer within {self._exchanges[0].patience_seconds:g} s")

    def _fail(self, problem: str) -> None:
        self.is_over = True
        if self._timer:
            self._timer.cancel()
        if self._transport:
            # Not close(): that would wait until what is unsent has been sent.
            self._transport.abort()
        while self._exchanges:
            answer = self._exchanges.popleft().answer
            if not answer.done():
                answer.set_exception(Unavailable("redis", problem))
        self._unsent.clear()
        self._transport = None
