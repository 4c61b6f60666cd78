"""Pages: long lists of jobs, a part at a time. What has moved between two parts hides nothing that has stayed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

from skycap.engine.queue import Queue
from skycap.engine.search import Search
from skycap.engine.stored import text
from skycap.job import Job, JobState

MOST_LOOKED_AT = 1000
"""For one page: a search for what is rare gives short pages rather than taking long."""
_AT_ONCE = 100


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a page ended: its last job. ``gate`` is blank for one that waits at no limit."""

    queue: str
    state: JobState
    gate: str
    score: float
    job_id: str


@dataclass(frozen=True, kw_only=True)
class Page:
    """``ended_at`` is None when nothing follows; a page may be short, or empty, and others follow all the same."""

    jobs: Sequence[Job]
    ended_at: Place | None


async def page(
    search: Search, queues: Sequence[Queue], states: Sequence[JobState], *, limit: int, after: Place | None = None
) -> Page:
    """The jobs that fit, after those of the page that ended there; queue by queue, and state by state.

    Raises ValueError for a place that is in none of the queues and states.
    """
    found: list[Job] = []
    looked_at = 0
    async for place, job in _every(queues, states, after):
        looked_at += 1
        if job is not None and job.state is place.state and search.fits(job):
            found.append(job)
        if len(found) == limit or looked_at == MOST_LOOKED_AT:
            return Page(jobs=found, ended_at=place)
    return Page(jobs=found, ended_at=None)


async def _every(
    queues: Sequence[Queue], states: Sequence[JobState], after: Place | None
) -> AsyncGenerator[tuple[Place, Job | None]]:
    """None for a job that is gone by now."""
    places = [(queue, state) for queue in queues for state in states]
    if after is not None:
        begin = [(queue.name, state) for queue, state in places].index((after.queue, after.state))
        places = places[begin:]
    for queue, state in places:
        for line in await _lines(queue, state):
            if after is None or line.gate >= after.gate:
                last = after if after is not None and line.gate == after.gate else None
                async for each in line.after(last):
                    yield each
        after = None


@dataclass(frozen=True, kw_only=True)
class _Line:
    """One index in which jobs of a state stand."""

    queue: Queue
    state: JobState
    key: str
    gate: str = ""

    @property
    def _is_newest_first(self) -> bool:
        return self.state.is_final

    async def after(self, last: Place | None) -> AsyncGenerator[tuple[Place, Job | None]]:
        order = "ZREVRANGE" if self._is_newest_first else "ZRANGE"
        while True:
            begin = 0 if last is None else await self._behind(last)
            reply = await self.queue.link.command(order, self.key, begin, begin + _AT_ONCE - 1, "WITHSCORES")
            rows = _scored(reply)
            jobs = await self.queue.read([job_id for job_id, _ in rows])
            for (job_id, score), job in zip(rows, jobs, strict=True):
                last = Place(queue=self.queue.name, state=self.state, gate=self.gate, score=score, job_id=text(job_id))
                yield last, job
            if len(rows) < _AT_ONCE:
                return

    async def _behind(self, last: Place) -> int:
        """How many stand before the one behind ``last``; where that has left, those of its own score come again."""
        rank, before = await self.queue.link.pipeline(
            [("ZREVRANK", self.key, last.job_id), ("ZCOUNT", self.key, f"({last.score!r}", "+inf")]
            if self._is_newest_first
            else [("ZRANK", self.key, last.job_id), ("ZCOUNT", self.key, "-inf", f"({last.score!r}")]
        )
        return int(before if rank is None else rank + 1)


async def _lines(queue: Queue, state: JobState) -> list[_Line]:
    keys = queue.keys
    key = {
        JobState.AVAILABLE: keys.ready,
        JobState.SCHEDULED: keys.later,
        JobState.RETRYABLE: keys.later,
        JobState.RUNNING: keys.run,
        JobState.DISCARDED: keys.dead,
    }.get(state, keys.done)
    lines = [_Line(queue=queue, state=state, key=key)]
    if state is JobState.AVAILABLE:
        gates = sorted(map(text, await queue.link.command("ZRANGE", keys.gates, 0, -1)))
        lines += [_Line(queue=queue, state=state, key=keys.waiting_at(gate), gate=gate) for gate in gates]
    return lines


def _scored(reply: Sequence[Any]) -> list[tuple[bytes, float]]:
    # RESP3 answers with pairs, RESP2 with a flat list.
    pairs = reply if reply and isinstance(reply[0], list) else zip(reply[::2], reply[1::2], strict=True)
    return [(job_id, float(score)) for job_id, score in pairs]
