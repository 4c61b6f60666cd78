"""``skycap privacy``: all that is held about a person is found, and erased."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from skycap import AsyncClient, Payload
from skycap.engine.queue import Claim, Queue, Settlement
from skycap.job import JobState
from skycap.outcome import Completed, DeadReason, Discarded, Outcome
from skycap.services.database import DatabasePool
from skycap.services.ledger import Intent, MailLedger, recipient_hash_of
from skycap.services.migrations import migrate
from skycap.services.suppressions import Suppressions
from skycap.services.unsubscribe_links import find, remember
from tests.support.commands import command
from tests.support.daemons import Finished, Site
from tests.support.pipes import piped

ADA, BEN = "ada@example.com", "ben@example.com"
USER = "cl-ada"


class Note(Payload, kind="send-note"):
    about: Any = None


@pytest.fixture
async def site(redis_url: str, database_url: str, tmp_path: Path) -> Site:
    return Site(folder=tmp_path, redis_url=redis_url, database_url=database_url)


@pytest.fixture
async def database(database_url: str) -> AsyncGenerator[DatabasePool]:
    pool = DatabasePool(dsn=database_url, prepare=migrate)
    await pool.execute("CREATE TABLE users (id TEXT PRIMARY KEY, email TEXT NOT NULL)")
    await pool.execute("INSERT INTO users VALUES ($1, $2), ('cl-ben', $3)", USER, "Ada@Example.com", BEN)
    yield pool
    await pool.close()


@pytest.fixture
async def queue(redis_url: str) -> AsyncGenerator[Queue]:
    async with AsyncClient(redis_url) as client:
        yield client.queue("default")


@pytest.fixture
async def jobs(redis_url: str, queue: Queue) -> dict[str, str]:
    """One job of Ada's in every state, each naming her in another way, and two of others."""
    ways: dict[str, Any] = {
        "done": {"email": "ADA@EXAMPLE.COM"},
        "dead": {"html": "<p>Dear Ada &lt;ada@example.com&gt;</p>"},
        "running": {"users": [{"id": USER}]},
        "waiting": {"userId": USER},
    }
    ids: dict[str, str] = {}
    async with AsyncClient(redis_url) as client:

        async def enqueue(name: str, about: object, **options: Any) -> None:
            ids[name] = (await client.enqueue(Note(about=about), **options)).job_id

        for name in ("done", "dead", "running"):
            await enqueue(name, ways[name])
        done, dead, _ = await step(queue, slots=3)
        await settle(queue, done, Completed(result={"to": ADA}))
        await settle(queue, dead, Discarded(reason=DeadReason.PERMANENT, error="no"))
        await enqueue("waiting", ways["waiting"])
        await enqueue("later", {"bookingId": "BK-1"}, delay=timedelta(hours=1), tags=[f"user:{USER}"])
        await enqueue("of another", {"email": "not-ada@example.com", "user": f"{USER}-2"})
        await enqueue("of another domain", {"email": "ada@example.com.tr"})
    return ids


async def step(queue: Queue, *, slots: int) -> list[Claim]:
    taken = await queue.step([], slots=slots, worker="here", lease=timedelta(seconds=60), poison_after=3)
    return list(taken.claims)


async def settle(queue: Queue, claim: Claim, outcome: Outcome) -> None:
    settled = [Settlement(claim=claim, outcome=outcome)]
    await queue.step(settled, slots=0, worker="here", lease=timedelta(seconds=60), poison_after=3)


@pytest.fixture
async def mails(database: DatabasePool) -> None:
    """A mail to each, a link of each, and Ada on the list."""
    for address in (ADA, BEN):
        intent = Intent(
            key=f"welcome:{address[:3]}",
            message_id=f"<{address[:3]}@x>",
            kind="send-welcome-email",
            job_id="job-1",
            claim=1,
            recipient_hash=recipient_hash_of(address),
            template="users/welcome",
            locale="tr",
            verp_token=address[:3],
        )
        await MailLedger(database).begin(intent, on_unknown="resend")
        await MailLedger(database).failed(intent, code=550, text="5.7.1 not today")
    await remember(database, "token of ada", "travel", {"user": USER, "alert": "1"})
    await remember(database, "token of ben", "travel", {"user": "cl-ben", "alert": "2"})
    await Suppressions(database).complained(recipient_hash_of(ADA), message_id="<ada@x>", detail="abuse")


async def privacy(site: Site, *arguments: str) -> Finished:
    return await command("privacy", *arguments, "--config", site.config)


