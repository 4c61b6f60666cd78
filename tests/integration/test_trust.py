"""Which jobs a worker believes: those that it must not are dead-lettered, and their handlers never see them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from taskiq.kicker import AsyncKicker

from skycap import AsyncClient
from skycap.demo.daemon import DaemonProcess
from skycap.engine.queue import NewJob
from skycap.engine.schedule_book import Became
from skycap.exits import Exit
from skycap.intake import Intake
from skycap.job import Job, JobState
from skycap.maintenance.clock import Clock
from skycap.outcome import DeadReason
from skycap.request import Request
from skycap.schedule import Schedule
from skycap.signing import Keyring, Signer
from skycap.worker.trust import Trust, Verify
from tests.support.daemons import Site, skycap
from tests.support.redis import redis_at
from tests.support.workers import PATIENCE, Bench, Note, bench

KEY, OLD_KEY, THEIRS = Signer.new("ours"), Signer.new("old"), Signer.new("theirs")
KEYRING = Keyring({"ours": KEY, "old": OLD_KEY})
WITH_KEY = {"SKYCAP_SIGNING_KEYS": KEY.text()}
PRODUCTION = {"SKYCAP_ENV": "production", "SKYCAP_LOAD_PLUGINS": "tests"}
EVERY_MINUTE = Schedule(name="sweep", crontab="* * * * *", zone="UTC", payload=Note(text="sweep"), plugin="tests")


@asynccontextmanager
async def trusting(
    redis_url: str, verify: Verify, *, keyring: Keyring = KEYRING, required_kinds: tuple[str, ...] = ()
) -> AsyncGenerator[Bench]:
    """A bench whose worker runs; its own client signs with KEY."""
    trust = Trust(keyring, verify=verify, required_kinds=required_kinds)
    async with bench(redis_url, trust=trust, signing_key=KEY.text()) as b, b.working():
        yield b


async def ended(b: Bench, text: str, signer: Signer | None) -> Job:
    """A Note of somebody who signs with ``signer``, once it has ended."""
    async with AsyncClient(b.url, signing_key=signer.text() if signer else None) as client:
        job_id = (await client.enqueue(Note(text=text))).job_id
    return await b.finished(job_id)


async def test_where_all_must_be_signed_only_those_of_known_keys_run(redis_url: str) -> None:
    async with trusting(redis_url, "require") as b:
        assert (await ended(b, "ours", KEY)).state is JobState.COMPLETED
        assert (await ended(b, "old", OLD_KEY)).state is JobState.COMPLETED
        unsigned, foreign = await ended(b, "unsigned", None), await ended(b, "theirs", THEIRS)
        assert b.ran == ["ours", "old"]
    for job in (unsigned, foreign):
        assert (job.state, job.reason, job.attempt) == (JobState.DISCARDED, DeadReason.UNTRUSTED, 0)
    assert unsigned.errors[-1].error == (
        "Untrusted: a job of kind take-note must be signed, and this one is not; give whoever enqueues it one of the "
        "keys in signing.keys"
    )
    assert "the key 'theirs', which is not known here" in foreign.errors[-1].error


async def test_a_job_that_was_changed_after_it_was_signed_never_runs(redis_url: str) -> None:
    async with bench(redis_url, trust=Trust(KEYRING, verify="present"), signing_key=KEY.text()) as b:
        job_id = await b.put("as it was")
        async with redis_at(redis_url) as redis:
            key = b.queue.keys.job(job_id)
            signed = await redis.hget(key, "envelope")
            await redis.hset(key, "envelope", signed.replace(b"as it was", b"otherwise"))
        async with b.working():
            job = await b.finished(job_id)
        assert b.ran == []
    assert (job.state, job.reason) == (JobState.DISCARDED, DeadReason.UNTRUSTED)
    assert "it was changed after it was signed" in job.errors[-1].error


async def test_where_only_what_is_there_must_be_right_the_unsigned_run_too(redis_url: str) -> None:
    async with trusting(redis_url, "present") as b:
        assert (await ended(b, "ours", KEY)).state is JobState.COMPLETED
        assert (await ended(b, "unsigned", None)).state is JobState.COMPLETED
        assert (await ended(b, "theirs", THEIRS)).reason == DeadReason.UNTRUSTED
        assert b.ran == ["ours", "unsigned"]


@pytest.mark.parametrize(("verify", "keyring"), [("off", KEYRING), ("present", Keyring({}))])
async def test_where_nobody_looks_or_there_is_no_key_all_run(redis_url: str, verify: Verify, keyring: Keyring) -> None:
    async with trusting(redis_url, verify, keyring=keyring) as b:
        for text, signer in (("ours", KEY), ("unsigned", None), ("theirs", THEIRS)):
            assert (await ended(b, text, signer)).state is JobState.COMPLETED
        assert b.ran == ["ours", "unsigned", "theirs"]


async def test_a_kind_that_must_be_signed_must_be_so_whatever_holds_for_others(redis_url: str) -> None:
    async with trusting(redis_url, "off", required_kinds=("take-note",)) as b:
        assert (await ended(b, "unsigned", None)).reason == DeadReason.UNTRUSTED
        assert (await ended(b, "theirs", THEIRS)).reason == DeadReason.UNTRUSTED
        assert (await ended(b, "ours", KEY)).state is JobState.COMPLETED
    async with trusting(redis_url, "off", required_kinds=("send-email",)) as b:
        assert (await ended(b, "unsigned", None)).state is JobState.COMPLETED


async def test_a_kind_that_nobody_knows_is_not_waited_for_unless_it_is_trusted(redis_url: str) -> None:
    async with trusting(redis_url, "require") as b, AsyncClient(redis_url) as client:
        envelope = client.envelope(Note(text="x"))
        envelope.kind = "take-over"
        await b.queue.add([NewJob(envelope=envelope)])
        assert (await b.finished(envelope.id)).reason == DeadReason.UNTRUSTED


async def test_a_redriven_job_is_no_more_trusted_than_before(redis_url: str) -> None:
    async with trusting(redis_url, "require") as b:
        job = await ended(b, "unsigned", None)
        await b.queue.retry(job.id)
        assert (await b.finished(job.id)).reason == DeadReason.UNTRUSTED
        assert b.ran == []


async def test_a_tick_of_a_schedule_is_signed_and_runs(redis_url: str) -> None:
    async with trusting(redis_url, "require") as b:
        clock = Clock([EVERY_MINUTE], {"tests": b.queue}, signer=KEY)
        at = datetime(2026, 11, 23, 6, tzinfo=UTC)
        assert await clock.decide("sweep", at) is Became.ENQUEUED
        assert (await b.finished(f"sweep-{round(at.timestamp() * 1000)}")).state is JobState.COMPLETED
        assert b.ran == ["sweep"]


async def test_what_an_intake_makes_of_a_request_is_signed_and_runs(redis_url: str) -> None:
    async with trusting(redis_url, "require") as b:
        request = Request(kind="take-note", payload={"text": "asked for"}, id="1")
        await b.queue.add([Intake(b.registry, signer=KEY).job_of(request)])
        assert (await b.finished("1")).state is JobState.COMPLETED
        await b.queue.add([Intake(b.registry).job_of(replace(request, id="2"))])
        assert (await b.finished("2")).reason == DeadReason.UNTRUSTED
        assert b.ran == ["asked for"]


async def test_what_a_job_enqueues_is_signed_and_runs(redis_url: str) -> None:
    async def handle(ctx: Any, payload: Note) -> None:
        if payload.text == "first":
            await ctx.enqueue(Note(text="second"), job_id="second")

    trust = Trust(KEYRING, verify="require")
    async with bench(redis_url, handle, trust=trust, signing_key=KEY.text()) as b, b.working():
        await b.finished(await b.put("first"))
        assert (await b.finished("second")).state is JobState.COMPLETED
        assert b.ran == ["first", "second"]


async def test_what_a_taskiq_application_kicks_is_signed_and_runs(redis_url: str) -> None:
    async with trusting(redis_url, "require") as b:
        labels = {"queue": "tests"}
        task = await AsyncKicker[..., Any]("take-note", broker=b.broker, labels=labels).kiq(text="kicked")
        assert (await b.finished(task.task_id)).state is JobState.COMPLETED
        assert b.ran == ["kicked"]


PLUGIN = """
from skycap import Payload, Plugin

