"""The whole daemon as a process: what it does with outages, bad input, signals and wrong configuration."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
from aiohttp import ClientSession

from skycap import AsyncClient, Payload, discovery
from skycap.demo.mailbox import Break, Mailbox
from skycap.demo.travel import SAMPLE_BOOKING_ID, SAMPLE_USER_ID, add_sample_rows, create_travel_tables
from skycap.embedded import EmbeddedServers
from skycap.job import Job, JobState
from skycap.outcome import DeadReason
from tests.support.daemons import Site, skycap
from tests.support.redis import redis_at
from tests.support.workers import PATIENCE, eventually

BOOKING = {
    "bookingId": SAMPLE_BOOKING_ID,
    "userId": SAMPLE_USER_ID,
    "userEmail": "ayse.yilmaz@example.com",
    "bookingType": "HOTEL",
}
KIND = "send-booking-confirmation"


class Slow(Payload, kind="be-slow"):
    """Handled by the plugin below."""

    seconds: float = 0


SLOW_PLUGIN = """
import asyncio
from skycap import Context, Payload, Plugin
plugin = Plugin("slow")
class Slow(Payload, kind="be-slow"):
    seconds: float = 0
@plugin.job()
async def be_slow(ctx: Context, payload: Slow) -> str:
    await asyncio.sleep(payload.seconds)
    return "done"
