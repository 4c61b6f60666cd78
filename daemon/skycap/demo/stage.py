"""Stage: everything around a delivered booking confirmation: servers, travel tables, a mail server and the daemon."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from skycap.client import AsyncClient
from skycap.demo.daemon import DaemonProcess
from skycap.demo.mailbox import Mailbox
from skycap.demo.travel import add_sample_rows, create_travel_tables
from skycap.embedded import EmbeddedServers
from skycap.engine.link import Link
from skycap.errors import SkycapError
from skycap.job import JobState
from skycap.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

_DELIVERED_WITHIN = timedelta(seconds=30)


class NotDelivered(SkycapError):
    """The sample mail did not arrive; the message says what became of its job."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One job whose mail has arrived."""

    job_id: str
    kind: str
    state: JobState
    attempts: int
    milliseconds: float
    message_id: str
    file: Path


@dataclass(frozen=True, kw_only=True)
class Stage:
    """All parts, running. ``config`` is what other commands need to reach them."""

    registry: Registry
    client: AsyncClient
    mailbox: Mailbox
    http_url: str
    config: Path
    mails: Path

    async def deliver(self, kind: str, fields: Mapping[str, Any]) -> Delivery:
        """Enqueue one job and wait until the mail server has taken its mail. Raises NotDelivered."""
        payload = self.registry.checked_payload(kind, fields)
        queue = payload.payload_spec.queue
        before = len(self.mailbox.received)
        began = time.monotonic()
        enqueued = await self.client.enqueue(payload)
        job = await self.client.wait(enqueued.job_id, queue=queue, timeout=_DELIVERED_WITHIN)
        arrived = self.mailbox.received[before:]
        if job is None or job.state is not JobState.COMPLETED or not arrived:
            state = job.state.value if job else "gone"
            why = (job.errors[-1].error if job and job.errors else job and job.reason) or "see the daemon's log"
            raise NotDelivered(f"the mail was not delivered: job {enqueued.job_id} is {state}: {why}")
        return Delivery(
            job_id=job.id,
            kind=job.kind,
            state=job.state,
            attempts=job.attempt,
            milliseconds=(arrived[0].received_at - began) * 1000,
            message_id=arrived[0].message_id,
            file=arrived[0].file,
        )


@asynccontextmanager
async def staged(
    folder: Path, daemon: DaemonProcess, registry: Registry, *, tell: Callable[[str], None]
) -> AsyncGenerator[Stage]:
    """Start everything in ``folder`` and stop it again. ``tell`` hears of each step that takes time.

    ``daemon`` was spawned with ``--config /dev/stdin``.
    """
    mails = folder / "mails"
    async with AsyncExitStack() as closing:
        password = secrets.token_urlsafe(18)
        mailbox = await closing.enter_async_context(Mailbox(mails, username="demo", password=password))
        with _told(tell, "Valkey and PostgreSQL"):
            servers = await closing.enter_async_context(EmbeddedServers(folder / "servers"))
        client = await closing.enter_async_context(AsyncClient(servers.redis_url))
        with _told(tell, "travel tables with sample bookings"):
            await _prepare(servers)
        config = _write_config(folder / "skycap.toml", servers, mailbox)
        closing.push_async_callback(daemon.close)  # before what it uses
        with _told(tell, "the daemon"):
            await daemon.configure(config.read_text(encoding="utf-8"))
            await daemon.until_ready()
        yield Stage(
            registry=registry, client=client, mailbox=mailbox, http_url=daemon.http_url, config=config, mails=mails
        )


async def _prepare(servers: EmbeddedServers) -> None:
    """The travel tables, and no memory of an earlier demo: its ledger would rightly hold the same mail back."""
    link = Link.to(servers.redis_url)
    await link.command("FLUSHALL")
    await link.close()
    connection = await asyncpg.connect(servers.database_url)
    try:
        await connection.execute("DROP SCHEMA IF EXISTS skycap CASCADE")
        await create_travel_tables(connection)
        await add_sample_rows(connection)
    finally:
        await connection.close()


def _write_config(path: Path, servers: EmbeddedServers, mailbox: Mailbox) -> Path:
    # A JSON string is a TOML string, too.
    lines = [
        "[redis]",
        f"url = {json.dumps(servers.redis_url)}",
        "[database]",
        f"url = {json.dumps(servers.database_url)}",
        "[smtp]",
        f"url = {json.dumps(mailbox.smtp_url)}",
        f"ca_file = {json.dumps(str(mailbox.ca_file))}",
        'sender = "skycap travel <bookings@travel.example.com>"',
        "[http]",
        'bind = "127.0.0.1:0"',
    ]
    path.touch(mode=0o600)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@contextmanager
def _told(tell: Callable[[str], None], what: str) -> Generator[None]:
    began = time.monotonic()
    yield
    tell(f"started {what} in {time.monotonic() - began:.1f} s")
