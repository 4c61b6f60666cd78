"""``skycap mail``: the admin's commands on what the ledger keeps, and the pipe that bounces come through."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from skycap import AsyncClient, Payload
from skycap.engine.queue import Settlement
from skycap.job import JobState
from skycap.outcome import Completed, DeadReason, Discarded
from skycap.services.database import DatabasePool
from skycap.services.ledger import Intent, MailLedger, Suppressed, message_id_of, recipient_hash_of
from skycap.services.migrations import migrate
from skycap.services.suppressions import Suppressions
from tests.support.commands import command
from tests.support.daemons import Finished, Site
from tests.support.pipes import piped

ADA = "ada.lovelace@example.net"
TOKEN = "abcdefghij234567abcd"
BOUNCES = Path(__file__).resolve().parents[1] / "unit" / "bounces"
KEY = "booking-confirmation:BK-1"
INTENT = Intent(
    key=KEY,
    message_id=message_id_of(KEY, kind="send-booking-confirmation", domain="travel.example.com"),
    kind="send-booking-confirmation",
    job_id="job-1",
    claim=1,
    recipient_hash=recipient_hash_of(ADA),
    template="bookings/confirmation",
    locale="tr",
    verp_token=TOKEN,
)


class Confirmation(Payload, kind="send-booking-confirmation"):
    booking_id: str = "BK-1"


@pytest.fixture
def site(redis_url: str, database_url: str, tmp_path: Path) -> Site:
    return Site(folder=tmp_path, redis_url=redis_url, database_url=database_url)


@pytest.fixture
async def database(database_url: str) -> AsyncGenerator[DatabasePool]:
    pool = DatabasePool(dsn=database_url, prepare=migrate)
    await pool.ping()
    yield pool
    await pool.close()


@pytest.fixture
async def client(redis_url: str) -> AsyncGenerator[AsyncClient]:
    async with AsyncClient(redis_url) as client:
        yield client


async def mail(site: Site, *arguments: str) -> Finished:
    return await command("mail", *arguments, "--config", site.config)


async def listed(site: Site, *options: str) -> list[str]:
    done = await command("mail", "ledger", *options, "--json", "--config", site.config)
    assert done.code == 0, done.err
    return [entry["key"] for entry in done.json]


async def sent(database: DatabasePool, intent: Intent = INTENT, *, state: str = "sent", minutes_ago: int = 0) -> None:
    """A mail that went all the way, and is in ``state`` by now."""
    ledger = MailLedger(database)
    await ledger.begin(intent, on_unknown="resend")
    await ledger.dot(intent)
    await ledger.sent(intent, code=250, text="2.0.0 queued")
    await database.execute(
        "UPDATE skycap.mail_ledger SET state = $2, updated_at = now() - $3::interval WHERE key = $1",
        *(intent.key, state, timedelta(minutes=minutes_ago)),
    )


async def row(database: DatabasePool) -> dict[str, Any]:
    (found,) = await database.fetch("SELECT * FROM skycap.mail_ledger")
    return found


async def buried(client: AsyncClient) -> str:
    """The id of a dead letter, whose mail the ledger knows."""
    queue = client.queue("default")
    job_id = await client.enqueue(Confirmation())
    step = await queue.step([], slots=1, worker="here", lease=timedelta(seconds=30), poison_after=3)
    outcome = Discarded(reason=DeadReason.PERMANENT, error="may have arrived")
    settled = [Settlement(claim=step.claims[0], outcome=outcome)]
    await queue.step(settled, slots=0, worker="here", lease=timedelta(seconds=30), poison_after=3)
    return job_id.job_id


async def test_the_list_shows_what_needs_an_admin(site: Site, database: DatabasePool) -> None:
    states = [
        ("unknown", 9999),
        ("dot", 11),
        ("dot", 9),
        ("failed", 60),
        ("failed", 1441),
        ("sent", 0),
        ("deferred", 0),
    ]
    for number, (state, minutes) in enumerate(states):
        intent = replace(INTENT, key=f"{state}-{minutes}", message_id=f"<{number}@x>", verp_token=None)
        await sent(database, intent, state=state, minutes_ago=minutes)
    assert await listed(site) == ["dot-11", "failed-60", "unknown-9999"]
    assert await listed(site, "--state", "sent") == ["sent-0"]
    assert await listed(site, "--key", "dot") == ["dot-9", "dot-11"]
    assert await listed(site, "--key", "<5@x>") == ["sent-0"]
    assert set(await listed(site, "--since", "15m")) == {"dot-11", "dot-9", "sent-0", "deferred-0"}
    assert len(await listed(site, "--recipient", ADA)) == 7
    assert await listed(site, "--recipient", "ben@example.com") == []
    assert len(await listed(site, "--recipient", ADA, "--limit", "2")) == 2


async def test_the_list_reads_an_address_from_standard_input_and_shows_none(site: Site, database: DatabasePool) -> None:
    await sent(database, state="unknown")
    done = await piped(f" {ADA.upper()}\n", "mail", "ledger", "--recipient", "-", "--config", site.config)
    assert done.code == 0
    assert "unknown" in done.out
    assert KEY in done.out
    assert recipient_hash_of(ADA)[:12] in done.out
    assert "lovelace" not in done.out.lower()


async def test_what_is_no_address_is_not_repeated(site: Site) -> None:
    done = await mail(site, "suppressions", "add", "ada.lovelace")
    assert done.code == 64
    assert "no mail address" in done.err
    assert "lovelace" not in done.err


@pytest.mark.parametrize(
    ("state", "minutes"),
    [("unknown", 0), ("failed", 0), ("deferred", 0), ("suppressed", 0), ("dot", 11), ("sending", 11)],
)
async def test_a_mail_that_is_resent_is_as_one_that_was_put_off(
    site: Site, database: DatabasePool, state: str, minutes: int
) -> None:
    await sent(database, state=state, minutes_ago=minutes)
    done = await mail(site, "ledger", "resend", KEY)
    assert done.code == 0, done.err
    assert "its job job-1 is gone" in done.out
    found = await row(database)
    assert (found["state"], found["note"]) == ("deferred", "to be sent again: an admin's word")


@pytest.mark.parametrize(
    ("state", "why"), [("sent", "was sent at"), ("sending", "a job is at it"), ("dot", "a job is at it")]
)
async def test_a_mail_is_not_resent_that_was_sent_or_is_on_its_way(
    site: Site, database: DatabasePool, state: str, why: str
) -> None:
    await sent(database, state=state)
    before = await row(database)
    done = await mail(site, "ledger", "resend", KEY)
    assert (done.code, done.out) == (1, "")
    assert why in done.err
    assert await row(database) == before


async def test_a_mail_is_not_resent_to_who_is_on_the_list(site: Site, database: DatabasePool) -> None:
    await sent(database, state="suppressed")
    await Suppressions(database).add(INTENT.recipient_hash)
    done = await mail(site, "ledger", "resend", KEY)
    assert done.code == 1
    assert "suppressed recipient (manual)" in done.err


async def test_the_dead_letter_of_a_mail_that_is_resent_starts_over(
    site: Site, database: DatabasePool, client: AsyncClient
) -> None:
    job_id = await buried(client)
    await sent(database, replace(INTENT, job_id=job_id), state="unknown")
    done = await mail(site, "ledger", "resend", INTENT.message_id.strip("<>"))
    assert done.code == 0, done.err
    assert f"its job {job_id} starts over" in done.out
    job = await client.queue("default").get(job_id)
    assert job is not None
    assert job.state is JobState.AVAILABLE
    again = await mail(site, "ledger", "resend", INTENT.message_id)
    assert f"its job {job_id} is available, and sends it" in again.out


async def test_a_job_that_has_ended_well_does_not_start_over(
    site: Site, database: DatabasePool, client: AsyncClient
) -> None:
    queue = client.queue("default")
    enqueued = await client.enqueue(Confirmation())
    step = await queue.step([], slots=1, worker="here", lease=timedelta(seconds=30), poison_after=3)
    settled = [Settlement(claim=step.claims[0], outcome=Completed(result=None))]
    await queue.step(settled, slots=0, worker="here", lease=timedelta(seconds=30), poison_after=3)
    await sent(database, replace(INTENT, job_id=enqueued.job_id), state="failed")
    done = await mail(site, "ledger", "resend", KEY)
    assert "is completed and does not start over: enqueue it anew" in done.out


@pytest.mark.parametrize(("state", "minutes"), [("unknown", 0), ("dot", 11)])
async def test_a_mail_in_doubt_is_marked_as_sent(site: Site, database: DatabasePool, state: str, minutes: int) -> None:
    await sent(database, state=state, minutes_ago=minutes)
    done = await mail(site, "ledger", "mark-sent", KEY)
    assert done.code == 0, done.err
    assert "skycap dead redrive job-1" in done.out
    found = await row(database)
    assert (found["state"], found["note"]) == ("sent", "marked as sent by an admin")


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ("sent", "is marked as sent already"),
        ("dot", "will find out"),
        ("sending", "will find out"),
        ("deferred", "certainly not taken it"),
        ("failed", "certainly not taken it"),
        ("suppressed", "certainly not taken it"),
    ],
)
async def test_a_mail_that_is_not_in_doubt_is_not_marked(
    site: Site, database: DatabasePool, state: str, why: str
) -> None:
    await sent(database, state=state)
    before = await row(database)
    done = await mail(site, "ledger", "mark-sent", KEY)
    assert done.code == 1
    assert why in done.err
    assert await row(database) == before


async def test_an_unknown_mail_is_a_usage_error(site: Site, database: DatabasePool) -> None:
    await database.ping()
    for verb in ("resend", "mark-sent"):
        done = await mail(site, "ledger", verb, "nothing")
        assert done.code == 64
        assert "the ledger has no mail of this key" in done.err


async def test_a_database_without_the_tables_says_what_to_do(site: Site) -> None:
    done = await mail(site, "ledger")
    assert done.code == 78
    assert "0002_mail_trust.sql" in done.err
    assert "skycap db migrate" in done.err


async def test_who_gets_no_mail_is_listed_added_and_removed(site: Site, database: DatabasePool) -> None:
    added = await piped(
        f"{ADA}\n", "mail", "suppressions", "add", "-", "--note", f"{ADA} called", "--config", site.config
    )
    assert added.code == 0
    done = await mail(site, "suppressions", "list", "--json")
    (entry,) = done.json
    assert (entry["recipientHash"], entry["reason"], entry["expiresAt"]) == (INTENT.recipient_hash, "manual", None)
    table = await mail(site, "suppressions", "list")
    assert "for ever" in table.out
    assert "lovelace" not in (added.out + done.out + table.out).lower()
    assert isinstance(await MailLedger(database).begin(INTENT, on_unknown="resend"), Suppressed)
    assert (await mail(site, "suppressions", "list", "--recipient", "ben@example.com", "--json")).json == []
    removed = await mail(site, "suppressions", "remove", ADA)
    assert removed.code == 0
    again = await mail(site, "suppressions", "remove", ADA)
    assert again.code == 1
    assert "is not on the list" in again.err


async def test_a_refusal_that_waits_for_a_second_is_shown_on_demand(site: Site, database: DatabasePool) -> None:
    await Suppressions(database).refused(INTENT.recipient_hash, message_id="<1@x>", detail="5.1.1")
    assert (await mail(site, "suppressions", "list", "--json")).json == []
    assert "(refused)" in (await mail(site, "suppressions", "list", "--all")).out


async def bounce(site: Site, name: str, *options: str) -> Finished:
    raw = BOUNCES.joinpath(f"{name}.eml").read_bytes()
    done = await piped(raw, "mail", "bounce", *options, "--config", site.config)
    assert "lovelace" not in (done.out + done.err).lower()
    return done


async def test_a_bounce_is_noted_and_its_recipient_suppressed(site: Site, database: DatabasePool) -> None:
    await sent(database)
    for _ in range(2):
        done = await bounce(site, "postfix-unknown-user")
        assert (done.code, done.out) == (0, f"suppressed: failed 5.1.1, mail {INTENT.message_id}\n")
    found = await row(database)
    assert (found["state"], found["bounce_status"], found["complained_at"]) == ("sent", "5.1.1", None)
    assert found["bounced_at"] is not None
    assert "User unknown" in found["note"]
    assert "lovelace" not in found["note"]
    entry = await Suppressions(database).find(INTENT.recipient_hash)
    assert entry is not None
    assert (entry.reason, entry.is_listed, entry.count) == ("bounce", True, 1)


@pytest.mark.parametrize("name", ["postfix-delayed", "gmail-mailbox-full", "gmail-policy", "expired", "exim-warning"])
async def test_what_does_not_blame_the_address_is_only_noted(site: Site, database: DatabasePool, name: str) -> None:
    await sent(database)
    done = await bounce(site, name)
    assert done.code == 0
    assert done.out.startswith("noted: ")
    found = await row(database)
    assert found["note"]
    assert (found["bounced_at"] is None) == (name in {"postfix-delayed", "exim-warning"})
    assert await Suppressions(database).find(INTENT.recipient_hash) is None


async def test_a_complaint_suppresses_for_ever(site: Site, database: DatabasePool) -> None:
    await sent(database)
    done = await bounce(site, "complaint")
    assert done.out.startswith("suppressed: complaint")
    found = await row(database)
    assert found["complained_at"] is not None
    assert found["bounced_at"] is None
    entry = await Suppressions(database).find(INTENT.recipient_hash)
    assert entry is not None
    assert (entry.reason, entry.expires_at) == ("complaint", None)


async def test_a_bounce_in_words_without_a_code_needs_a_second(site: Site, database: DatabasePool) -> None:
    await sent(database)
    done = await bounce(site, "exim-unrouteable")
    assert done.out.startswith("counted: failed")
    second = replace(INTENT, key="second", message_id="<second@x>", verp_token="zzzzzzzzzz234567zzzz")
    await sent(database, second)
    done = await bounce(site, "exim-unrouteable", "--recipient", "bounces+ZZZZZZZZZZ234567ZZZZ@mail.example.com")
    assert done.out == "suppressed: failed, mail <second@x>\n"


@pytest.mark.parametrize(
    ("mail_settings", "effect"),
    [({}, "suppressed"), ({"bounce_address": "bounces@mail.example.com"}, "counted")],
)
async def test_a_message_id_alone_is_believed_where_there_are_no_return_addresses(
    site: Site, database: DatabasePool, mail_settings: dict[str, str], effect: str
) -> None:
    """Whoever knows a booking's number could make up its Message-ID."""
    site.extra["mail"] = mail_settings
    await sent(database, replace(INTENT, verp_token=None))
    done = await bounce(site, "exchange-unknown-user")
    assert done.out == f"{effect}: failed 5.1.10, mail {INTENT.message_id}\n"
    assert (await row(database))["bounce_status"] == "5.1.10"


