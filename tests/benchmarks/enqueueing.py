"""How many jobs a second are enqueued over HTTP, beside BullMQ behind Express, in one run on one Redis.

.venv/bin/python -m tests.benchmarks.enqueueing --help

It needs Node with npm, and wrk (Debian: wrk). Both servers are one process; skycap's checks each payload, Express'
checks none, and neither runs a job meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from skycap import AsyncClient
from tests.benchmarks.processes import private_redis, surroundings
from tests.benchmarks.tables import number, table
from tests.support.daemons import CLEAN, Site
from tests.support.node import installed_packages
from tests.support.redis import redis_at

FOLDER = Path(__file__).with_name("express")
LOADS = (("1 connection", 1, 1), ("50 connections", 50, 1), ("batches of 100", 1, 100))
"""What it is called, connections, jobs in a request."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One server under one load."""

    jobs_per_second: float
    p50_ms: float
    p99_ms: float


@click.command
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=4, show_default=True, help="Of each load in each round.")
def main(rounds: int, seconds: int) -> None:
    """Measure, and print a table."""
    click.echo(asyncio.run(_run(rounds, seconds)))


async def _run(rounds: int, seconds: int) -> str:
    assert shutil.which("wrk"), "wrk is not on PATH; on Debian: apt install wrk"
    results: dict[tuple[str, str], list[Measured]] = {}
    with tempfile.TemporaryDirectory(prefix="skycap-enqueueing-") as name:
        folder = Path(name)
        async with (
            private_redis(folder) as redis_url,
            _skycap(folder, redis_url) as ours,
            _express(redis_url) as theirs,
        ):
            for round_number in range(rounds):
                order = [("skycap", f"{ours}/api/jobs"), ("express", f"{theirs}/jobs")]
                for load, connections, batch in LOADS:
                    for system, url in order if round_number % 2 else order[::-1]:
                        await _flush(redis_url, system)
                        measured = await _load(url if batch == 1 else f"{url}/batch", connections, batch, seconds)
                        results.setdefault((load, system), []).append(measured)
            async with redis_at(redis_url) as redis:
                where = await surroundings(redis)
    return f"{where}; {rounds} rounds of {seconds} s\n\n{_table(results)}"


@asynccontextmanager
async def _skycap(folder: Path, redis_url: str) -> AsyncGenerator[str]:
    site = Site(folder=folder, redis_url=redis_url, extra={"log": {"level": "warning"}})
    async with site.daemon() as daemon, AsyncClient(redis_url) as client:
        await client.queue("email").pause()
        yield daemon.http_url


@asynccontextmanager
async def _express(redis_url: str) -> AsyncGenerator[str]:
    folder = installed_packages(FOLDER)
    shutil.copy(FOLDER / "server.mjs", folder)
    process = await asyncio.create_subprocess_exec(
        "node", folder / "server.mjs", env={**CLEAN, "REDIS_URL": redis_url}, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        port = int(await process.stdout.readline())
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        await process.wait()


async def _flush(redis_url: str, system: str) -> None:
    async with redis_at(redis_url) as redis:
        keys = {"skycap": "skycap:{email}:job:*", "express": "bull:email:*"}
        for pattern in keys.values():
            async for key in redis.scan_iter(pattern, count=10_000):
                await redis.unlink(key)
        await redis.unlink("skycap:{email}:ready", "skycap:{email}:events")


async def _load(url: str, connections: int, batch: int, seconds: int) -> Measured:
    process = await asyncio.create_subprocess_exec(
        *("wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"),
        *("--script", FOLDER / "post.lua", url),
        env={**CLEAN, "BATCH": str(batch)},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    answer: dict[str, Any] = json.loads(out.decode().splitlines()[-1])
    assert answer["failed"] == 0, f"{url}: {answer['failed']} of {answer['requests']} requests failed"
    return Measured(
        jobs_per_second=answer["requests"] * batch / (answer["us"] / 1e6),
        p50_ms=answer["p50_us"] / 1000,
        p99_ms=answer["p99_us"] / 1000,
    )


def _table(results: dict[tuple[str, str], list[Measured]]) -> str:
    rows: list[Sequence[str]] = []
    for load, _, _ in LOADS:
        ours, theirs = results[load, "skycap"], results[load, "express"]
        ratios = [a.jobs_per_second / b.jobs_per_second for a, b in zip(ours, theirs, strict=True)]
        rows.append(
            (
                load,
                number(statistics.median(each.jobs_per_second for each in ours)),
                number(statistics.median(each.jobs_per_second for each in theirs)),
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})",
                (
                    f"{number(statistics.median(each.p50_ms for each in ours))} / "
                    f"{number(statistics.median(each.p99_ms for each in ours))}"
                ),
                (
                    f"{number(statistics.median(each.p50_ms for each in theirs))} / "
                    f"{number(statistics.median(each.p99_ms for each in theirs))}"
                ),
            )
        )
    header = ("load", "skycap jobs/s", "Express + BullMQ jobs/s", "ratio", "skycap p50/p99 ms", "Express p50/p99 ms")
    return table(header, rows)


if __name__ == "__main__":
    main()
