"""Does a call cost more when more jobs wait? Times the calls, and weighs a job, on queues of very different length.

.venv/bin/python -m tests.benchmarks.growth --help
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from skycap.engine.link import Link
from skycap.engine.policy import QueuePolicy
from skycap.engine.queue import Queue, Settlement, Step
from skycap.job import JobState
from skycap.outcome import Completed, HandedBack, Outcome
from skycap.payload import Payload
from tests.benchmarks.filling import fill, new_job
from tests.benchmarks.processes import private_redis, surroundings
from tests.benchmarks.tables import number, percentile, table
from tests.support.redis import redis_at

ROUNDS, CALLS_A_ROUND = 10, 50
"""The queues take turns, so that whatever else the machine does befalls all of them alike."""

_CLAIMED_AT_ONCE = 10
_LISTED = 50

Figures = Mapping[str, float]
"""What was measured, by its name and unit."""


class Parcel(Payload, kind="parcel"):
    """150 bytes of JSON, as much as a booking's payload."""

    booking_id: str = "8d6f3c1e-52b7-4b0a-9a3e-7f1d2c4b5a60"
    user_id: str = "c1a5e0f4-0d3b-4f6e-8b7a-93e2d1f0a4b8"
    user_email: str = "ada@example.com"
    booking_type: str = "HOTEL"


class Line:
    """A queue in which ``waiting`` jobs wait. Every probe leaves as many behind as it found."""

    def __init__(self, waiting: int, url: str, redis: Any) -> None:
        self.waiting = waiting
        self._url = url
        self._redis = redis
        self._bytes_each = 0.0
        self._seconds: dict[str, list[float]] = {name: [] for name in PROBES}
        self._queue = self._connected()

    @property
    def figures(self) -> Figures:
        figures: dict[str, float] = {}
        for name, seconds in self._seconds.items():
            figures[f"{name}, p50 ms"] = percentile(seconds, 0.5) * 1000
            figures[f"{name}, p99 ms"] = percentile(seconds, 0.99) * 1000
        return {**figures, "memory per waiting job, bytes": self._bytes_each}

    async def refuse_foreign_jobs(self) -> None:
        """Raises ClickException when there are jobs that somebody else put there."""
        found = await self._queue.counts()
        if found.available or found.later or found.running:
            problem = f"the queue {self._queue.name} has jobs already: does this benchmark run elsewhere?"
            raise click.ClickException(f"{problem} If not, remove the keys {self._queue.keys.prefix}*")

    async def open(self) -> None:
        """Let the jobs wait."""
        await self._queue.configure()
        empty = await self._used_bytes()
        await fill(self._queue, self.waiting, Parcel())
        await self._queue.link.close()  # the buffers of its connection are no job's memory
        self._bytes_each = (await self._used_bytes() - empty) / self.waiting
        self._queue = self._connected()

    async def close(self) -> None:
        """Remove the queue with all that it holds."""
        await self._queue.link.close()
        found: list[Any] = [key async for key in self._redis.scan_iter(f"{self._queue.keys.prefix}*", count=1000)]
        for start in range(0, len(found), 1000):
            await self._redis.unlink(*found[start : start + 1000])

    async def warm_up(self) -> None:
        """Let Redis and the interpreter see everything once, unmeasured."""
        for probe in PROBES.values():
            await probe(self)

    async def measure(self, name: str) -> None:
        self._seconds[name] += [await PROBES[name](self) for _ in range(CALLS_A_ROUND)]

    async def enqueue(self) -> float:
        began = time.perf_counter()
        (added,) = await self._queue.add([new_job(self._queue, Parcel())])
        took = time.perf_counter() - began
        await self._queue.cancel(added.job_id)
        return took

    async def claim(self) -> float:
        began = time.perf_counter()
        step = await self._step(slots=_CLAIMED_AT_ONCE)
        took = time.perf_counter() - began
        assert len(step.claims) == _CLAIMED_AT_ONCE
        await self._settle(step, HandedBack())
        return took

    async def urgent(self) -> float:
        """Behind all that wait, and yet first."""
        began = time.perf_counter()
        (added,) = await self._queue.add([new_job(self._queue, Parcel(), priority=1)])
        step = await self._step(slots=1)
        took = time.perf_counter() - began
        assert [claim.job_id for claim in step.claims] == [added.job_id]
        await self._settle(step, Completed())
        return took

    async def count(self) -> float:
        began = time.perf_counter()
        counts = await self._queue.counts()
        took = time.perf_counter() - began
        assert counts.available == self.waiting
        return took

    async def list_first(self) -> float:
        return await self._list(0)

    async def list_middle(self) -> float:
        return await self._list(self.waiting // 2)

    async def _list(self, offset: int) -> float:
        began = time.perf_counter()
        jobs = await self._queue.jobs(JobState.AVAILABLE, limit=_LISTED, offset=offset)
        took = time.perf_counter() - began
        assert len(jobs) == _LISTED
        return took

    async def _settle(self, step: Step, outcome: Outcome) -> None:
        await self._step(*(Settlement(claim=claim, outcome=outcome) for claim in step.claims), slots=0)

    async def _step(self, *settlements: Settlement, slots: int) -> Step:
        lease = timedelta(seconds=30)
        return await self._queue.step(settlements, slots=slots, worker="benchmark", lease=lease, poison_after=3)

    async def _used_bytes(self) -> int:
        return int((await self._redis.info("memory"))["used_memory"])

    def _connected(self) -> Queue:
        name = f"benchmark-growth-{self.waiting}"
        return Queue(name, Link.to(self._url), policy=QueuePolicy(keep_finished_count=0))


PROBES: Mapping[str, Callable[[Line], Awaitable[float]]] = {
    "enqueue one job": Line.enqueue,
    f"claim {_CLAIMED_AT_ONCE} jobs": Line.claim,
    "enqueue an urgent job and claim it": Line.urgent,
    "count the jobs": Line.count,
    f"list the first {_LISTED}": Line.list_first,
    f"list {_LISTED} in the middle": Line.list_middle,
}
"""Each returns the seconds that it took."""


async def run(redis_url: str | None, program: Path | None, lengths: Sequence[int]) -> tuple[str, dict[int, Figures]]:
    """On what it was measured, and the figures of each length; where no Redis is given, each has one of its own."""
    lines: list[Line] = []
    place = ""
    async with AsyncExitStack() as stack:
        for waiting in sorted(set(lengths)):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="skycap-benchmark-")))
            url = redis_url
            if url is None:
                url = await stack.enter_async_context(private_redis(folder, program))
            redis = await stack.enter_async_context(redis_at(url))
            place = await surroundings(redis)
            line = Line(waiting, url, redis)
            await line.refuse_foreign_jobs()
            stack.push_async_callback(line.close)
            await line.open()
            await line.warm_up()
            lines.append(line)
        for _ in range(ROUNDS):
            for name in PROBES:
                for line in lines:
                    await line.measure(name)
    return place, {line.waiting: line.figures for line in lines}


