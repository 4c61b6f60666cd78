"""Do more workers, and more Redis servers, do more jobs? Drains jobs that do nothing, with real daemons.

.venv/bin/python -m tests.benchmarks.scale --help
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from skycap.client import AsyncClient
from skycap.embedded.waiting import until
from skycap.engine.queue import Queue
from tests.benchmarks.filling import fill
from tests.benchmarks.plugins_own.noop import Noop
from tests.benchmarks.processes import MeasuredDaemon, cores, measured_daemon, private_redis, surroundings
from tests.benchmarks.tables import number, table
from tests.support.redis import redis_at
from tests.support.redis_servers import cluster

QUEUES: tuple[str, ...] = ("a", "b", "c")
"""Their slots (15495, 3300 and 7365) lie on three nodes of three; a single Redis has work in the first one only."""

CLUSTER_DAEMONS = (1, 3)
TRIES = 3
"""The fastest counts: whatever else the machine does can only slow one down."""

_SETTINGS = {"concurrency": 10, "keep_finished_count": 0}
_PATIENCE = timedelta(minutes=10)


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What everybody had used up at one moment."""

    at_seconds: float
    worker_cpu_seconds: float
    redis_cpu_seconds: float
    script_calls: list[int]
    """EVALSHA, on each Redis."""


@dataclass(frozen=True, kw_only=True)
class Drained:
    """What it took to drain the queues once."""

    daemons: int
    jobs_per_second: float
    redis_cpu_us_per_job: float
    worker_cpu_us_per_job: float
    busy_cores: float
    """CPU time of the daemons and of Redis, over the time it took."""
    script_calls: list[int]

    @classmethod
    def between(cls, before: Usage, after: Usage, *, daemons: int, jobs: int) -> Drained:
        seconds = after.at_seconds - before.at_seconds
        redis = after.redis_cpu_seconds - before.redis_cpu_seconds
        workers = after.worker_cpu_seconds - before.worker_cpu_seconds
        return cls(
            daemons=daemons,
            jobs_per_second=jobs / seconds,
            redis_cpu_us_per_job=redis / jobs * 1e6,
            worker_cpu_us_per_job=workers / jobs * 1e6,
            busy_cores=(redis + workers) / seconds,
            script_calls=[now - then for now, then in zip(after.script_calls, before.script_calls, strict=True)],
        )


async def used(daemons: Sequence[MeasuredDaemon], nodes: Sequence[Any]) -> Usage:
    """Now. ``nodes`` are connections to each Redis."""
    at_seconds = time.perf_counter()
    cpu = [await node.info("cpu") for node in nodes]
    calls = [(await node.info("commandstats")).get("cmdstat_evalsha", {"calls": 0}) for node in nodes]
    return Usage(
        at_seconds=at_seconds,
        worker_cpu_seconds=sum(daemon.cpu_seconds for daemon in daemons),
        redis_cpu_seconds=sum(each["used_cpu_user"] + each["used_cpu_sys"] for each in cpu),
        script_calls=[each["calls"] for each in calls],
    )


async def fastest(url: str, nodes: Sequence[Any], *, daemons: int, jobs: int, queues: Sequence[str]) -> Drained:
    tries = [await drain(url, nodes, daemons=daemons, jobs=jobs, queues=queues) for _ in range(TRIES)]
    return max(tries, key=lambda drained: drained.jobs_per_second)


async def drain(url: str, nodes: Sequence[Any], *, daemons: int, jobs: int, queues: Sequence[str]) -> Drained:
    """Daemons that are ready, before paused queues that are full; the clock runs from the end of the pause."""
    jobs_each = jobs // len(queues)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="skycap-benchmark-")))
        client = await stack.enter_async_context(AsyncClient(url))
        lanes = [client.queue(name) for name in queues]
        for lane in lanes:
            await lane.pause()
            await fill(lane, jobs_each, Noop(number=1))
        settings = dict.fromkeys(QUEUES, _SETTINGS)
        working = [
            await stack.enter_async_context(measured_daemon(folder, each, redis_url=url, queues=settings))
            for each in range(daemons)
        ]
        goals = [await _completed(lane) + jobs_each for lane in lanes]

        async def is_done() -> bool:
            return [await _completed(lane) for lane in lanes] == goals

        before = await used(working, nodes)
        await asyncio.gather(*(lane.resume() for lane in lanes))
        await until(is_done, limit=_PATIENCE)
        return Drained.between(before, await used(working, nodes), daemons=daemons, jobs=jobs_each * len(queues))