@pytest.mark.usefixtures("mails")
@pytest.mark.parametrize("who", [("--user", USER), ("--email", ADA), ("--user", USER, "--email", "Ada@example.com")])
async def test_all_that_is_held_about_a_person_is_exported(
    site: Site, jobs: dict[str, str], who: tuple[str, ...]
) -> None:
    done = await privacy(site, "export", *who)
    assert done.code == 0, done.err
    held = done.json
    assert held["person"] == {"userId": USER, "addresses": [held["person"]["addresses"][0]]}
    assert held["person"]["addresses"][0].lower() == ADA
    assert [mail["key"] for mail in held["mails"]] == ["welcome:ada"]
    assert [each["reason"] for each in held["suppressions"]] == ["complaint"]
    assert [link["who"] for link in held["unsubscribeLinks"]] == ['{"user": "cl-ada", "alert": "1"}']
    found = {job["id"]: job["payload"] for job in held["jobs"]}
    assert set(found) == {jobs[name] for name in ("done", "dead", "running", "waiting", "later")}
    assert found[jobs["waiting"]] == {"about": {"userId": USER}}


@pytest.mark.usefixtures("mails", "jobs")
async def test_an_address_is_read_from_standard_input(site: Site) -> None:
    done = await piped(f"{ADA}\n", "privacy", "export", "--email", "-", "--config", site.config)
    assert done.code == 0
    assert done.json["person"]["userId"] == USER


@pytest.mark.usefixtures("mails")
async def test_nothing_is_erased_without_a_yes(site: Site, database: DatabasePool, jobs: dict[str, str]) -> None:
    before = (await privacy(site, "export", "--user", USER)).json
    done = await privacy(site, "erase", "--user", USER)
    assert done.code == 0
    assert done.out.splitlines() == [
        "nothing was changed yet; with --yes:",
        "jobs deleted: 2 that had ended, 2 that waited",
        "unsubscribe links deleted: 1",
        "mails of which a hash and the outcome stay: 1",
        "suppression: kept, since it keeps mails from them (--suppressions deletes it)",
    ]
    assert jobs["running"] in done.err
    assert (await privacy(site, "export", "--user", USER)).json == before
    assert await find(database, "token of ada") is not None


@pytest.mark.usefixtures("mails")
async def test_what_is_held_about_a_person_is_erased_but_for_what_runs(
    site: Site, database: DatabasePool, queue: Queue, jobs: dict[str, str]
) -> None:
    done = await privacy(site, "erase", "--user", USER, "--yes")
    assert done.code == 1, "a job runs that names her"
    assert done.err.splitlines() == [
        f"job {jobs['running']} in queue default is running: erase again when it has ended"
    ]
    left = [name for name, job_id in jobs.items() if await queue.get(job_id) is not None]
    assert left == ["running", "of another", "of another domain"]
    assert await queue.link.command("ZCARD", queue.keys.done) == 0
    assert await find(database, "token of ada") is None
    assert await find(database, "token of ben") is not None
    rows = await database.fetch("SELECT key, state, smtp_code, smtp_text, locale FROM skycap.mail_ledger ORDER BY key")
    assert rows == [
        {"key": "welcome:ada", "state": "failed", "smtp_code": 550, "smtp_text": None, "locale": None},
        {"key": "welcome:ben", "state": "failed", "smtp_code": 550, "smtp_text": "5.7.1 not today", "locale": "tr"},
    ]
    assert await Suppressions(database).find(recipient_hash_of(ADA)) is not None
    assert await database.fetchval("SELECT count(*) FROM users") == 2, "the backend's table is not ours"


@pytest.mark.usefixtures("mails", "jobs")
async def test_the_suppression_is_erased_on_demand_and_the_rest_when_it_has_ended(
    site: Site, database: DatabasePool, queue: Queue, jobs: dict[str, str]
) -> None:
    await privacy(site, "erase", "--user", USER, "--yes")
    await queue.cancel(jobs["running"])
    (running,) = [job for job in await queue.jobs(JobState.RUNNING) if job.id == jobs["running"]]
    assert running.worker == "here"
    await queue.link.command("ZADD", queue.keys.run, 0, running.id)  # its lease has run out
    await step(queue, slots=0)
    done = await privacy(site, "erase", "--email", ADA, "--suppressions", "--yes")
    assert done.code == 0, done.err
    assert await Suppressions(database).find(recipient_hash_of(ADA)) is None
    held = (await privacy(site, "export", "--user", USER)).json
    assert (held["jobs"], held["suppressions"], held["unsubscribeLinks"]) == ([], [], [])


@pytest.mark.usefixtures("jobs")
async def test_without_the_backends_table_an_address_has_to_be_given(site: Site, database: DatabasePool) -> None:
    await database.execute("DROP TABLE users")
    done = await privacy(site, "export", "--user", USER)
    assert done.code == 0
    assert "give --email, too" in done.err
    assert len(done.json["jobs"]) == 3


@pytest.mark.usefixtures("jobs")
async def test_without_a_database_jobs_are_all_that_is_held(site: Site) -> None:
    site.database_url = None
    done = await privacy(site, "export", "--email", ADA)
    assert done.code == 0, done.err
    assert (len(done.json["jobs"]), done.json["mails"]) == (2, [])


async def test_nobody_is_a_usage_error(site: Site) -> None:
    for verb in ("export", "erase"):
        done = await privacy(site, verb)
        assert done.code == 64
        assert "say who it is" in done.err
