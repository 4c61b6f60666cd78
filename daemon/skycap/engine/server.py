"""Server: one Redis, or the master that Sentinel names: one shared connection, and some for what blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from skycap.engine.conversation import REPLY_TIMEOUT, Connection, Conversation, Words
from skycap.errors import Unavailable

_MOST_BLOCKED = 50
"""Commands that may block on the server at once; one more waits for its turn."""
_MOST_IDLE = 4


class Server:
    """Connects when it is first asked, and anew when it is asked after the connection has failed."""

    def __init__(self, make: Callable[[], Connection]) -> None:
        self._make = make
        self._shared: Conversation | None = None
        self._idle: list[Conversation] = []
        self._blocked: set[Conversation] = set()
        self._turns = asyncio.Semaphore(_MOST_BLOCKED)
        self._is_closed = False

    async def ask(self, commands: Sequence[Words]) -> list[Any]:
        """The replies, errors among them as values; raises Unavailable when there are none."""
        if self._shared is None or self._shared.is_over:
            self._shared = self._converse()
        return await self._shared.ask(commands)

    async def block(self, words: Words, *, timeout: timedelta) -> Any:
        """The reply of a command that the server may hold back for ``timeout``."""
        async with self._turns:
            conversation = self._idle_one() or self._converse()
            self._blocked.add(conversation)
            try:
                (reply,) = await conversation.ask([words], patience_seconds=(timeout + REPLY_TIMEOUT).total_seconds())
            except BaseException:
                # Nobody wants the answer any more, and the server would hold the connection up until it has one.
                conversation.end("the call was given up")
                raise
            finally:
                self._blocked.discard(conversation)
            self._keep(conversation)
            return reply

    def leave(self, problem: str) -> None:
        """Drop all connections, and connect anew when asked again; ``problem`` is told to those who wait."""
        for conversation in self._conversations():
            conversation.end(problem)

    async def close(self) -> None:
        """Whoever waits gets Unavailable; takes no longer than a turn of the loop."""
        self._is_closed = True
        conversations = self._conversations()
        self.leave("the link is closed")
        for conversation in conversations:
            await conversation.ended()

    def _conversations(self) -> list[Conversation]:
        return [*self._idle, *self._blocked, *filter(None, [self._shared])]

    def _converse(self) -> Conversation:
        if self._is_closed:
            raise Unavailable("redis", "the link is closed")
        return Conversation(self._make)

    def _idle_one(self) -> Conversation | None:
        self._idle = [conversation for conversation in self._idle if not conversation.is_over]
        return self._idle.pop() if self._idle else None

    def _keep(self, conversation: Conversation) -> None:
        if len(self._idle) < _MOST_IDLE and not self._is_closed:
            self._idle.append(conversation)
        else:
            conversation.end("not needed")
