"""Events: what happens to a queue's jobs, as it happens; read from the stream that the scripts write."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from skycap.engine.queue import Queue
from skycap.engine.stored import moment

_BLOCK = timedelta(seconds=2)
_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a job: ``name`` is the state that it came to, or ``progress``, with it in ``data``.

    Events that happened in the same instant share an ``id``.
    """

    id: str
    name: str
    job_id: str
    queue: str
    at: datetime
    data: str = ""


class EventStream:
    """One queue's events from a point on; at least the newest 5,000 are kept."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    async def newest(self) -> str:
        """The id of the newest event; what is read after it happened later."""
        found = await self._queue.link.command("XREVRANGE", self._queue.keys.events, "+", "-", "COUNT", 1)
        return found[0][0].decode() if found else "0-0"

    async def after(self, last: str) -> AsyncIterator[Event]:
        """Every event after the one with id ``last``, then further ones as they happen. Raises Unavailable."""
        key = self._queue.keys.events
        block = round(_BLOCK.total_seconds() * 1000)
        while True:
            reply = await self._queue.link.blocking(
                "XREAD", "COUNT", _AT_ONCE, "BLOCK", block, "STREAMS", key, last, timeout=_BLOCK
            )
            for event_id, fields in _entries(reply):
                last = event_id.decode()
                for event in _events(last, self._queue.name, fields):
                    yield event

    async def between(self, last: str, until: str) -> AsyncIterator[Event]:
        """Every event that is kept after the one with id ``last``, up to the one with id ``until``."""
        key = self._queue.keys.events
        while True:
            entries = await self._queue.link.command("XRANGE", key, f"({last}", until, "COUNT", _AT_ONCE)
            for event_id, fields in entries:
                last = event_id.decode()
                for event in _events(last, self._queue.name, fields):
                    yield event
            if len(entries) < _AT_ONCE:
                return


def _entries(reply: Any) -> list[tuple[bytes, list[bytes]]]:
    """RESP3 answers with a map from stream to entries, RESP2 with pairs of them; nothing new is None."""
    if not reply:
        return []
    by_stream: dict[Any, Any] = dict(reply)
    return [(entry_id, fields) for entries in by_stream.values() for entry_id, fields in entries]


def _events(entry_id: str, queue: str, fields: list[bytes]) -> Iterator[Event]:
    at = moment(entry_id.partition("-")[0])
    for i in range(0, len(fields), 2):
        job_id, _, data = fields[i + 1].decode().partition(" ")
        yield Event(id=entry_id, name=fields[i].decode(), job_id=job_id, queue=queue, at=at, data=data)
