"""A worker on a real Valkey with job types of the test's own, and what it did."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from skycap.backoff import fixed
from skycap.breaker import Breakers
from skycap.client import AsyncClient
from skycap.engine.broker import QueueBroker
from skycap.engine.policy import QueuePolicy
from skycap.engine.queue import Queue
from skycap.job import Job
from skycap.payload import Payload
from skycap.plugin import Plugin
from skycap.registry import Registry
from skycap.worker.consumer import Consumer
from skycap.worker.executor import Executor
from skycap.worker.job_context import Services
from skycap.worker.trust import Trust
from skycap.worker.verdict import Policy
from skycap.worker.worker import Worker, worker_id

LEASE = timedelta(seconds=1)
PATIENCE = timedelta(seconds=20)
"""A bound on waiting for what must happen; never a pause."""


class Note(Payload, kind="take-note", queue="tests"):
    """A job of the tests."""

    text: str = ""


@dataclass(kw_only=True)
class Bench:
    """A worker's surroundings. ``handle`` is what a Note's handler does; it may be replaced at any time."""

    url: str
    client: AsyncClient
    queue: Queue
    broker: QueueBroker
    registry: Registry
    executor: Executor
    ran: list[str] = field(default_factory=list[str])

    async def put(self, text: str = "", **options: Any) -> str:
        """Enqueue a Note; its id."""
        return (await self.client.enqueue(Note(text=text), **options)).job_id

    async def finished(self, job_id: str) -> Job:
        """The job once it is in a final state."""
        job = await self.client.wait(job_id, queue=self.queue.name, timeout=PATIENCE)
        assert job is not None
        assert job.state.is_final, f"{job_id} is still {job.state} after {PATIENCE}"
        return job

    def worker(self, *, concurrency: int = 10, lease: timedelta = LEASE, poison_after: int = 3) -> Worker:
        return Worker(
            [
                Consumer(
                    self.queue,
                    self.executor.run,
                    worker=worker_id(),
                    concurrency=concurrency,
                    lease=lease,
                    poison_after=poison_after,
                )
            ]
        )

    @asynccontextmanager
    async def working(self, **options: Any) -> AsyncGenerator[Worker]:
        """A worker that runs until the block ends, and is then drained."""
        worker = self.worker(**options)
        worker.start()
        try:
            yield worker
        finally:
            await worker.drain(timedelta(seconds=5))


Handle = Callable[..., Awaitable[Any]]


@asynccontextmanager
async def bench(
    url: str,
    handle: Handle | None = None,
    *,
    attempts: int = 3,
    backoff_seconds: float = 0.05,
    timeout_seconds: float = 30,
    unknown_kind_wait: timedelta = timedelta(hours=24),
    queue_policy: QueuePolicy | None = None,
    plugins: Sequence[Plugin] = (),
    trust: Trust | None = None,
    signing_key: str | None = None,
    needs: Sequence[str] = (),
    breakers: Breakers | None = None,
) -> AsyncGenerator[Bench]:
    """``handle(ctx, payload)`` is run for each Note, after its text was noted in ``ran``."""
    plugin = Plugin("tests")
    ran: list[str] = []

    @plugin.job(breakers=needs)
    async def take_note(ctx: Any, payload: Note) -> Any:
        ran.append(payload.text)
        return await handle(ctx, payload) if handle else None

    registry = Registry()
    registry.add(plugin, name="tests", origin="the test")
    for further in plugins:
        registry.add(further, name=further.name, origin="the test")
    broker = QueueBroker(url, signing_key=signing_key)
    client = AsyncClient(url, signing_key=signing_key)
    policy = Policy(
        backoff=fixed(seconds=backoff_seconds, attempts=attempts), timeout=timedelta(seconds=timeout_seconds)
    )
    executor = Executor(
        registry=registry,
        broker=broker,
        services=Services(client=client, breakers=breakers),
        policy_of=lambda job_type: replace(policy, breakers=frozenset(job_type.breakers)),
        unknown_kind_wait=unknown_kind_wait,
        trust=trust,
    )
    queue = Queue("tests", broker.link, policy=queue_policy)
    try:
        yield Bench(url=url, client=client, queue=queue, broker=broker, registry=registry, executor=executor, ran=ran)
    finally:
        await client.close()
        await broker.shutdown()


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Return once ``condition`` holds, asked again and again; fail after PATIENCE.

    For what announces itself by nothing but its effect in another process.
    """
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while not await condition():  # noqa: ASYNC110 - see above: there is no event to wait for
            await asyncio.sleep(0.01)
