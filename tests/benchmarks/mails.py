"""How many booking confirmations a second one daemon sends, beside a task queue that makes a connection for each.

.venv/bin/python -m tests.benchmarks.mails --help
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import asyncpg
import click
import uvloop
from taskiq.kicker import AsyncKicker
from taskiq_redis import RedisStreamBroker

from skycap import AsyncClient
from skycap.demo.travel import add_sample_rows, create_travel_tables
from skycap.embedded import EmbeddedServers
from skycap.embedded.waiting import until
from skycap.services.composer import Composer, Letterhead
from skycap.services.migrations import migrate
from skycap.services.recipient import Recipient
from skycap.services.smtp import SmtpPool
from skycap_travel.bookings import SendBookingConfirmation, confirmation
from skycap_travel.payloads import BookingType
from skycap_travel.rows import BOOKING_OF_USER, BookingRow
from tests.benchmarks import mail_taskiq
from tests.benchmarks.filling import new_job
from tests.benchmarks.mail_sink import HOST, Sink, mail_sink
from tests.benchmarks.processes import MeasuredDaemon, cores
from tests.benchmarks.tables import number, table

QUEUE = "benchmark"
"""Not email, which has a rate limit."""

_PATIENCE = timedelta(minutes=10)
_WARM_UP = 100
"""Mails before the clock runs: connections are made, templates compiled, statements prepared."""

_ADD_BOOKINGS = """
    INSERT INTO bookings (id, "userId", "bookingType", status, "totalAmount", currency, "paymentMethod",
                          "paymentStatus", "checkInDate", "checkOutDate", "guestCount", "specialRequests",
                          "bookingReference", "metaData", "updatedAt")
    SELECT 'mail-' || n, b."userId", b."bookingType", b.status, b."totalAmount", b.currency, b."paymentMethod",
           b."paymentStatus", b."checkInDate", b."checkOutDate", b."guestCount", b."specialRequests",
           'MAIL-' || n, b."metaData", now()
    FROM bookings b, generate_series(1, $1::int) AS n
    WHERE b.id = 'cmq1bk0a7000108l4h3f1c9d2'
    RETURNING id, "userId" AS user_id
"""


@dataclass(frozen=True, kw_only=True)
class Place:
    """The servers, and the bookings to confirm."""

    folder: Path
    redis_url: str
    database_url: str
    sink: Sink
    bookings: Sequence[Mapping[str, str]]


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What one way to send took in one round; ``mails_per_second`` is None where nothing else was running."""

    mails_per_second: float
    cpu_ms_per_mail: float
    connections: int = 0


class Worker(Protocol):
    """One way to send mails, in a process of its own that is at rest between its rounds."""

    def cpu_seconds(self) -> float: ...
    async def fill(self, bookings: Sequence[Mapping[str, str]]) -> None: ...
    async def go(self) -> None: ...
    async def rest(self) -> None: ...


@dataclass(kw_only=True)
class Skycap:
    """``skycap run`` with everything on; its queue is paused while it is filled."""

    daemon: MeasuredDaemon
    client: AsyncClient
    database: asyncpg.Connection[Any]

    @classmethod
    @asynccontextmanager
    async def running(cls, place: Place, concurrency: int) -> AsyncGenerator[Skycap]:
        tables: dict[str, dict[str, Any]] = {
            "redis": {"url": place.redis_url},
            "database": {"url": place.database_url},
            "smtp": {
                "url": f"smtps://{HOST}:{place.sink.port}",
                "ca_file": str(place.sink.ca_file),
                "sender": mail_taskiq.SENDER,
                "connections": concurrency,
            },
            "http": {"bind": f"unix:{place.folder}/http.sock"},
            "log": {"level": "warning"},
            f"queues.{QUEUE}": {"concurrency": concurrency, "keep_finished_count": 0},
        }
        lines: list[str] = []
        for name, values in tables.items():
            lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
        config = place.folder / "skycap.toml"
        config.write_text("\n".join(lines) + "\n")
        async with (
            AsyncClient(place.redis_url) as client,
            MeasuredDaemon(place.folder / "daemon.log", "--config", str(config)) as daemon,
        ):
            database = await asyncpg.connect(place.database_url)
            try:
                yield cls(daemon=daemon, client=client, database=database)
            finally:
                await database.close()

    def cpu_seconds(self) -> float:
        return self.daemon.cpu_seconds

    async def fill(self, bookings: Sequence[Mapping[str, str]]) -> None:
        # The rounds confirm the same bookings, which skycap would do once.
        await self.database.execute("TRUNCATE skycap.mail_ledger")
        lane = self.client.queue(QUEUE)
        await lane.pause()
        for start in range(0, len(bookings), 1000):
            await lane.add([new_job(lane, _payload(booking)) for booking in bookings[start : start + 1000]])

    async def go(self) -> None:
        await self.client.queue(QUEUE).resume()

    async def rest(self) -> None:
        lane = self.client.queue(QUEUE)

        async def is_settled() -> bool:
            counts = await lane.counts()
            return counts.available + counts.later + counts.running == 0

        await until(is_settled, limit=_PATIENCE)