plugin = Plugin("tests")


class Mail(Payload, kind="send-email", queue="default", aliases=("mail-anybody",)):
    text: str = ""


class Note(Payload, kind="take-note", queue="default"):
    text: str = ""


@plugin.job()
async def send_email(ctx, payload: Mail):
    return payload.text


@plugin.job()
async def take_note(ctx, payload: Note):
    return payload.text
"""


@pytest.fixture
def site(tmp_path: Path, redis_url: str) -> Site:
    """An installation without keys, whose kinds are a note and what is called send-email."""
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "tests.py").write_text(PLUGIN)
    return Site(folder=tmp_path, redis_url=redis_url, plugins_dir=plugins)


async def test_in_production_a_mail_to_anybody_must_be_signed_under_each_of_its_names(site: Site) -> None:
    environ = PRODUCTION
    async with AsyncClient(site.redis_url, signing_key=KEY.text()) as client:
        async with DaemonProcess(site.log, "--config", str(site.config), environ=environ):
            mail, alias, note = [
                await _ended(client, kind, signed=False) for kind in ("send-email", "mail-anybody", "take-note")
            ]
        assert "jobs that must be signed cannot be" in site.log.read_text()
        async with DaemonProcess(site.log, "--config", str(site.config), environ=environ | WITH_KEY):
            signed = await _ended(client, "send-email", signed=True)
            unsigned = await _ended(client, "mail-anybody", signed=False)
    assert note.state is signed.state is JobState.COMPLETED
    assert [job.reason for job in (mail, alias, unsigned)] == 3 * [DeadReason.UNTRUSTED]
    assert mail.errors[-1].error.endswith("signing.keys, which has none yet: `skycap config signing-key` makes one")


async def test_the_command_line_signs_what_it_enqueues_and_what_it_mends(site: Site) -> None:
    options = ("--config", site.config, "--json")
    environ = PRODUCTION | WITH_KEY
    made = await skycap("enqueue", "send-email", *options, environ=environ)
    assert made.code == 0, made.err
    async with AsyncClient(site.redis_url) as client, redis_at(site.redis_url) as redis:
        queue = client.queue("default")
        key = queue.keys.job(made.json["jobId"])
        assert KEYRING.verified_by(await redis.hget(key, "envelope")) == "ours"
        async with DaemonProcess(site.log, "--config", str(site.config), environ=environ):
            unsigned = await _ended(client, "send-email", signed=False)
            assert unsigned.reason == DeadReason.UNTRUSTED
            mended = ("dead", "redrive", unsigned.id, "--payload", '{"text": "looked at"}', "--config", site.config)
            assert (await skycap(*mended, environ=environ)).code == 0
            done = await client.wait(unsigned.id, queue="default", timeout=PATIENCE)
    assert done is not None
    assert (done.state, done.result) == (JobState.COMPLETED, "looked at")


async def test_the_command_line_makes_no_job_that_nobody_would_trust(site: Site) -> None:
    refused = await skycap("enqueue", "send-email", "--config", site.config, environ=PRODUCTION)
    assert refused.code == Exit.CONFIGURATION
    assert "signing.keys: there is none here, and a job of kind send-email must be signed" in refused.err


async def test_a_key_from_the_command_line_is_one() -> None:
    made = await skycap("config", "signing-key", "--id", "2026-11")
    assert Signer.parse(made.out).key_id == "2026-11"
    assert made.out != (await skycap("config", "signing-key", "--id", "2026-11")).out


@pytest.mark.parametrize("signing", [{"verify": "require"}, {"require_kinds": ["send-email"]}])
async def test_a_daemon_that_could_trust_no_job_does_not_start(site: Site, signing: dict[str, Any]) -> None:
    site.extra["signing"] = signing
    ended = await skycap("run", "--config", site.config, environ={"SKYCAP_LOAD_PLUGINS": "tests"})
    assert ended.code == Exit.CONFIGURATION
    assert "signing.keys: there is none, and jobs must be signed; make one with" in ended.err


async def _ended(client: AsyncClient, kind: str, *, signed: bool) -> Job:
    envelope = client.envelope(Note(text="x"))
    envelope.kind, envelope.queue = kind, "default"
    if not signed:
        envelope.signer = None
    queue = client.queue("default")
    await queue.add([NewJob(envelope=envelope)])
    job = await client.wait(envelope.id, queue="default", timeout=PATIENCE)
    assert job is not None
    assert job.state.is_final
    return job
