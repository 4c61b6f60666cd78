"""Times the endpoints, with a million waiting jobs, and while servers are stopped or gone.

.venv/bin/python -m tests.benchmarks.endpoints --help
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from aiohttp import ClientSession

from skycap.client import AsyncClient
from tests.benchmarks.filling import fill
from tests.benchmarks.mail_sink import Sink, mail_sink
from tests.benchmarks.plugins_own.noop import Noop
from tests.benchmarks.processes import surroundings
from tests.benchmarks.tables import number, percentile, table
from tests.support.daemons import Site
from tests.support.postgres_servers import PostgresServer, postgres_server
from tests.support.redis import redis_at
from tests.support.redis_servers import RedisServer, redis_server
from tests.support.stopping import stopped

ENDPOINTS: Mapping[str, str] = {
    "liveness": "/api/health",
    "ready": "/api/health/ready",
    "health": "/api/system/health",
    "status": "/api/system/status",
    "status, an hour": "/api/system/status?minutes=60",
    "history": "/api/system/history",
    "cache-stats": "/api/system/cache-stats",
    "circuit-breakers": "/api/system/circuit-breakers",
    "metrics": "/metrics",
    "jobs list": "/api/jobs?queue=a&limit=50",
}
"""One that this version does not have is left out."""

QUEUE = "a"
ROUNDS, ROUNDS_IN_AN_OUTAGE = 10, 5
"""The endpoints take turns, so that whatever else the machine does befalls all of them alike."""

_MISSING = {404, 405}


@dataclass(frozen=True, kw_only=True)
class Times:
    """What one endpoint took in one situation, in ms, and the statuses of its answers."""

    situation: str
    endpoint: str
    p50_ms: float
    p99_ms: float
    statuses: list[int]


@dataclass(frozen=True, kw_only=True)
class Place:
    """A daemon that works on nothing, and its servers."""

    http: ClientSession
    redis: RedisServer
    redis_pid: int
    postgres: PostgresServer
    sink: Sink

    async def measure(self, situation: str, *, rounds: int, calls_a_round: int) -> list[Times]:
        took: dict[str, list[float]] = {name: [] for name in ENDPOINTS}
        statuses: dict[str, set[int]] = {name: set() for name in ENDPOINTS}
        for _ in range(rounds):
            for name, path in ENDPOINTS.items():
                for _ in range(calls_a_round):
                    began = time.perf_counter()
                    async with self.http.get(path) as response:
                        await response.read()
                    took[name].append(time.perf_counter() - began)
                    statuses[name].add(response.status)
        return [
            Times(
                situation=situation,
                endpoint=name,
                p50_ms=percentile(seconds, 0.5) * 1000,
                p99_ms=percentile(seconds, 0.99) * 1000,
                statuses=sorted(statuses[name]),
            )
            for name, seconds in took.items()
            if not statuses[name] & _MISSING
        ]


@dataclass(frozen=True, kw_only=True)
class Results:
    place: str
    jobs: int
    times: list[Times]


async def run(jobs: int, calls: int, *, say: Callable[[str], None]) -> Results:
    times: list[Times] = []
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="skycap-benchmark-")))
        place, where = await _place(stack, folder, jobs, say=say)
        say("all is well")
        often = {"rounds": ROUNDS, "calls_a_round": calls // ROUNDS}
        times += await place.measure("all is well", **often)
        outages = {
            "Redis stopped": (place.redis_pid,),
            "PostgreSQL stopped": (place.postgres.pid,),
            "SMTP stopped": (place.sink.process.pid,),
        }
        for situation, pids in outages.items():
            say(situation)
            with ExitStack() as stopping:
                stopping.enter_context(stopped(*pids))
                times += await place.measure(situation, rounds=ROUNDS_IN_AN_OUTAGE, calls_a_round=1)
        for situation, kill in (
            ("SMTP killed", _killing(place.sink)),
            ("PostgreSQL killed, too", place.postgres.crash),
            ("Redis killed, too", place.redis.kill),
        ):
            say(situation)
            await kill()
            times += await place.measure(situation, rounds=ROUNDS_IN_AN_OUTAGE, calls_a_round=10)
    return Results(place=where, jobs=jobs, times=times)


async def _place(stack: AsyncExitStack, folder: Path, jobs: int, *, say: Callable[[str], None]) -> tuple[Place, str]:
    redis = await stack.enter_async_context(redis_server(folder / "redis"))
    postgres = await stack.enter_async_context(postgres_server())
    sink = await stack.enter_async_context(mail_sink(folder))
    plain = await stack.enter_async_context(redis_at(redis.url))
    client = await stack.enter_async_context(AsyncClient(redis.url))
    say(f"{jobs:,} jobs are enqueued")
    await client.queue(QUEUE).pause()
    await fill(client.queue(QUEUE), jobs, Noop(number=1))
    site = Site(
        folder=folder,
        redis_url=redis.url,
        database_url=postgres.url,
        plugins_dir=Path(__file__).with_name("plugins_own"),
        extra={
            "smtp": {
                "url": f"smtps://localhost:{sink.port}",
                "ca_file": str(sink.ca_file),
                "sender": "Travel <bookings@travel.example.com>",
            },
            "log": {"level": "error"},
            f"queues.{QUEUE}": {"concurrency": 10},
        },
    )
    daemon = await stack.enter_async_context(site.daemon())
    http = await stack.enter_async_context(ClientSession(daemon.http_url))
    pid = (await plain.info("server"))["process_id"]
    return Place(http=http, redis=redis, redis_pid=pid, postgres=postgres, sink=sink), await surroundings(plain)


def _killing(sink: Sink) -> Callable[[], Awaitable[object]]:
    async def kill() -> None:
        sink.process.kill()
        await sink.process.wait()

    return kill


def report(results: Results) -> str:
    return "\n\n".join([f"{results.place}; {results.jobs:,} waiting jobs", _table(results.times)])


def _table(times: Sequence[Times]) -> str:
    situations = list(dict.fromkeys(each.situation for each in times))
    endpoints = list(dict.fromkeys(each.endpoint for each in times))
    cells = {
        (each.endpoint, each.situation): f"{number(each.p50_ms)} / {number(each.p99_ms)} ({_words(each.statuses)})"
        for each in times
    }
    rows = [[name, *(cells.get((name, situation), "") for situation in situations)] for name in endpoints]
    return table(["p50 / p99 ms (status)", *situations], rows)


def _words(statuses: Sequence[int]) -> str:
    return ", ".join(map(str, statuses))


@click.command(help=__doc__)
@click.option("--jobs", type=click.IntRange(min=1), default=1_000_000, show_default=True)
@click.option("--calls", type=click.IntRange(min=ROUNDS), default=500, show_default=True, help="Of each endpoint.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def main(jobs: int, calls: int, as_json: bool) -> None:
    results = asyncio.run(run(jobs, calls, say=lambda text: click.echo(text, err=True)))
    click.echo(json.dumps(asdict(results), indent=2) if as_json else report(results))


if __name__ == "__main__":
    main()