async def _completed(queue: Queue) -> int:
    return int(await queue.link.command("HGET", queue.keys.meta, "completed") or 0)


@dataclass(frozen=True, kw_only=True)
class Results:
    place: str
    cores: int
    jobs: int
    one_redis: list[Drained]
    cluster: list[Drained]


async def run(jobs: int, workers: Sequence[int], *, say: Callable[[str], None]) -> Results:
    one_redis: list[Drained] = []
    three_nodes: list[Drained] = []
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="skycap-benchmark-")))
        async with private_redis(folder) as url, redis_at(url) as redis:
            place = await surroundings(redis)
            for daemons in workers:
                say(f"one Redis, {daemons} workers")
                one_redis.append(await fastest(url, [redis], daemons=daemons, jobs=jobs, queues=QUEUES[:1]))
        sharded = await stack.enter_async_context(cluster(folder))
        nodes = [await stack.enter_async_context(redis_at(node.url)) for node in sharded.nodes]
        for daemons in CLUSTER_DAEMONS:
            say(f"three nodes, {daemons} workers")
            three_nodes.append(await fastest(sharded.url, nodes, daemons=daemons, jobs=jobs, queues=QUEUES))
    return Results(place=place, cores=cores(), jobs=jobs, one_redis=one_redis, cluster=three_nodes)


def report(results: Results) -> str:
    needed = max(row.daemons for row in results.one_redis) + 1
    parts = [
        f"{results.place}; {results.jobs:,} jobs, concurrency {_SETTINGS['concurrency']}, the fastest of {TRIES} runs"
    ]
    if needed > results.cores:
        parts.append(
            f"{needed - 1} workers and Redis are {needed} busy processes, a cluster has more, and there are "
            f"{results.cores} CPU cores: jobs/s grows\nonly until they are all busy. "
            "What a job costs in CPU time tells what more cores would do."
        )
    parts += ["One queue on one Redis:", _table(results.one_redis)]
    parts += ["Three queues on a cluster of three nodes:", _table(results.cluster, nodes=True)]
    return "\n\n".join(parts)


def _table(rows: Sequence[Drained], *, nodes: bool = False) -> str:
    header = ["workers", "jobs/s", "ratio", "Redis CPU µs/job", "worker CPU µs/job", "busy cores"]
    return table(
        [*header, "script calls by node"] if nodes else header,
        [
            [
                str(row.daemons),
                number(row.jobs_per_second),
                f"{row.jobs_per_second / rows[0].jobs_per_second:.2f}",
                number(row.redis_cpu_us_per_job),
                number(row.worker_cpu_us_per_job),
                number(row.busy_cores),
                *([" / ".join(f"{calls:,}" for calls in row.script_calls)] if nodes else []),
            ]
            for row in rows
        ],
    )


@click.command(help=__doc__)
@click.option("--jobs", type=click.IntRange(min=len(QUEUES)), default=40_000, show_default=True)
@click.option(
    "--workers",
    multiple=True,
    type=click.IntRange(min=1),
    default=(1, 2, 4),
    show_default=True,
    help="How many daemons work on one queue; may be given several times.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def main(jobs: int, workers: tuple[int, ...], as_json: bool) -> None:
    results = asyncio.run(run(jobs, workers, say=lambda text: click.echo(text, err=True)))
    click.echo(json.dumps(asdict(results), indent=2) if as_json else report(results))


if __name__ == "__main__":
    main()
