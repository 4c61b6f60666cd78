"""Finds jobs by what they are: their kind, a tag, why they were given up."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skycap.job import Job, JobState

if TYPE_CHECKING:
    from skycap.engine.queue import Queue


_PAGE = 100


@dataclass(frozen=True, kw_only=True)
class Search:
    """Which jobs; None: whichever."""

    kind: str | None = None
    tag: str | None = None
    reason: str | None = None

    def fits(self, job: Job) -> bool:
        return (
            self.kind in {None, job.kind}
            and self.reason in {None, job.reason}
            and (self.tag is None or self.tag in job.tags)
        )

    async def first(self, queues: Iterable[Queue], states: Sequence[JobState], *, limit: int) -> list[Job]:
        """At most ``limit`` jobs of each queue and state, in the order of Queue.jobs."""
        found: list[Job] = []
        for queue in queues:
            for state in states:
                found += [job async for job in self._in(queue, state, limit)]
        return found

    async def every(self, queues: Iterable[Queue], state: JobState) -> list[tuple[Queue, str]]:
        """Where each job in ``state`` is, and its id. All are found before the first is touched: that moves others."""
        return [(queue, job.id) for queue in queues async for job in self._in(queue, state)]

    async def _in(self, queue: Queue, state: JobState, limit: int | None = None) -> AsyncGenerator[Job]:
        found = 0
        async for job in _each(queue, state):
            if self.fits(job):
                yield job
                found += 1
                if found == limit:
                    return


async def _each(queue: Queue, state: JobState) -> AsyncGenerator[Job]:
    """Every job in ``state``; a page can be short or empty, as several states share an index."""
    seen: set[str] = set()
    for offset in range(0, await _extent(queue, state), _PAGE):
        for job in await queue.jobs(state, limit=_PAGE, offset=offset):
            if job.id not in seen:  # what has moved meanwhile may come again
                seen.add(job.id)
                yield job


async def _extent(queue: Queue, state: JobState) -> int:
    """How many places the index has in which jobs of ``state`` are."""
    counts = await queue.counts()
    known = {
        JobState.AVAILABLE: counts.available,
        JobState.SCHEDULED: counts.later,
        JobState.RETRYABLE: counts.later,
        JobState.RUNNING: counts.running,
        JobState.DISCARDED: counts.discarded,
    }.get(state)
    return await queue.link.command("ZCARD", queue.keys.done) if known is None else known