def report(figures: Mapping[int, Figures]) -> str:
    """Each length beside the shortest."""
    shortest, *longer = figures
    header = ["what", f"{shortest:,} wait"]
    for waiting in longer:
        header += [f"{waiting:,} wait", "ratio"]
    rows: list[list[str]] = []
    for name, least in figures[shortest].items():
        row = [name, number(least)]
        for waiting in longer:
            row += [number(figures[waiting][name]), f"{figures[waiting][name] / least:.2f}"]
        rows.append(row)
    return table(header, rows)


@click.command(help=__doc__)
@click.option(
    "--waiting",
    "lengths",
    multiple=True,
    type=click.IntRange(min=2 * _LISTED),
    default=(1_000, 100_000, 1_000_000),
    show_default=True,
    help="How many jobs wait; may be given several times.",
)
@click.option("--redis", metavar="URL", help="Use this server (redis:// or unix://) instead of starting some.")
@click.option(
    "--redis-server", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Start this program instead."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def main(lengths: tuple[int, ...], redis: str | None, redis_server: Path | None, as_json: bool) -> None:
    place, figures = asyncio.run(run(redis, redis_server and redis_server.absolute(), lengths))
    calls = ROUNDS * CALLS_A_ROUND
    if as_json:
        click.echo(json.dumps({"measured on": place, "calls of each kind": calls, "waiting": figures}, indent=2))
    else:
        click.echo(f"{place}; {calls} calls of each kind\n\n{report(figures)}")


if __name__ == "__main__":
    main()