@pytest.mark.parametrize("name", ["out-of-office", "read-receipt", "not-spam", "postfix-relayed"])
async def test_what_is_no_bounce_is_ignored(site: Site, database: DatabasePool, name: str) -> None:
    await sent(database)
    before = await row(database)
    done = await bounce(site, name)
    assert (done.code, done.out) == (0, "ignored: neither a bounce nor a complaint\n")
    assert await row(database) == before


async def test_a_bounce_of_somebody_elses_mail_is_a_warning_and_no_error(site: Site, database: DatabasePool) -> None:
    await sent(database)
    before = await row(database)
    for name in ("stranger", "complaint", "qmail"):
        if name != "stranger":
            await database.execute("UPDATE skycap.mail_ledger SET verp_token = NULL, message_id = '<another@x>'")
            before = await row(database)
        done = await bounce(site, name)
        assert (done.code, done.out) == (0, "")
        assert done.err.startswith("warning: ")
        assert await row(database) == before


async def test_what_cannot_be_taken_in_now_is_tried_again_by_the_mail_server(site: Site) -> None:
    without_tables = await bounce(site, "postfix-unknown-user")
    assert without_tables.code == 75
    assert "skycap db migrate" in without_tables.err
    site.database_url = "postgresql://somebody@127.0.0.1:1/travel"
    unreachable = await bounce(site, "postfix-unknown-user")
    assert unreachable.code == 75
    assert unreachable.err.startswith("skycap: database: ")
    site.database_url = None
    assert (await bounce(site, "postfix-unknown-user")).code == 75


async def test_a_huge_bounce_is_taken_from_the_pipe_whole(site: Site, database: DatabasePool) -> None:
    await sent(database)
    raw = BOUNCES.joinpath("postfix-unknown-user.eml").read_bytes() + b"a" * 3_000_000
    done = await piped(raw, "mail", "bounce", "--config", site.config)
    assert (done.code, done.out.partition(":")[0]) == (0, "suppressed")


async def test_the_group_lists_its_verbs_without_importing_them() -> None:
    done = await command("mail", "--help")
    assert done.code == 0
    for verb in ("preview", "ledger", "bounce", "suppressions"):
        assert verb in done.out
