"""The command line as an admin meets it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from skycap import AsyncClient
from skycap.demo.daemon import DaemonProcess
from skycap.engine.queue import NewJob
from skycap.job import JobState
from tests.support.daemons import Site, skycap
from tests.support.redis import redis_at
from tests.support.workers import Note, eventually

EXAMPLES = Path(__file__).resolve().parents[2] / "plugins" / "examples"


@pytest.fixture
def site(redis_url: str, tmp_path: Path) -> Site:
    return Site(folder=tmp_path, redis_url=redis_url, plugins_dir=EXAMPLES)


async def test_help_names_every_verb() -> None:
    done = await skycap("--help")
    assert done.code == 0
    verbs = ("run", "demo", "enqueue", "jobs", "queues", "limits", "dead", "schedules", "kinds", "events", "plugins")
    for verb in (*verbs, "check", "config", "db", "top"):
        assert f"\n  {verb} " in done.out


async def test_an_unknown_verb_or_option_is_a_usage_error() -> None:
    for arguments in (["nonsense"], ["jobs", "list", "--nonsense"], ["jobs", "list", "--state", "odd"]):
        done = await skycap(*arguments)
        assert (done.code, done.out) == (64, ""), arguments


async def test_a_job_is_enqueued_and_shown(site: Site) -> None:
    done = await skycap("enqueue", "say-hello", "--payload", '{"name": "Ada"}', "--config", site.config, "--json")
    assert done.code == 0, done.err
    assert (done.json["state"], done.json["duplicate"]) == ("available", False)
    shown = await skycap("jobs", "show", done.json["jobId"], "--config", site.config, "--json")
    assert (shown.json["kind"], shown.json["payload"]) == ("say-hello", {"name": "Ada"})
    listed = await skycap("jobs", "list", "--config", site.config)
    assert done.json["jobId"] in listed.out


async def test_a_payload_may_come_from_a_file_and_an_id_makes_the_call_repeatable(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "payload.json"
    file.write_text('{"name": "Ada"}')
    arguments = ("enqueue", "say-hello", "--payload", f"@{file}", "--id", "once", "--config", site.config, "--json")
    assert [(await skycap(*arguments)).json["duplicate"] for _ in range(2)] == [False, True]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("say-helo",), "no plugin handles 'say-helo'; did you mean 'say-hello'?"),
        (("say-hello",), "say-hello: name: is missing; give a value"),
        (("say-hello", "--payload", "{"), "--payload: not JSON"),
        (("say-hello", "--payload", "@/nowhere"), "--payload: cannot read /nowhere: No such file"),
        (("say-hello", "--payload", '{"name": "Ada"}', "--delay", "1e9"), "over the limit of ten years"),
        (("say-hello", "--payload", json.dumps({"name": "x" * 300_000})), "the limit is 262,144"),
    ],
)
async def test_what_is_wrong_with_a_job_is_said_and_nothing_is_stored(
    site: Site, redis_url: str, arguments: tuple[str, ...], problem: str
) -> None:
    # The large payload would not fit into one argument of a process.
    sent = list(arguments)
    if len(sent) > 2 and len(sent[2]) > 100_000:
        file = site.folder / "large.json"
        file.write_text(sent[2])
        sent[2] = f"@{file}"
    done = await skycap("enqueue", *sent, "--config", site.config)
    assert (done.code, done.out) == (64, "")
    assert problem in done.err
    async with redis_at(redis_url) as redis:
        assert await redis.keys() == []


async def test_redis_that_cannot_be_reached_is_exit_69(tmp_path: Path) -> None:
    site = Site(folder=tmp_path, redis_url=f"unix://{tmp_path}/nowhere.sock")
    done = await skycap("queues", "list", "--config", site.config)
    assert done.code == 69
    assert done.err.startswith("skycap: redis: ")
    assert len(done.err.splitlines()) == 1


async def test_a_waiting_job_is_cancelled_and_a_delayed_one_runs_now(site: Site, redis_url: str) -> None:
    enqueue = ("enqueue", "say-hello", "--payload", '{"name": "Ada"}', "--config", site.config, "--json")
    waiting = (await skycap(*enqueue)).json["jobId"]
    delayed = (await skycap(*enqueue, "--delay", "600")).json["jobId"]
    assert (await skycap("jobs", "cancel", waiting, "--config", site.config, "--json")).json["state"] == "cancelled"
    assert (await skycap("jobs", "retry", delayed, "--config", site.config, "--json")).json["state"] == "available"
    assert (await skycap("jobs", "show", "nonsense", "--config", site.config)).code == 64


async def test_queues_are_paused_and_resumed(site: Site) -> None:
    await skycap("queues", "pause", "email", "--config", site.config)
    listed = (await skycap("queues", "list", "--config", site.config, "--json")).json
    assert {queue["queue"]: queue["isPaused"] for queue in listed}["email"] is True
    await skycap("queues", "resume", "email", "--config", site.config)
    listed = (await skycap("queues", "list", "--config", site.config, "--json")).json
    assert not any(queue["isPaused"] for queue in listed)
    assert (await skycap("queues", "pause", "nowhere", "--config", site.config)).code == 64


async def test_a_dead_letter_is_listed_with_its_error_and_redriven(site: Site, redis_url: str) -> None:
    async with AsyncClient(redis_url) as client:
        queue = client.queue("default")
        envelope = client.envelope(Note(text="unfit"))
        await queue.add([NewJob(envelope=replace(envelope, kind="say-hello", payload={}))])
        async with site.daemon():

            async def dead() -> bool:
                job = await queue.get(envelope.id)
                return job is not None and job.state is JobState.DISCARDED

            await eventually(dead)
    listed = await skycap("dead", "list", "--config", site.config)
    assert envelope.id in listed.out
    assert "name: is missing" in listed.out
    redriven = await skycap("dead", "redrive", envelope.id, "--config", site.config)
    assert (redriven.code, redriven.out) == (0, "1 redriven\n")
    assert (await skycap("dead", "list", "--config", site.config, "--json")).json == []
    again = await skycap("dead", "discard", envelope.id, "--config", site.config)
    assert (again.code, again.err) == (1, f"{envelope.id} is not in a dead-letter queue\n")


async def test_kinds_and_plugins_are_listed_with_the_broken_one(site: Site, plugins_folder: Path) -> None:
    (plugins_folder / "broken.py").write_text("import nowhere_to_be_found")
    site.plugins_dir = plugins_folder
    kinds = (await skycap("kinds", "--config", site.config, "--json")).json
    required = {kind["kind"]: kind["schema"].get("required", []) for kind in kinds}
    assert required == {
        **{name: [] for name in ("analyze-stale-tables", "check-price-alerts", "cleanup-old-data", "database-report")},
        **{name: [] for name in ("tidy-records", "warm-cache")},
        "generate-ai-recommendations": ["userId"],
        "generate-report": ["mailTo"],
        "process-booking": ["bookingId"],
        "send-booking-confirmation": ["bookingId", "userId", "userEmail", "bookingType"],
        "send-email": ["to", "subject", "html"],
        "send-payment-receipt": ["userId", "bookingId"],
        "send-price-alert": ["alertId", "userId", "entityType", "entityId", "oldPrice", "newPrice"],
        "send-welcome-email": ["userEmail", "userName"],
        "sync-external-data": ["provider"],
        "tend-price-history": [],
        "update-price-history": [],
    }
    plugins = (await skycap("plugins", "list", "--config", site.config, "--json")).json
    assert {plugin["name"]: plugin["error"] for plugin in plugins} == {
        **dict.fromkeys(("accounts", "bookings", "mails", "partners", "payments", "price-alerts")),
        **dict.fromkeys(("price-history", "price-retention", "price-sweep")),
        **dict.fromkeys(("housekeeping", "processing", "recommendations", "reports", "upkeep")),
        "broken": "ModuleNotFoundError: No module named 'nowhere_to_be_found'",
    }


async def test_the_configuration_is_shown_without_its_secrets() -> None:
    done = await skycap("config", "show", environ={"SKYCAP_REDIS_URL": "redis://user:geheim@localhost/0"})
    assert done.code == 0
    assert "localhost" in done.out
    assert "geheim" not in done.out


async def test_the_database_is_migrated_once(redis_url: str, database_url: str, tmp_path: Path) -> None:
    site = Site(folder=tmp_path, redis_url=redis_url, database_url=database_url)
    missing = await skycap("db", "migrate", "--check", "--config", site.config)
    assert (missing.code, missing.out.startswith("missing: 0001")) == (1, True)
    applied = await skycap("db", "migrate", "--config", site.config)
    assert (applied.code, applied.out.startswith("applied: 0001")) == (0, True)
    again = await skycap("db", "migrate", "--check", "--config", site.config)
    assert (again.code, again.out) == (0, "skycap's tables are up to date\n")


async def test_the_smallest_plugin_runs_on_embedded_servers(tmp_path: Path) -> None:
    """What plugins/README.md tells an author to type."""
    home = {"XDG_STATE_HOME": str(tmp_path)}
    config = tmp_path / "empty.toml"
    config.write_text('[http]\nbind = "127.0.0.1:0"\n')
    options = ("--config", str(config), "--embedded", "--plugins-dir", str(EXAMPLES))
    daemon = DaemonProcess(tmp_path / "daemon.log", *options, environ=home)
    async with daemon:
        greeted = await skycap(
            *("enqueue", "say-hello", "--payload", '{"name": "Ada"}', "--plugins-dir", EXAMPLES, "--json"), environ=home
        )
        assert greeted.code == 0, greeted.err

        async def answered() -> bool:
            shown = await skycap("jobs", "show", greeted.json["jobId"], "--json", environ=home)
            return bool(shown.json["result"] == "Hello, Ada!")

        await eventually(answered)
