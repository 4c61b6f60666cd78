"""The relay of the SQL outbox: how fast it empties a backlog, and how much later than its commit a job is in Redis.

.venv/bin/python -m tests.benchmarks.outbox --help
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from skycap.context import Database
from skycap.embedded import EmbeddedServers
from skycap.job import new_id
from skycap.services.notifications import Notifications
from skycap.services.outbox import CHANNEL, Outbox, OutboxBatch
from tests.benchmarks.tables import number, percentile, table
from tests.support.outbox import Place, place
from tests.support.redis import redis_at
from tests.support.workers import eventually

PARTS = 10
"""Of the backlog, each timed by itself: the last ones must be as fast as the first."""

BATCH = 500

# As skycap.enqueue_v1 would, without its checks, which would take most of the time that this takes.
_FILL = """
    INSERT INTO skycap.outbox (job_id, kind, payload, options, bytes)
    SELECT gen_random_uuid()::text, 'send-note', jsonb_build_object('text', 'receipt ' || n), '{}', 24
    FROM generate_series(1, $1) AS n
"""


class TimedOutbox(Outbox):
    """Notes when each job was in Redis."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.relayed_at: dict[str, float] = {}
        self._rows: dict[int, str] = {}

    async def take(
        self, relay: str, *, most: int, queue_of: str, other_queue: str, full_queues: Sequence[str] = ()
    ) -> OutboxBatch | None:
        batch = await super().take(
            relay, most=most, queue_of=queue_of, other_queue=other_queue, full_queues=full_queues
        )
        if batch is not None:
            self._rows = {row.id: row.job_id for row in batch.rows}
        return batch

    async def done(self, number: int, relayed: Sequence[int], problems: Mapping[int, str]) -> bool:
        now = time.perf_counter()
        self.relayed_at |= {self._rows[row_id]: now for row_id in relayed}
        return await super().done(number, relayed, problems)


async def drain(site: Place, redis_url: str, rows: int) -> list[float]:
    """Rows per second of each part of the backlog."""
    began = time.perf_counter()
    await site.backend.execute(_FILL, rows)
    click.echo(f"{rows:,} rows wait; it took {time.perf_counter() - began:.0f} s to write them")
    relay = site.relay(batch=BATCH)
    speeds: list[float] = []
    for _ in range(PARTS):
        batches = rows // PARTS // BATCH
        began = time.perf_counter()
        for _ in range(batches):
            assert await relay.relay_batch()
        speeds.append(batches * BATCH / (time.perf_counter() - began))
        async with redis_at(redis_url) as redis:
            await redis.flushall()  # workers would have taken them by now
    await site.relay_all(relay)
    return speeds


async def latencies(site: Place, database_url: str, *, count: int, per_second: float, notify: bool) -> list[float]:
    """Seconds from the end of each commit until the job is in Redis."""
    outbox = TimedOutbox(site.database.stateless)
    doorbell = Notifications(database_url, CHANNEL) if notify else None
    relay = site.relay(outbox=outbox, poll=timedelta(seconds=1), doorbell=doorbell)
    committed_at: dict[str, float] = {}
    async with _running(relay.run()):
        await asyncio.sleep(1)  # until it listens
        due = time.perf_counter()
        for _ in range(count):
            job_id = new_id()
            await site.enqueue(payload='{"text": "receipt"}', job_id=job_id)
            committed_at[job_id] = time.perf_counter()
            due += 1 / per_second
            await asyncio.sleep(max(0.0, due - time.perf_counter()))

        async def all_there() -> bool:
            return len(outbox.relayed_at) == count

        await eventually(all_there)
    return [outbox.relayed_at[job_id] - at for job_id, at in committed_at.items()]


@asynccontextmanager
async def _running(work: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def measure(rows: int, count: int, per_second: float) -> None:
    with tempfile.TemporaryDirectory(prefix="skycap-outbox-") as folder:
        async with EmbeddedServers(Path(folder)) as servers, place(servers.redis_url, servers.database_url) as site:
            idle = await latencies(site, servers.database_url, count=count, per_second=per_second, notify=True)
            polled = await latencies(site, servers.database_url, count=count // 4, per_second=per_second, notify=False)
            _print_latencies({"NOTIFY": idle, "poll, every 1 s": polled}, per_second)
            speeds = await drain(site, servers.redis_url, rows)
            click.echo(
                table(
                    ("part of the backlog", *(str(part) for part in range(1, PARTS + 1))),
                    [("rows/s", *(number(speed) for speed in speeds))],
                )
            )
            after = await latencies(site, servers.database_url, count=count // 4, per_second=per_second, notify=True)
            _print_latencies({"NOTIFY, right after the backlog": after}, per_second)


def _print_latencies(found: Mapping[str, Sequence[float]], per_second: float) -> None:
    rows = [
        (way, *(number(percentile(seconds, share) * 1000) for share in (0.5, 0.99, 1.0)))
        for way, seconds in found.items()
    ]
    click.echo(table((f"ms from commit to Redis, {per_second:g} rows/s", "p50", "p99", "worst"), rows))


@click.command(context_settings={"show_default": True})
@click.option("--rows", default=1_000_000, help="In the backlog.")
@click.option("--count", default=1000, help="Jobs of which the latency is measured.")
@click.option("--per-second", default=50.0, help="How many of them in a second.")
def main(rows: int, count: int, per_second: float) -> None:
    """Measure the relay, with servers of its own."""
    asyncio.run(measure(rows, count, per_second))


if __name__ == "__main__":
    main()
