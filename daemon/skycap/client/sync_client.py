"""Client: AsyncClient without ``await``, for threads, Django, scripts."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self, TypeVar

from skycap.client.async_client import AsyncClient
from skycap.client.base import BaseClient
from skycap.client.recorder import Recorder
from skycap.job import Enqueued, Job, JobState
from skycap.payload import Payload
from skycap.raw_payload import RawPayload
from skycap.signing import Signer
from skycap.unique import Unique

if TYPE_CHECKING:
    from types import TracebackType

_T = TypeVar("_T")


class Client(BaseClient):
    """As AsyncClient, in the same words. One for a whole process: any thread may use it, and after a fork each child
    has a connection of its own. A thread of it speaks to skycap; it ends with ``close()``, or with the process.
    """

    def __init__(self, url: str | Recorder, *, token: str | None = None, signing_key: str | None = None) -> None:
        super().__init__(signer=None if signing_key is None else Signer.parse(signing_key))
        self._make: Callable[[], AsyncClient] = lambda: AsyncClient(url, token=token, signing_key=signing_key)
        self._line: _Line | None = None
        self._opening = threading.Lock()
        _CLIENTS.add(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close what was connected; the next call connects again."""
        with self._opening:
            line, self._line = self._line, None
        if line is not None:
            line.close()

    def enqueue(
        self,
        payload: Payload | RawPayload,
        *,
        delay: timedelta | None = None,
        at: datetime | None = None,
        deadline: timedelta | datetime | None = None,
        priority: int | None = None,
        job_id: str | None = None,
        unique: Unique | None = None,
        tags: Sequence[str] = (),
        tx: Any = None,
    ) -> Enqueued:
        """See AsyncClient.enqueue. ``tx`` is a DB-API connection of psycopg, psycopg2 or Django."""
        order = self.order(
            payload, delay=delay, at=at, deadline=deadline, priority=priority, job_id=job_id, unique=unique, tags=tags
        )
        if tx is not None:
            from skycap.client.outbox import enqueued_by_cursor

            (added,) = enqueued_by_cursor(tx, [order])
            return added
        (added,) = self._ask(lambda client: client.add([order]))
        return added

    def enqueue_many(
        self, payloads: Iterable[Payload | RawPayload], *, delay: timedelta | None = None, tx: Any = None
    ) -> list[Enqueued]:
        """See AsyncClient.enqueue_many."""
        orders = self.orders(payloads, delay=delay)
        if not orders:
            return []
        if tx is not None:
            from skycap.client.outbox import enqueued_by_cursor

            return enqueued_by_cursor(tx, orders)
        return self._ask(lambda client: client.add(orders))

    def get(self, job_id: str, *, queue: str | None = None) -> Job | None:
        """See AsyncClient.get."""
        return self._ask(lambda client: client.get(job_id, queue=queue))

    def wait(self, job_id: str, *, queue: str | None = None, timeout: timedelta) -> Job | None:
        """See AsyncClient.wait."""
        return self._ask(lambda client: client.wait(job_id, queue=queue, timeout=timeout))

    def cancel(self, job_id: str, *, queue: str | None = None) -> JobState | None:
        """See AsyncClient.cancel."""
        return self._ask(lambda client: client.cancel(job_id, queue=queue))

    def retry(self, job_id: str, *, queue: str | None = None) -> JobState | None:
        """See AsyncClient.retry."""
        return self._ask(lambda client: client.retry(job_id, queue=queue))

    def _ask(self, ask: Callable[[AsyncClient], Coroutine[Any, Any, _T]]) -> _T:
        with self._opening:
            if self._line is None:
                self._line = _Line(self._make())
            line = self._line
        return line.ask(ask)

    def start_anew(self) -> None:
        """In a child of fork(): the thread of the parent's line is not here, and its connections are the parent's."""
        if self._line is not None:
            _LEFT_BEHIND.append(self._line)
        self._line = None
        self._opening = threading.Lock()  # whoever of the parent held the old one is not here either


class _Line:
    """A thread in which an AsyncClient works."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="skycap client", daemon=True)
        self._thread.start()

    def ask(self, ask: Callable[[AsyncClient], Coroutine[Any, Any, _T]]) -> _T:
        answer = asyncio.run_coroutine_threadsafe(ask(self._client), self._loop)
        try:
            return answer.result()
        except BaseException:
            answer.cancel()  # an interrupt must not leave it running
            raise

    def close(self) -> None:
        self.ask(lambda client: client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


_CLIENTS: weakref.WeakSet[Client] = weakref.WeakSet()
_LEFT_BEHIND: list[_Line] = []
"""Lines of a parent process, kept from the garbage collector: it would close the parent's connections."""


def _after_fork() -> None:
    for client in _CLIENTS:
        client.start_anew()


os.register_at_fork(after_in_child=_after_fork)
