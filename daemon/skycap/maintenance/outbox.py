"""OutboxRelay: moves the jobs that backends enqueued in SQL to Redis, each exactly once, whoever dies when.

PostgreSQL numbers the batches, one at a time, and gives an unfinished one to the next relay with the same number, rows
and queues. Redis remembers the last number of each queue, and how much of that batch it had room for. So a batch that
is sent twice, or by a relay that was long believed dead, changes nothing.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

import structlog

from skycap.backoff import Backoff
from skycap.engine.batches import add_batch
from skycap.errors import SkycapError, Unavailable
from skycap.observe.pulse import Pulse

if TYPE_CHECKING:
    from skycap.engine.queue import Queue
    from skycap.maintenance.outbox_jobs import OutboxJob, OutboxJobs
    from skycap.services.outbox import Outbox, OutboxBatch, OutboxRow

_log = structlog.get_logger("skycap.outbox")

_TROUBLE = Backoff(first=timedelta(milliseconds=200), factor=2, longest=timedelta(seconds=5), attempts=1)

_FULL_SECONDS = 1.0
"""So long the jobs of a full queue stay where they are, and those of other queues go on."""

_LAST_BATCH_SECONDS = 2.0
"""So long a batch under way may take when the daemon stops; then another relay takes it over."""

_PURGE_SECONDS = 60.0
_PURGE_ROWS = 1000

_LONGEST_TURN = timedelta(minutes=10)
"""PostgreSQL may be silent for all of its time limits, one after the other, or bring its tables up to date."""

_AT_A_STRETCH = 25
"""Jobs that are made before others have their turn: about a millisecond."""


class Doorbell(Protocol):
    """Tells when there may be something to relay."""

    async def hear(self, heard: Callable[[], None]) -> None: ...


class OutboxRelay:
    """One of a fleet; they take turns. Without a ``doorbell`` it looks every ``poll``, and with one as well."""

    def __init__(
        self,
        outbox: Outbox,
        jobs: OutboxJobs,
        queue_named: Callable[[str], Queue],
        *,
        name: str,
        other_queue: str,
        poll: timedelta,
        keep: timedelta,
        batch: int = 500,
        doorbell: Doorbell | None = None,
    ) -> None:
        """``other_queue`` gets the kinds that ``jobs`` does not know."""
        self._outbox = outbox
        self._jobs = jobs
        self._queue_named = queue_named
        self._name = name
        self._queue_of = json.dumps(jobs.queue_of())
        self._other_queue = other_queue
        self._poll_seconds = poll.total_seconds()
        self._keep = keep
        self._batch = batch
        self._doorbell = doorbell
        self.pulse = Pulse("outbox", every=poll + _LONGEST_TURN)
        self._called = asyncio.Event()
        self._full_until: dict[str, float] = {}
        self._misses = 0
        self._purge_at = 0.0

    async def run(self) -> None:
        """Relay until cancelled; a batch under way is finished first."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._relay_on_and_on(), name="outbox: relay")
            if self._doorbell is not None:
                group.create_task(self._doorbell.hear(self._called.set), name="outbox: doorbell")

    async def relay_batch(self) -> bool:
        """Whether there was anything to move. Raises Unavailable; the batch is then taken again."""
        batch = await self._outbox.take(
            self._name,
            most=self._batch,
            queue_of=self._queue_of,
            other_queue=self._other_queue,
            full_queues=self._full_queues(),
        )
        if batch is None:
            return False
        relayed: list[int] = []
        full: set[str] = set()
        problems: dict[int, str] = {}
        for name, rows in _by_queue(batch).items():
            jobs = await self._jobs_of(rows)
            added = await add_batch(self._queue_named(name), batch.number, (job.encoded for job in jobs))
            relayed += (row.id for row in rows[:added])
            problems |= {job.row.id: job.problem for job in jobs[:added] if job.problem}
            if added < len(jobs):
                full.add(name)
        # One that comes late hears nothing true of queues, either.
        if await self._outbox.done(batch.number, relayed, problems):
            self._note_room({row.queue for row in batch.rows}, full)
        return True

    async def _jobs_of(self, rows: Sequence[OutboxRow]) -> list[OutboxJob]:
        jobs: list[OutboxJob] = []
        for start in range(0, len(rows), _AT_A_STRETCH):
            jobs += map(self._jobs.job_of, rows[start : start + _AT_A_STRETCH])
            await asyncio.sleep(0)
        return jobs

    def _note_room(self, queues: AbstractSet[str], full: AbstractSet[str]) -> None:
        for queue in queues - full:
            self._full_until.pop(queue, None)
        for queue in full:
            if queue not in self._full_until:
                _log.warning("queue is full; its jobs wait in the outbox", queue=queue)
            self._full_until[queue] = time.monotonic() + _FULL_SECONDS

    def _full_queues(self) -> list[str]:
        now = time.monotonic()
        return [queue for queue, until in self._full_until.items() if until > now]

    async def _relay_on_and_on(self) -> None:
        while True:
            self.pulse.beat()
            self._called.clear()
            try:
                while await self._relay_batch_to_its_end():
                    self.pulse.beat()
                    self._recovered()
                    await self._purge_if_due()
                await self._purge_if_due()
            except Exception as error:  # noqa: BLE001 - a daemon works on without its relay, which tries again
                await self._after_trouble(error)
            else:
                self._recovered()
                await self._until_called()

    async def _relay_batch_to_its_end(self) -> bool:
        batch = asyncio.create_task(self.relay_batch(), name="outbox: batch")
        try:
            return await asyncio.shield(batch)
        except asyncio.CancelledError:
            await asyncio.wait((batch,), timeout=_LAST_BATCH_SECONDS)
            batch.cancel()
            await asyncio.gather(batch, return_exceptions=True)
            raise

    async def _until_called(self) -> None:
        seconds = min(self._poll_seconds, _FULL_SECONDS) if self._full_until else self._poll_seconds
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._called.wait()

    async def _after_trouble(self, error: Exception) -> None:
        self._misses += 1
        if self._misses == 1:
            if isinstance(error, Unavailable):
                _log.warning("jobs wait in the outbox", problem=str(error))
            else:
                _log.error("jobs wait in the outbox", problem=str(error), exc_info=not isinstance(error, SkycapError))
        await asyncio.sleep(_TROUBLE.wait(self._misses).total_seconds())

    def _recovered(self) -> None:
        if self._misses:
            _log.info("the outbox is relayed again")
            self._misses = 0

    async def _purge_if_due(self) -> None:
        if time.monotonic() < self._purge_at:
            return
        if await self._outbox.purge(self._keep, most=_PURGE_ROWS) < _PURGE_ROWS:
            self._purge_at = time.monotonic() + _PURGE_SECONDS


def _by_queue(batch: OutboxBatch) -> dict[str, list[OutboxRow]]:
    """In order of the ids."""
    queues: dict[str, list[OutboxRow]] = {}
    for row in batch.rows:
        queues.setdefault(row.queue, []).append(row)
    return queues
