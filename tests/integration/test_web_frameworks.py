"""The applications in plugins/backends, run by their own frameworks on a real Valkey and PostgreSQL."""

# Django has no types of its own.
# mypy: disable-error-code="import-untyped"
# pyright: basic, reportGeneralTypeIssues=false

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import asyncpg
import django
import httpx
import pytest
from django.conf import settings
from django.db import connection, transaction
from django.test import Client as Browser
from psycopg.conninfo import conninfo_to_dict

from skycap import AsyncClient, Client, Job, JobState, QueueFull, Recorder, Unavailable
from skycap.embedded import EmbeddedServers
from skycap.services.migrations import migrate
from skycap_travel.payloads import SendBookingConfirmation

BACKENDS = Path(__file__).resolve().parents[2] / "plugins" / "backends"

BOOKING = {"bookingId": "b1", "userId": "u1", "userEmail": "ada@example.com", "bookingType": "HOTEL"}


def _loaded(name: str) -> ModuleType:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, BACKENDS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


async def _job(redis_url: str, job_id: str) -> Job | None:
    async with AsyncClient(redis_url) as client:
        return await client.get(job_id, queue="email")


async def _waiting(redis_url: str) -> list[Job]:
    async with AsyncClient(redis_url) as client:
        return await client.queue("email").jobs(JobState.AVAILABLE)


@pytest.fixture
def fastapi_app() -> ModuleType:
    return _loaded("fastapi_app")


@pytest.fixture
async def http(
    fastapi_app: ModuleType, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[httpx.AsyncClient]:
    monkeypatch.setenv("SKYCAP_URL", redis_url)
    app = fastapi_app.app
    async with app.router.lifespan_context(app) as state:

        async def as_a_server_calls_it(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": dict(state)}, receive, send)

        transport = httpx.ASGITransport(as_a_server_calls_it)
        async with httpx.AsyncClient(transport=transport, base_url="http://backend") as http:
            yield http


async def test_a_job_is_stored_when_the_answer_comes_and_asking_twice_makes_one(
    http: httpx.AsyncClient, redis_url: str
) -> None:
    first, again = [await http.post("/confirmations", json=BOOKING) for _ in range(2)]
    assert (first.status_code, first.json()) == (202, {"job_id": "confirm-b1", "is_new": True})
    assert again.json() == {"job_id": "confirm-b1", "is_new": False}
    job = await _job(redis_url, "confirm-b1")
    assert job is not None
    assert (job.kind, job.payload) == ("send-booking-confirmation", BOOKING)
    assert (await http.get("/jobs/confirm-b1")).json() == {"state": "available"}
    assert (await http.get("/jobs/none")).status_code == 404


async def test_what_does_not_fit_is_refused_by_the_framework_with_the_name_of_the_wire(http: httpx.AsyncClient) -> None:
    refused = await http.post("/confirmations", json=BOOKING | {"bookingType": "CASTLE"})
    assert refused.status_code == 422
    assert [problem["loc"] for problem in refused.json()["detail"]] == [["body", "bookingType"]]


async def test_a_background_task_enqueues(http: httpx.AsyncClient, redis_url: str) -> None:
    answer = await http.post("/receipts", json={"userId": "u1", "bookingId": "b1"})
    assert answer.status_code == 204
    (job,) = await _waiting(redis_url)
    assert (job.kind, job.payload) == ("send-payment-receipt", {"userId": "u1", "bookingId": "b1"})


async def test_fastapi_a_test_puts_a_recorder_in_the_place_of_skycap(
    fastapi_app: ModuleType, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    monkeypatch.setitem(fastapi_app.app.dependency_overrides, fastapi_app.skycap_of, lambda: AsyncClient(recorder))
    assert (await http.post("/confirmations", json=BOOKING)).status_code == 202
    (enqueued,) = recorder.enqueued(SendBookingConfirmation)
    assert enqueued.on_the_wire() == BOOKING
    recorder.fail_with = QueueFull("the queue email is full")
    full = await http.post("/confirmations", json=BOOKING)
    assert (full.status_code, full.headers["Retry-After"]) == (503, "1")


@pytest.fixture(scope="module")
def django_app(servers: EmbeddedServers) -> Iterator[ModuleType]:
    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["testserver"],
            DATABASES={"default": _database(servers.database_url)},
            ROOT_URLCONF="django_app",
            SECRET_KEY="of a test",
            SKYCAP_URL=servers.redis_url,
            USE_TZ=True,
        )
        django.setup()
    yield _loaded("django_app")
    _loaded("django_app").skycap().close()


@pytest.fixture
def browser(django_app: ModuleType, redis_url: str, database_url: str) -> Iterator[Any]:
    asyncio.run(_with_a_booking(database_url))
    yield Browser()
    connection.close()


def test_a_view_stores_a_job(browser: Any, redis_url: str) -> None:
    answer = browser.post("/register", {"email": "ada@example.com", "name": "Ada"})
    assert answer.status_code == 202
    job = asyncio.run(_job(redis_url, answer.json()["jobId"]))
    assert job is not None
    assert (job.state, job.payload) == (JobState.AVAILABLE, {"userEmail": "ada@example.com", "userName": "Ada"})


def test_a_view_refuses_what_does_not_fit(browser: Any, redis_url: str) -> None:
    answer = browser.post("/register", {"email": "nobody", "name": "Ada"})
    assert (answer.status_code, answer.json()) == (400, {"wrong": ["user_email"]})
    assert asyncio.run(_waiting(redis_url)) == []


def test_a_job_of_a_transaction_exists_when_that_commits(browser: Any) -> None:
    answer = browser.post("/bookings/b1/pay")
    assert (answer.status_code, answer.json()) == (202, {"jobId": "receipt-b1"})
    assert _stored() == [("COMPLETED", "receipt-b1")]


def test_a_job_of_a_transaction_that_rolls_back_never_was(browser: Any) -> None:
    with transaction.atomic():
        assert browser.post("/bookings/b1/pay").status_code == 202
        transaction.set_rollback(True)
    assert _stored() == [("PENDING", None)]


def test_django_a_test_puts_a_recorder_in_the_place_of_skycap(
    browser: Any, django_app: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    recorder.fail_with = Unavailable("redis", "cannot be reached")
    with Client(recorder) as client:
        monkeypatch.setattr(django_app, "skycap", lambda: client)
        answer = browser.post("/register", {"email": "ada@example.com", "name": "Ada"})
    assert (answer.status_code, answer["Retry-After"]) == (503, "1")


def _database(url: str) -> dict[str, Any]:
    parts = conninfo_to_dict(url)
    names = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
    return {"ENGINE": "django.db.backends.postgresql", **{name: parts.get(part) or "" for name, part in names.items()}}


async def _with_a_booking(database_url: str) -> None:
    database = await asyncpg.connect(database_url)
    try:
        await migrate(database)
        await database.execute("""CREATE TABLE bookings (id TEXT PRIMARY KEY, "userId" TEXT, "paymentStatus" TEXT)""")
        await database.execute("INSERT INTO bookings VALUES ('b1', 'u1', 'PENDING')")
    finally:
        await database.close()


def _stored() -> list[tuple[str, str | None]]:
    """The state of the payment, and the job beside it."""
    with connection.cursor() as cursor:
        cursor.execute(
            'SELECT "paymentStatus", job_id FROM bookings '
            "LEFT JOIN skycap.outbox ON payload ->> 'bookingId' = bookings.id"
        )
        return list(cursor.fetchall())
