"""The endpoints of health and status, to the byte: on a real Valkey whose clock the test sets."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from pydantic import BaseModel

from skycap.engine.alarms import Alarms, AlarmTimes, Observation
from skycap.engine.breakers import FleetBreakers
from skycap.engine.fleet import Fleet
from skycap.engine.link import Link
from skycap.engine.queue import NewJob, Queue, Settlement
from skycap.envelope import Envelope
from skycap.health import HealthCheck, degraded
from skycap.http.access import Guard
from skycap.http.breakers import BreakerRoutes, BreakerStatuses
from skycap.http.cache import CacheRoutes
from skycap.http.dependencies import Dependency, Schema
from skycap.http.guards import TokenGuard
from skycap.http.health import HealthRoutes, Vitals
from skycap.http.server import HttpServer, Routes
from skycap.http.status_documents import HistoryDocument, StatusDocument
from skycap.http.system_status import StatusRoutes
from skycap.http.tokens import TokenFile, digest_of, new_token
from skycap.outcome import Completed, DeadReason, Discarded, Outcome, Retry
from skycap.payload import Payload
from skycap.schedule import Schedule
from tests.support.clocked import ClockedLink
from tests.support.golden import assert_golden
from tests.support.status import BREAKERS, answers, dependencies, presence, status_sources
from tests.support.workers import eventually

NOW_MS = 1_800_000_000_000
MINUTE = timedelta(minutes=1)
MODELS: dict[str, type[BaseModel]] = {"/api/system/status": StatusDocument, "/api/system/history": HistoryDocument}
HEALTH = {"Accept": "application/health+json"}


async def _down() -> timedelta:
    raise ConnectionRefusedError("connection refused")


async def _well_with_a_reason() -> Any:
    return degraded("the partner answers slowly")


class Nightly(Payload, kind="nightly", queue="email"):
    """A job of a schedule."""


@dataclass(kw_only=True)
class Site:
    """What the endpoints see; a test changes it before it asks."""

    redis: Any = answers
    database: Any = answers
    smtp: Any = answers
    missing: Sequence[str] = ()
    silent_for: timedelta = timedelta(0)
    is_draining: bool = False
    guard: Guard | None = None
    checks: Sequence[HealthCheck] = field(default_factory=list[HealthCheck])


@asynccontextmanager
async def served(link: Link, site: Site) -> AsyncGenerator[ClientSession]:
    queues = {"email": Queue("email", link)}
    calls = {("amadeus", "ok"): 39, ("amadeus", "failed"): 1}
    statuses = BreakerStatuses(tuple(BREAKERS), lambda: FleetBreakers(link).statuses(BREAKERS), calls)
    nightly = Schedule(name="nightly", payload=Nightly(), plugin="tests", crontab="0 2 * * *")

    async def missing() -> Sequence[str]:
        return site.missing

    async def hit_rate() -> float:
        return 0.85

    servers = dependencies(redis=site.redis, database=site.database, smtp=site.smtp)
    vitals = Vitals(
        redis=site.redis,
        database=site.database,
        dependencies=servers,
        schema=Schema(missing),
        cache_hit_rate=hit_rate,
        own_hit_rate=lambda: 0.75,
        slots=lambda: presence("me").queues,
        replicas=None,
        queues=queues,
        since_last_turn=lambda: site.silent_for,
        is_draining=lambda: site.is_draining,
        checks=site.checks,
        breakers=statuses,
    )
    async with status_sources(link, queues, servers, nightly) as sources:
        routes: list[Routes] = [
            HealthRoutes(vitals),
            StatusRoutes(sources),
            BreakerRoutes(statuses),
            CacheRoutes(sources.cache),
        ]
        server = HttpServer(routes, host="127.0.0.1", port=0, path=None, guard=site.guard, development=True)
        await server.start()
        try:
            async with ClientSession(server.url) as session:
                yield session
        finally:
            await server.stop()


@pytest.fixture
async def link(redis_url: str) -> AsyncGenerator[ClockedLink]:
    """A fleet of two daemons, and a queue in which everything has happened."""
    link = ClockedLink.to(redis_url)
    await link.start(NOW_MS)
    queue = Queue("email", link)
    await queue.configure()
    await queue.add([_job(name) for name in ("done", "failed", "again", "runs", "waits")])
    await queue.add([_job("later", when=timedelta(hours=1))])
    await link.pass_time(timedelta(seconds=30))
    step = await queue.step([], slots=4, worker="w", lease=timedelta(hours=1), poison_after=3)
    outcomes: list[Outcome] = [
        Completed(),
        Discarded(reason=DeadReason.PERMANENT, error="no"),
        Retry(delay=MINUTE, error="no"),
    ]
    settled = [Settlement(claim=claim, outcome=outcome) for claim, outcome in zip(step.claims, outcomes, strict=False)]
    await link.pass_time(2 * MINUTE)
    await queue.step(settled, slots=0, worker="w", lease=timedelta(hours=1), poison_after=3)
    breakers = FleetBreakers(link)
    for number in range(40):
        await breakers.begin(BREAKERS["amadeus"], str(number), lease=MINUTE)
        await breakers.finish(BREAKERS["amadeus"], str(number), "ok" if number else "failed")
    times = AlarmTimes(grace=MINUTE, recover_after=MINUTE, repeat_after=MINUTE, lease=MINUTE)
    reading = {"rule": "dead_letters", "subject": "email", "severity": "warning", "value": 1, "text": "1 job of email"}
    seen = Observation(alarm="dead_letters:email", is_bad=True, held_for=timedelta(0), reading=reading)
    await Alarms(link, times).watch("me", [seen])
    for name in ("me", "other"):
        await Fleet(link).tell(presence(name))
    yield link
    await link.close()


def _job(job_id: str, *, when: timedelta = timedelta(0)) -> NewJob:
    envelope = Envelope(
        id=job_id, kind="note", payload={}, queue="email", priority=10, enqueued_at=datetime(2027, 1, 15, tzinfo=UTC)
    )
    return NewJob(envelope=envelope, when=when)


def _steady(body: str) -> str:
    """What differs from run to run has one value."""
    body = re.sub(r'("uptimeSeconds": ?)-?[\d.]+', r"\g<1>1.5", body)
    body = re.sub(r'"releaseId":"[^"]+"', '"releaseId":"1.2.3"', body)
    return re.sub(r'("observedValue": ?)[\d.]+(,"observedUnit":"s")', r"\g<1>1.5\2", body)


@pytest.mark.parametrize(
    ("name", "path", "headers"),
    [
        ("live.json", "/api/health", {}),
        ("ready.json", "/api/health/ready", {}),
        ("system-health.json", "/api/system/health", {}),
        ("system-status.json", "/api/system/status", {}),
        ("system-status-with-history.json", "/api/system/status?minutes=2", {}),
        ("system-history.json", "/api/system/history?queue=email&minutes=3", {}),
        ("circuit-breakers.json", "/api/system/circuit-breakers", {}),
        ("live.health.json", "/api/health", HEALTH),
        ("ready.health.json", "/api/health/ready", HEALTH),
        ("system-health.health.json", "/api/system/health", HEALTH),
    ],
)
async def test_each_endpoint_answers_to_the_byte(
    link: ClockedLink, name: str, path: str, headers: dict[str, str]
) -> None:
    checks = [HealthCheck(name="partner", plugin="tests", check=_well_with_a_reason)]
    async with served(link, Site(checks=checks)) as http, http.get(path, headers=headers) as response:
        assert response.status == 200
        assert response.headers["Cache-Control"] == "no-store"
        assert response.content_type == headers.get("Accept", "application/json")
        body = await response.text()
    assert_golden(f"http/{name}", _steady(body))
    model = MODELS.get(path.partition("?")[0])
    if model is not None:
        model.model_validate_json(body, by_alias=True)


@pytest.mark.parametrize(
    ("change", "status", "verdict"),
    [
        ({}, 200, "pass"),
        ({"database": _down}, 200, "warn"),
        ({"smtp": _down}, 200, "warn"),
        ({"missing": ["003_more.sql"]}, 200, "warn"),
        ({"redis": _down}, 503, "fail"),
        ({"is_draining": True}, 503, "fail"),
        ({"silent_for": timedelta(seconds=16)}, 503, "fail"),
    ],
)
async def test_a_daemon_is_ready_while_jobs_can_run(
    link: ClockedLink, change: dict[str, Any], status: int, verdict: str
) -> None:
    async with served(link, replace(Site(), **change)) as http:
        async with http.get("/api/health/ready") as plain, http.get("/api/health/ready", headers=HEALTH) as health:
            assert (plain.status, health.status) == (status, status)
            assert (await plain.json())["status"] == ("ready" if status == 200 else "not ready")
            assert (await health.json(content_type=None))["status"] == verdict
        async with http.get("/api/health", headers=HEALTH) as live:
            assert (await live.json(content_type=None))["status"] == "pass"


async def test_readiness_names_the_migrations_that_are_missing(link: ClockedLink) -> None:
    async with served(link, Site(missing=["003_more.sql"])) as http, http.get("/api/health/ready") as response:
        assert (await response.json())["checks"]["schema"] == "lacks 003_more.sql"


async def test_what_is_wrong_is_told_to_known_callers_alone(link: ClockedLink, tmp_path: Path) -> None:
    token, path = new_token(), tmp_path / "tokens.toml"
    path.write_text(f'[monitor]\nsha256 = "{digest_of(token)}"\nscopes = ["read"]\n')
    path.chmod(0o600)
    guard = TokenGuard(TokenFile(path), token_rate="100/1s", is_for_others=True)
    async with served(link, Site(database=_down, guard=guard)) as http:
        for headers, output in (({}, None), ({"Authorization": f"Bearer {token}"}, "connection refused")):
            async with http.get("/api/health/ready", headers=HEALTH | headers) as response:
                (check,) = (await response.json(content_type=None))["checks"]["database:responseTime"]
                assert check.get("output") == output


async def test_status_says_what_it_does_not_know_and_never_fails(redis_url: str) -> None:
    """Every server accepts and says nothing."""

    async def silent() -> timedelta:
        await asyncio.Event().wait()
        return timedelta(0)

    async with AsyncExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        link = Link.to(f"redis://127.0.0.1:{server.getsockname()[1]}")
        stack.push_async_callback(link.close)
        http = await stack.enter_async_context(served(link, Site(redis=silent, database=silent, smtp=silent)))
        began = asyncio.get_running_loop().time()
        async with http.get("/api/system/status") as response:
            document = await response.json()
        assert asyncio.get_running_loop().time() - began < 2
    assert (response.status, document["status"], document["at"], document["daemons"]) == (200, "down", None, None)
    assert document["queues"]["email"]["waiting"] is None
    assert document["dependencies"]["smtp"] == {
        "connected": False,
        "responseMs": None,
        "problem": "no answer within 1.5 s",
    }
    assert document["cache"]["scope"] == "worker"


@pytest.mark.parametrize(
    ("query", "status", "code", "message"),
    [
        ("minutes=0", 400, "VALIDATION_004", "minutes: give a whole number from 1 to 360"),
        ("minutes=361", 400, "VALIDATION_004", "minutes: give a whole number from 1 to 360"),
        ("minutes=1.5", 400, "VALIDATION_004", "minutes: give a whole number from 1 to 360"),
        ("queue=nowhere", 404, "NOT_FOUND_001", "there is no queue 'nowhere'; there are email"),
    ],
)
async def test_a_history_that_there_is_not_is_refused(
    link: ClockedLink, query: str, status: int, code: str, message: str
) -> None:
    async with served(link, Site()) as http, http.get(f"/api/system/history?{query}") as response:
        document = await response.json()
    assert (response.status, document["code"], document["message"]) == (status, code, message)


async def test_nobody_waits_for_a_driver_that_does_not_heed_a_cancellation() -> None:
    answers_again, asked = asyncio.Event(), 0

    async def stubborn() -> timedelta:
        nonlocal asked
        asked += 1
        while not answers_again.is_set():
            with suppress(asyncio.CancelledError):
                await answers_again.wait()
        return timedelta(milliseconds=1)

    dependency = Dependency(stubborn)
    readings = await asyncio.gather(*(dependency.reading() for _ in range(10)), dependency.reading())
    assert {reading.problem for reading in readings} == {"no answer within 1.5 s"}
    assert not (await dependency.reading()).is_up
    assert asked == 1
    answers_again.set()

    async def is_up() -> bool:
        return (await dependency.reading()).is_up

    await eventually(is_up)


async def test_callers_at_the_same_time_share_a_ping() -> None:
    asked = 0
    may_answer = asyncio.Event()

    async def counted() -> timedelta:
        nonlocal asked
        asked += 1
        await may_answer.wait()
        return timedelta(milliseconds=1)

    dependency = Dependency(counted, good_for=timedelta(hours=1))
    readings = [asyncio.create_task(dependency.reading()) for _ in range(10)]
    await asyncio.sleep(0)
    may_answer.set()
    assert all(reading.is_up for reading in await asyncio.gather(*readings))
    assert (await dependency.reading()).is_up
    assert asked == 1