"""


@pytest.fixture
async def travel(database_url: str) -> str:
    connection = await asyncpg.connect(database_url)
    try:
        await create_travel_tables(connection)
        await add_sample_rows(connection)
    finally:
        await connection.close()
    return database_url


async def finished(client: AsyncClient, job_id: str, queue: str = "email") -> Job:
    job = await client.wait(job_id, queue=queue, timeout=PATIENCE)
    assert job is not None
    assert job.state.is_final, f"still {job.state}: {job.reason}"
    return job


async def test_a_booking_confirmation_reaches_the_guest_and_the_ledger(
    redis_url: str, travel: str, tmp_path: Path
) -> None:
    payload = discovery.load().checked_payload(KIND, BOOKING)
    async with Mailbox(tmp_path / "m", username="u", password="p") as mailbox, AsyncClient(redis_url) as client:
        site = Site(folder=tmp_path, redis_url=redis_url, database_url=travel, mailbox=mailbox)
        async with site.daemon():
            first = await finished(client, (await client.enqueue(payload)).job_id)
            again = await finished(client, (await client.enqueue(payload)).job_id)
    assert [received.recipient for received in mailbox.received] == ["ayse.yilmaz@example.com"]
    assert first.result == again.result == {"messageId": mailbox.received[0].message_id}
    connection = await asyncpg.connect(travel)
    try:
        rows = await connection.fetch("SELECT state, smtp_code, sends, recipient_hash FROM skycap.mail_ledger")
    finally:
        await connection.close()
    assert [(row["state"], row["smtp_code"], row["sends"]) for row in rows] == [("sent", 250, 1)]
    assert "@" not in rows[0]["recipient_hash"]
    assert "example.com" not in site.log.read_text().replace(mailbox.received[0].message_id, "")


async def test_a_booking_that_does_not_exist_is_a_dead_letter_at_once(
    redis_url: str, travel: str, tmp_path: Path
) -> None:
    payload = discovery.load().checked_payload(KIND, {**BOOKING, "bookingId": "nowhere"})
    async with Mailbox(tmp_path / "m", username="u", password="p") as mailbox, AsyncClient(redis_url) as client:
        site = Site(folder=tmp_path, redis_url=redis_url, database_url=travel, mailbox=mailbox)
        async with site.daemon():
            job = await finished(client, (await client.enqueue(payload)).job_id)
    assert (job.state, job.reason, job.attempt) == (JobState.DISCARDED, DeadReason.PERMANENT, 1)
    assert "booking nowhere does not exist" in job.errors[0].error
    assert mailbox.received == []


async def test_a_mail_that_the_server_refuses_is_a_dead_letter_without_the_address(
    redis_url: str, travel: str, tmp_path: Path
) -> None:
    payload = discovery.load().checked_payload(KIND, BOOKING)
    async with (
        Mailbox(
            tmp_path / "m",
            username="u",
            password="p",
            replies=lambda phase, to: f"550 5.1.1 <{to}> no such user" if phase == "rcpt" else None,
        ) as mailbox,
        AsyncClient(redis_url) as client,
    ):
        site = Site(folder=tmp_path, redis_url=redis_url, database_url=travel, mailbox=mailbox)
        async with site.daemon():
            job = await finished(client, (await client.enqueue(payload)).job_id)
    assert (job.state, job.reason, job.attempt) == (JobState.DISCARDED, DeadReason.PERMANENT, 1)
    assert "550" in job.errors[0].error
    assert "@" not in job.errors[0].error
    assert "ayse" not in site.log.read_text()


async def test_while_the_mail_server_is_away_the_job_waits_and_keeps_its_attempt(
    redis_url: str, travel: str, tmp_path: Path
) -> None:
    payload = discovery.load().checked_payload(KIND, BOOKING)
    async with Mailbox(tmp_path / "m", username="u", password="p") as mailbox, AsyncClient(redis_url) as client:
        mailbox.replies = lambda phase, _: Break.DROP if phase == "mail" else None
        site = Site(folder=tmp_path, redis_url=redis_url, database_url=travel, mailbox=mailbox)
        async with site.daemon():
            job_id = (await client.enqueue(payload)).job_id
            await eventually(lambda: snoozed(client, job_id))
            mailbox.replies = lambda _phase, _to: None
            await client.queue("email").retry(job_id)
            job = await finished(client, job_id)
    assert (job.state, job.attempt, job.errors) == (JobState.COMPLETED, 1, ())
    assert len(mailbox.received) == 1


async def test_while_the_database_is_away_the_job_waits_and_keeps_its_attempt(redis_url: str, tmp_path: Path) -> None:
    payload = discovery.load().checked_payload(KIND, BOOKING)
    own = EmbeddedServers(tmp_path / "db", redis=False)
    await own.start()
    url = own.database_url
    await own.stop()
    async with Mailbox(tmp_path / "m", username="u", password="p") as mailbox, AsyncClient(redis_url) as client:
        site = Site(folder=tmp_path, redis_url=redis_url, database_url=url, mailbox=mailbox)
        async with site.daemon():
            job_id = (await client.enqueue(payload)).job_id
            await eventually(lambda: snoozed(client, job_id))
            async with own:
                connection = await asyncpg.connect(url)
                await create_travel_tables(connection)
                await add_sample_rows(connection)
                await connection.close()
                job = await finished(client, job_id)
    assert (job.state, job.attempt, job.errors) == (JobState.COMPLETED, 1, ())


async def snoozed(client: AsyncClient, job_id: str) -> bool:
    job = await client.queue("email").get(job_id)
    return job is not None and job.state is JobState.SCHEDULED and job.attempt == 0


async def test_a_job_that_outlives_the_grace_period_is_handed_back_and_the_daemon_exits_well(
    redis_url: str, tmp_path: Path, plugins_folder: Path
) -> None:
    (plugins_folder / "slow.py").write_text(SLOW_PLUGIN)
    site = Site(
        folder=tmp_path, redis_url=redis_url, plugins_dir=plugins_folder, extra={"worker": {"grace_seconds": 0.2}}
    )
    async with AsyncClient(redis_url) as client:
        async with site.daemon() as daemon:
            job_id = (await client.enqueue(Slow(seconds=60))).job_id
            await eventually(lambda: running(client, job_id))
            began = time.monotonic()
            code = await daemon.stop()
            took = time.monotonic() - began
        job = await client.queue("default").get(job_id)
    assert job is not None
    assert (code, job.state, job.attempt) == (0, JobState.AVAILABLE, 0)
    assert took < 5


async def running(client: AsyncClient, job_id: str) -> bool:
    job = await client.queue("default").get(job_id)
    return job is not None and job.state is JobState.RUNNING


async def test_an_idle_daemon_stops_at_once(redis_url: str, tmp_path: Path) -> None:
    async with Site(folder=tmp_path, redis_url=redis_url).daemon() as daemon:
        began = time.monotonic()
        code = await daemon.stop()
        assert (code, time.monotonic() - began < 2) == (0, True)


async def test_the_daemon_starts_without_redis_and_works_when_it_comes(tmp_path: Path, plugins_folder: Path) -> None:
    (plugins_folder / "slow.py").write_text(SLOW_PLUGIN)
    own = EmbeddedServers(tmp_path / "redis", database=False)
    await own.start()
    url = own.redis_url
    await own.stop()
    site = Site(folder=tmp_path, redis_url=url, plugins_dir=plugins_folder)
    async with site.daemon() as daemon, ClientSession() as http:
        async with (
            http.get(f"{daemon.http_url}/api/health") as live,
            http.get(f"{daemon.http_url}/api/health/ready") as ready,
        ):
            assert (live.status, ready.status) == (200, 503)
            assert (await ready.json())["checks"]["redis"] == "down"
        async with own, AsyncClient(url) as client:
            job = await finished(client, (await client.enqueue(Slow())).job_id, "default")
            async with http.get(f"{daemon.http_url}/api/health/ready") as ready:
                assert ready.status == 200
    assert job.result == "done"


async def test_the_health_endpoints_have_the_shapes_that_the_dashboards_read(
    redis_url: str, travel: str, tmp_path: Path
) -> None:
    site = Site(folder=tmp_path, redis_url=redis_url, database_url=travel)
    async with site.daemon() as daemon, ClientSession(daemon.http_url) as http:
        async with http.get("/api/system/health") as response:
            health = await response.json()
        async with http.get("/api/health/ready") as response:
            ready = response.status, await response.json()
        async with http.get("/nowhere", headers={"X-Request-Id": "abc-1"}) as response:
            missing = response.status, await response.json()
        async with http.post("/api/health") as response:
            wrong = response.status, response.headers["Allow"], await response.json()
    assert re.fullmatch(r"\d+ms", health["database"].pop("responseTime"))
    assert health == {
        "database": {"connected": True},
        "redis": {"connected": True, "hitRate": 0.0},
        "queues": {
            name: {"waiting": 0, "active": 0, "failed": 0} for name in ("default", "email", "processing", "scheduled")
        },
        "circuitBreakers": {
            name: {"state": "CLOSED", "failureRate": 0.0}
            for name in ("amadeus", "booking-com", "email", "google-places", "openai", "stripe")
        },
        "worker": {
            "redis": {"hitRate": 0.0},
            "queues": {
                name: {"active": 0, "concurrency": concurrency}
                for name, concurrency in (("default", 5), ("email", 3), ("processing", 5), ("scheduled", 2))
            },
        },
    }
    checks = {"redis": "ok", "database": "ok", "smtp": "not configured", "consumers": "ok", "schema": "ok"}
    assert ready == (200, {"status": "ready", "checks": checks})
    timestamp = missing[1].pop("timestamp")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", timestamp)
    assert missing == (
        404,
        {
            "success": False,
            "error": "NOT_FOUND",
            "message": "there is nothing at /nowhere",
            "statusCode": 404,
            "code": "NOT_FOUND_001",
            "path": "/nowhere",
            "requestId": "abc-1",
        },
    )
    assert wrong[:2] == (405, "GET,HEAD")
    assert wrong[2]["error"] == "BAD_REQUEST"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("[redis]\nurl = 'http://x'", "redis.url"),
        ("[queues.email]\nconcurrency = 0", "queues.email.concurrency"),
        ("[queues.email]\nconcurrencyy = 1", "queues.email.concurrencyy"),
        ("[plugins.bookings]\ntime_zone = 'Mars/Olympus'", "plugins.bookings"),
        ("[plugins.nowhere]\nx = 1", "plugins.nowhere"),
        ("[jobs.send-nothing]\nattempts = 1", "jobs.send-nothing"),
        ("[smtp]\nurl = 'smtp://localhost'\n[database]\nurl = 'postgresql://localhost/x'", "smtp.sender: is not set"),
        ("not toml", "skycap.toml"),
    ],
)
async def test_a_wrong_configuration_ends_with_78_and_one_line(tmp_path: Path, line: str, problem: str) -> None:
    config = tmp_path / "skycap.toml"
    config.write_text(line + ("" if "redis" in line else "\n[redis]\nurl = 'redis://localhost'\n"))
    done = await skycap("run", "--config", config)
    assert (done.code, done.out) == (78, "")
    assert len(done.err.splitlines()) == 1, done.err
    assert problem in done.err


async def test_a_kind_without_its_queue_ends_with_78_and_names_the_table(tmp_path: Path, plugins_folder: Path) -> None:
    (plugins_folder / "slow.py").write_text(SLOW_PLUGIN.replace('kind="be-slow"', 'kind="be-slow", queue="slow"'))
    config = tmp_path / "skycap.toml"
    config.write_text("[redis]\nurl = 'redis://localhost'\n")
    done = await skycap("run", "--config", config, "--plugins-dir", plugins_folder)
    assert (done.code, done.err) == (
        78,
        "skycap: plugin slow: be-slow goes to queue 'slow', which is not configured; add a [queues.slow] table\n",
    )


async def test_no_redis_is_said_with_what_to_do(tmp_path: Path) -> None:
    done = await skycap("run", environ={"XDG_STATE_HOME": str(tmp_path)})
    assert done.code == 78
    assert "SKYCAP_REDIS_URL" in done.err


async def test_production_refuses_embedded_servers() -> None:
    done = await skycap("run", "--embedded", environ={"SKYCAP_ENV": "production"})
    assert done.code == 78
    assert "not in production" in done.err


async def test_an_occupied_port_is_a_configuration_error(redis_url: str, tmp_path: Path) -> None:
    async with Site(folder=tmp_path, redis_url=redis_url).daemon() as first:
        address = first.http_url.removeprefix("http://")
        second = Site(folder=tmp_path, redis_url=redis_url, extra={"http": {"bind": address}})
        done = await skycap("run", "--config", second.config)
    assert done.code == 78
    assert f"http.bind: cannot listen on {address}" in done.err.splitlines()[-1]


async def test_what_blocks_the_event_loop_shows_in_the_log_and_in_the_metrics(
    redis_url: str, tmp_path: Path, plugins_folder: Path
) -> None:
    blocking = SLOW_PLUGIN.replace("await asyncio.sleep", "import time; time.sleep")
    (plugins_folder / "slow.py").write_text(blocking)
    site = Site(folder=tmp_path, redis_url=redis_url, plugins_dir=plugins_folder)
    async with AsyncClient(redis_url) as client, site.daemon() as daemon, ClientSession() as http:
        job_id = (await client.enqueue(Slow(seconds=0.8))).job_id
        await client.wait(job_id, queue="default", timeout=PATIENCE)

        async def is_counted() -> bool:
            async with http.get(f"{daemon.http_url}/metrics") as answer:
                text = await answer.text()
            return 'skycap_event_loop_blocked_total{job_type="be-slow"} 1.0\n' in text

        await eventually(is_counted)
        async with http.get(f"{daemon.http_url}/metrics") as answer:
            lines = (await answer.text()).splitlines()
    assert 'skycap_queue_jobs{queue="email",state="waiting"} 0.0' in lines
    (blocked,) = [line for line in site.log.read_text().splitlines() if "event loop blocked" in line]
    assert job_id in blocked
    assert "be-slow" in blocked
    assert "slow.py" in blocked


async def test_a_redis_that_may_lose_jobs_is_warned_of_at_the_start(redis_url: str, tmp_path: Path) -> None:
    async with redis_at(redis_url) as redis:
        await redis.config_set("maxmemory-policy", "allkeys-lru")
        site = Site(folder=tmp_path, redis_url=redis_url)
        try:
            async with site.daemon():

                async def warned() -> bool:
                    return "maxmemory-policy is allkeys-lru" in site.log.read_text()

                await eventually(warned)
        finally:
            await redis.config_set("maxmemory-policy", "noeviction")


async def test_a_limit_that_queues_share_is_refused_on_a_cluster(tmp_path: Path) -> None:
    config = tmp_path / "skycap.toml"
    config.write_text(
        "[redis]\nurl = 'redis+cluster://localhost'\n[limits.partner]\nconcurrency = 1\n"
        "[queues.email]\nlimits = ['partner']\n[queues.processing]\nlimits = ['partner']\n"
    )
    done = await skycap("run", "--config", config)
    assert done.code == 78
    assert done.err.startswith("skycap: limits.partner: the queues email, processing share it")


async def test_a_schedule_of_a_plugin_is_enqueued_and_run(redis_url: str, tmp_path: Path, plugins_folder: Path) -> None:
    (plugins_folder / "slow.py").write_text(f"{SLOW_PLUGIN}\nplugin.schedule('* * * * *', Slow(), name='often')\n")
    site = Site(folder=tmp_path, redis_url=redis_url, plugins_dir=plugins_folder)
    async with AsyncClient(redis_url) as client, redis_at(redis_url) as redis:
        queue = client.queue("default")
        # A minute is long for a test: the last tick is said to be an hour old, so that one is missed at the start.
        hour_ago = datetime.now(UTC) - timedelta(hours=1)
        await redis.hset(queue.keys.cron, "often", round(hour_ago.timestamp() * 1000))
        async with site.daemon():

            async def has_run() -> bool:
                return bool(await queue.jobs(JobState.COMPLETED))

            await eventually(has_run)
        (job, *_) = await queue.jobs(JobState.COMPLETED)
    assert job.id.startswith("often-")
    assert job.result == "done"