@dataclass(kw_only=True)
class Taskiq:
    """``taskiq worker`` with one process, stopped by a signal while its stream is filled."""

    process: asyncio.subprocess.Process
    producer: RedisStreamBroker

    @classmethod
    @asynccontextmanager
    async def running(cls, place: Place, concurrency: int) -> AsyncGenerator[Taskiq]:
        command = (
            "taskiq",
            "worker",
            "--workers",
            "1",
            "--max-async-tasks",
            str(concurrency),
            "--log-level",
            "WARNING",
        )
        with (place.folder / "taskiq.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", *command, "tests.benchmarks.mail_taskiq:broker"),
                env={
                    **os.environ,
                    "BENCHMARK_REDIS_URL": place.redis_url,
                    "BENCHMARK_DATABASE_URL": place.database_url,
                    "BENCHMARK_SMTP_PORT": str(place.sink.port),
                    "BENCHMARK_CA_FILE": str(place.sink.ca_file),
                },
                stdout=log,
                stderr=log,
            )
        producer = RedisStreamBroker(place.redis_url)
        await producer.startup()
        try:
            yield cls(process=process, producer=producer)
        finally:
            process.terminate()
            await process.wait()
            await producer.shutdown()

    def _processes(self) -> list[int]:
        """It, and its worker."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]

    def cpu_seconds(self) -> float:
        return sum(_cpu_seconds(pid) for pid in self._processes())

    async def fill(self, bookings: Sequence[Mapping[str, str]]) -> None:
        for pid in self._processes():
            os.kill(pid, signal.SIGSTOP)
        task: AsyncKicker[Any, Any] = AsyncKicker(mail_taskiq.send_booking_confirmation.task_name, self.producer, {})
        for booking in bookings:
            await task.kiq(booking["id"], booking["user_id"], _guest(booking))

    async def go(self) -> None:
        for pid in self._processes():
            os.kill(pid, signal.SIGCONT)

    async def rest(self) -> None:
        """There is nothing to settle: a stock broker forgets what it has acknowledged."""


async def measure(worker: Worker, place: Place, bookings: Sequence[Mapping[str, str]]) -> Sent:
    """From a full queue until the server has taken the last mail."""
    await worker.fill(bookings)
    before = await place.sink.taken()
    cpu_before, began = worker.cpu_seconds(), time.perf_counter()
    await worker.go()

    async def all_taken() -> bool:
        return (await place.sink.taken()).mails >= before.mails + len(bookings)

    await until(all_taken, limit=_PATIENCE)
    took = time.perf_counter() - began
    await worker.rest()
    taken = await place.sink.taken()
    assert taken.mails == before.mails + len(bookings), "a mail was sent twice"
    return Sent(
        mails_per_second=len(bookings) / took,
        cpu_ms_per_mail=1000 * (worker.cpu_seconds() - cpu_before) / len(bookings),
        connections=taken.connections - before.connections,
    )


class Parts:
    """The two parts of the whole that nobody can do without, each alone in this process."""

    def __init__(self, place: Place, booking: BookingRow, concurrency: int) -> None:
        self._place = place
        self._booking = booking
        self._composer = Composer(mail_taskiq.templates, Letterhead(sender=mail_taskiq.SENDER))
        self._concurrency = concurrency
        self._pool = SmtpPool(
            host=HOST,
            port=place.sink.port,
            tls="implicit",
            ca_file=place.sink.ca_file,
            connections=concurrency,
        )

    async def render(self, times: int) -> float:
        """CPU milliseconds to make the bytes of a mail, its calendar file included, from a row of the database."""
        began = time.process_time()
        for _ in range(times):
            await self._message()
        return 1000 * (time.process_time() - began) / times

    async def send(self, times: int) -> Sent:
        """Hand a message that is ready to the server, on connections that are kept."""
        message, left = await self._message(), iter(range(times))

        async def nothing() -> None:
            pass

        async def deliver() -> None:
            for _ in left:
                await self._pool.deliver(
                    message, sender=mail_taskiq.SENDER, recipient="ada@example.com", before_dot=nothing
                )

        before = await self._place.sink.taken()
        cpu_before, began = time.process_time(), time.perf_counter()
        await asyncio.gather(*(deliver() for _ in range(self._concurrency)))
        cpu, took = time.process_time() - cpu_before, time.perf_counter() - began
        return Sent(
            mails_per_second=times / took,
            cpu_ms_per_mail=1000 * cpu / times,
            connections=(await self._place.sink.taken()).connections - before.connections,
        )

    async def close(self) -> None:
        await self._pool.close()

    async def _message(self) -> bytes:
        return await self._composer.message(
            self._composer.rendered(
                "bookings/confirmation",
                locale=self._booking.language,
                variables=confirmation(self._booking, mail_taskiq.ZONE),
            ),
            recipient=Recipient.parse("ada@example.com"),
            message_id="<benchmark@travel.example.com>",
            date=datetime.now(UTC),
        )


@dataclass(kw_only=True)
class Results:
    cores: int
    mails: int
    concurrency: int
    ways: dict[str, list[Sent]] = field(default_factory=dict[str, list[Sent]])
    render_ms: list[float] = field(default_factory=list[float])


async def run(mails: int, rounds: int, concurrency: int, *, say: Callable[[str], None]) -> Results:
    results = Results(cores=cores(), mails=mails, concurrency=concurrency)
    async with AsyncExitStack() as stack:
        place = await _place(stack, mails)
        skycap = await stack.enter_async_context(Skycap.running(place, concurrency))
        taskiq = await stack.enter_async_context(Taskiq.running(place, concurrency))
        connection = await asyncpg.connect(place.database_url)
        record = await connection.fetchrow(BOOKING_OF_USER, place.bookings[0]["id"], place.bookings[0]["user_id"])
        await connection.close()
        assert record is not None, "the bookings were just added"
        parts = Parts(place, BookingRow.from_record(dict(record)), concurrency)
        stack.push_async_callback(parts.close)
        say("warming up")
        for worker in (skycap, taskiq):
            await measure(worker, place, place.bookings[:_WARM_UP])
        await parts.render(_WARM_UP)
        await parts.send(_WARM_UP)
        for each in range(rounds):
            say(f"round {each + 1} of {rounds}")
            _add(results, "skycap", await measure(skycap, place, place.bookings))
            _add(results, "taskiq, aiosmtplib", await measure(taskiq, place, place.bookings))
            results.render_ms.append(await parts.render(mails))
            _add(results, "SMTP alone", await parts.send(mails))
    return results


def _add(results: Results, way: str, sent: Sent) -> None:
    results.ways.setdefault(way, []).append(sent)


async def _place(stack: AsyncExitStack, mails: int) -> Place:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="skycap-benchmark-")))
    servers = await stack.enter_async_context(EmbeddedServers(folder / "servers"))
    sink = await stack.enter_async_context(mail_sink(folder))
    connection = await asyncpg.connect(servers.database_url)
    await create_travel_tables(connection)
    await add_sample_rows(connection)
    await migrate(connection)
    bookings = await connection.fetch(_ADD_BOOKINGS, mails)
    await connection.close()
    return Place(
        folder=folder,
        redis_url=servers.redis_url,
        database_url=servers.database_url,
        sink=sink,
        bookings=[dict(booking) for booking in bookings],
    )


def _payload(booking: Mapping[str, str]) -> SendBookingConfirmation:
    return SendBookingConfirmation(
        booking_id=booking["id"],
        user_id=booking["user_id"],
        user_email=_guest(booking),
        booking_type=BookingType.HOTEL,
    )


def _guest(booking: Mapping[str, str]) -> str:
    return f"{booking['id']}@example.com"


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def as_table(results: Results) -> str:
    """The medians, with the ranges in parentheses, and the two ratios that were promised."""
    rows = [
        [
            way,
            _spread([sent.mails_per_second for sent in rounds]),
            _spread([sent.cpu_ms_per_mail for sent in rounds]),
            number(statistics.median(sent.connections for sent in rounds)),
        ]
        for way, rounds in results.ways.items()
    ]
    rows.insert(2, ["rendering alone", "", _spread(results.render_ms), ""])
    whole, peer, smtp = (results.ways[way] for way in ("skycap", "taskiq, aiosmtplib", "SMTP alone"))
    per_core = [other.cpu_ms_per_mail / ours.cpu_ms_per_mail for ours, other in zip(whole, peer, strict=True)]
    of_parts = [
        ours.cpu_ms_per_mail / (render + alone.cpu_ms_per_mail)
        for ours, render, alone in zip(whole, results.render_ms, smtp, strict=True)
    ]
    return "\n".join(
        [
            (
                f"{results.mails:,} mails a round, {len(whole)} rounds, "
                f"concurrency {results.concurrency}, {results.cores} cores"
            ),
            "",
            table(["way", "mails/s", "CPU ms/mail", "connections"], rows),
            "",
            f"per core, skycap ÷ taskiq: {_spread(per_core)}",
            f"skycap ÷ (rendering alone + SMTP alone), CPU: {_spread(of_parts)}",
        ]
    )


def _spread(values: Sequence[float]) -> str:
    return f"{number(statistics.median(values))} ({number(min(values))}–{number(max(values))})"


@click.command
@click.option("--mails", default=1000, show_default=True, help="Mails in each round.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--concurrency", default=10, show_default=True, help="Mails at a time, and connections at most.")
@click.option("--json", "as_json", is_flag=True)
def main(mails: int, rounds: int, concurrency: int, as_json: bool) -> None:
    """Send booking confirmations by skycap and by taskiq with aiosmtplib, in turns, to a server that takes all."""
    results = uvloop.run(run(mails, rounds, concurrency, say=lambda text: click.echo(text, err=True)))
    click.echo(json.dumps(asdict(results), indent=2) if as_json else as_table(results))


if __name__ == "__main__":
    main()
