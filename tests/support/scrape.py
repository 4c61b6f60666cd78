"""What ``/metrics`` of a real daemon says once it has worked: jobs, mails, breakers, caches, schedules and outages."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import asyncpg
from aiohttp import ClientSession

from skycap import AsyncClient, JobState, RawPayload
from skycap.demo.mailbox import Mailbox, Phase
from skycap.demo.travel import SAMPLE_BOOKING_ID, SAMPLE_USER_ID, add_sample_rows, create_travel_tables
from skycap.embedded import EmbeddedServers
from tests.support.daemons import Site
from tests.support.redis import redis_at
from tests.support.workers import eventually

CANARIES = ("quetzal", "kakapo", "hoatzin", "cassowary")
"""Of the guest's address, the mail server's password, a payload, and a kind that anybody could make up."""

GUEST, REFUSED, PUT_OFF = "quetzal@example.com", "refused.quetzal@example.com", "put-off.quetzal@example.com"

PLUGIN = """
import time
from datetime import timedelta

from skycap import Context, Payload, PermanentError, Plugin, fixed

plugin = Plugin("fauna")


class CallOut(Payload, kind="call-out"):
    text: str


class Breathe(Payload, kind="breathe"):
    pass


@plugin.job(retry=fixed(seconds=0.01, attempts=2))
async def call_out(ctx: Context, payload: CallOut) -> None:
    if payload.text == "hoatzin-permanent":
        raise PermanentError(payload.text)
    if payload.text == "hoatzin-fails":
        raise ValueError(payload.text)
    if payload.text == "hoatzin-blocks":
        time.sleep(0.6)
    await ctx.cache.set(f"calls:{payload.text}", "heard")
    await ctx.cache.get(f"calls:{payload.text}")
    await ctx.db.fetchval("SELECT pg_sleep(0.05)")


@plugin.job()
async def breathe(ctx: Context, payload: Breathe) -> None:
    pass


plugin.schedule(payload=Breathe(), every=timedelta(seconds=1))
"""

_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, kw_only=True)
class Scrape:
    """One answer in both formats, with all ids of jobs that there were before."""

    text: str
    openmetrics: str
    content_types: tuple[str, str]
    job_ids: frozenset[str]
    started_between: tuple[float, float]
    """The daemon, by this host's clock."""

    @property
    def samples(self) -> dict[str, list[dict[str, str]]]:
        """The labels of each sample, by its name."""
        found: dict[str, list[dict[str, str]]] = {}
        for line in self.text.splitlines():
            if not line.startswith("#"):
                name = re.split(r"[{ ]", line, maxsplit=1)[0]
                found.setdefault(name, []).append(dict(_LABEL.findall(line)))
        return found

    @property
    def names(self) -> set[str]:
        """All that there are, also where there is nothing to be counted here."""
        return {*re.findall(r"^# TYPE (\w+) ", self.text, re.MULTILINE), *self.samples}

    def value(self, name: str, **labels: str) -> float:
        """Of the sample with exactly these labels."""
        (found,) = [
            float(line.rpartition(" ")[2])
            for line in self.text.splitlines()
            if re.split(r"[{ ]", line, maxsplit=1)[0] == name and dict(_LABEL.findall(line)) == labels
        ]
        return found


def _answers(phase: Phase, recipient: str) -> str | None:
    if phase == "rcpt" and recipient == REFUSED:
        return f"550 5.1.1 <{recipient}>: no such user"
    if phase == "rcpt" and recipient == PUT_OFF:
        return f"451 4.7.1 {recipient} is greylisted, try again in 300 seconds"
    return None


def _mail(address: str) -> RawPayload:
    fields = {"userEmail": address, "userName": "Ada"}
    return RawPayload(kind="send-welcome-email", fields=fields, queue="email")


async def scraped(servers: EmbeddedServers, folder: Path) -> Scrape:
    """Let a daemon work, and ask it."""
    async with redis_at(servers.redis_url) as redis:
        await redis.flushall()
    database = await asyncpg.connect(servers.database_url)
    await database.execute("DROP SCHEMA IF EXISTS skycap CASCADE; DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await create_travel_tables(database)
    await add_sample_rows(database)
    await database.close()
    plugins = folder / "plugins"
    plugins.mkdir()
    (plugins / "fauna.py").write_text(PLUGIN)
    (plugins / "broken.py").write_text("raise ImportError('cassowary is not installed')\n")
    async with (
        Mailbox(folder / "mails", username="kakapo", password="kakapo-password", replies=_answers) as mailbox,
        AsyncClient(servers.redis_url) as client,
    ):
        site = Site(
            folder=folder,
            redis_url=servers.redis_url,
            database_url=servers.database_url,
            mailbox=mailbox,
            plugins_dir=plugins,
            extra={"database": {"slow_query_ms": 20}},
        )
        began = time.time()
        async with site.daemon() as daemon, ClientSession(daemon.http_url) as http:
            ready = time.time()
            job_ids = await _work(client)

            async def text_of(accept: str) -> tuple[str, str]:
                async with http.get("/metrics", headers={"Accept": accept}) as answer:
                    assert answer.status == 200
                    return answer.headers["Content-Type"], await answer.text()

            async def is_all_there() -> bool:
                # What the breakers and the presence of daemons have heard by now comes a moment later.
                _, text = await text_of("")
                wanted = (
                    'skycap_circuit_breaker_calls_total{breaker="email",result="ok"} 3.0',
                    'skycap_queue_consumers{queue="email"} 1.0',
                    'skycap_event_loop_blocked_total{job_type="call-out"} 1.0',
                    'skycap_schedule_last_success_timestamp_seconds{schedule="breathe"}',
                    "skycap_event_loop_lag_seconds_bucket",
                )
                return all(line in text for line in wanted)

            await eventually(is_all_there)
            plain_type, plain = await text_of("text/plain")
            other_type, openmetrics = await text_of(
                "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
            )
    return Scrape(
        text=plain,
        openmetrics=openmetrics,
        content_types=(plain_type, other_type),
        job_ids=frozenset(job_ids),
        started_between=(began, ready),
    )


async def _work(client: AsyncClient) -> list[str]:
    texts = ("hoatzin", "hoatzin-permanent", "hoatzin-fails", "hoatzin-blocks")
    ended = [
        RawPayload(
            kind="send-booking-confirmation",
            fields={
                "bookingId": SAMPLE_BOOKING_ID,
                "userId": SAMPLE_USER_ID,
                "userEmail": GUEST,
                "bookingType": "HOTEL",
            },
            queue="email",
        ),
        _mail(REFUSED),
        *(RawPayload(kind="call-out", fields={"text": text}, queue="default") for text in texts),
    ]
    put_off = [_mail(PUT_OFF), RawPayload(kind="cassowary", queue="default")]
    job_ids: list[str] = []
    for payload in ended:
        job_ids.append((await client.enqueue(payload)).job_id)
        job = await client.wait(job_ids[-1], queue=payload.queue, timeout=timedelta(seconds=20))
        assert job is not None
        assert job.state.is_final, job
    again = await client.enqueue(ended[0], job_id=job_ids[0])
    assert again.duplicate
    for payload in put_off:
        job_id = (await client.enqueue(payload)).job_id

        async def is_put_off(job_id: str = job_id) -> bool:
            job = await client.get(job_id)
            return job is not None and job.state is JobState.SCHEDULED

        await eventually(is_put_off)
        job_ids.append(job_id)
    return job_ids
