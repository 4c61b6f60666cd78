"""MailLedger on a real PostgreSQL: who may send a mail, and who may not any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

import asyncpg
import pytest

from skycap.context import OnUnknown
from skycap.errors import Unavailable
from skycap.services.database import DatabasePool
from skycap.services.ledger import (
    MOST_SENDS,
    AlreadySent,
    Held,
    Intent,
    LedgerLost,
    MailLedger,
    Proceed,
    Suppressed,
    message_id_of,
    recipient_hash_of,
)
from skycap.services.migrations import migrate
from skycap.services.verp import verp_sender, verp_token_of, verp_tokens_in

KEY = "booking-confirmation:BK-1"
INTENT = Intent(
    key=KEY,
    message_id=message_id_of(KEY, kind="send-booking-confirmation", domain="travel.example.com"),
    kind="send-booking-confirmation",
    job_id="job-1",
    claim=1,
    recipient_hash=recipient_hash_of("ada@example.com"),
    template="bookings/confirmation",
    locale="tr",
)
NEXT_RUN = replace(INTENT, claim=2)
OTHER_JOB = replace(INTENT, job_id="job-2")


@pytest.fixture
async def database(database_url: str) -> AsyncGenerator[DatabasePool]:
    pool = DatabasePool(dsn=database_url, prepare=migrate)
    yield pool
    await pool.close()


@pytest.fixture
def ledger(database: DatabasePool) -> MailLedger:
    return MailLedger(database)


async def row(database: DatabasePool) -> dict[str, Any]:
    (found,) = await database.fetch("SELECT * FROM skycap.mail_ledger")
    return found


async def age(database: DatabasePool, minutes: int) -> None:
    await database.execute(
        "UPDATE skycap.mail_ledger SET updated_at = updated_at - $1::interval", timedelta(minutes=minutes)
    )


async def first_meant(database: DatabasePool, *, ago: timedelta) -> None:
    """Let every mail have been first meant so long ago."""
    await database.execute(
        "UPDATE skycap.mail_ledger SET created_at = now() - $1::interval, trying_since = now() - $1::interval", ago
    )


async def suppress(database: DatabasePool, *, effective: bool = True, expires_in: timedelta | None = None) -> None:
    await database.execute(
        """
        INSERT INTO skycap.mail_suppressions (recipient_hash, reason, is_effective, expires_at)
        VALUES ($1, 'bounce', $2, now() + $3::interval)
        """,
        *(INTENT.recipient_hash, effective, expires_in),
    )


async def first_date(ledger: MailLedger, intent: Intent = INTENT) -> datetime:
    answer = await ledger.begin(intent, on_unknown="resend")
    assert isinstance(answer, Proceed)
    return answer.date


def same_mail(answer: object, date: datetime) -> bool:
    """Whether the first mail may be sent, under the name and date that it had."""
    return isinstance(answer, Proceed) and (answer.message_id, answer.date) == (INTENT.message_id, date)


def test_a_message_id_says_the_same_thing_of_the_same_key_wherever_it_is_made() -> None:
    assert INTENT.message_id == "<send-booking-confirmation.d3ty2dknpkbdg5vukvax6lryqrskihss@travel.example.com>"
    assert message_id_of("another", kind="k", domain="d") != message_id_of("one", kind="k", domain="d")


def test_a_recipients_hash_does_not_depend_on_how_the_address_is_written() -> None:
    assert recipient_hash_of(" Ada@Example.COM") == recipient_hash_of("ada@example.com")
    assert len(recipient_hash_of("ada@example.com")) == 64


async def test_a_new_mail_may_be_sent(ledger: MailLedger, database: DatabasePool) -> None:
    answer = await ledger.begin(replace(INTENT, verp_token="a2b3"), on_unknown="resend")
    assert isinstance(answer, Proceed)
    assert answer.message_id == INTENT.message_id
    assert abs(datetime.now(UTC) - answer.date) < timedelta(minutes=1)
    found = await row(database)
    assert answer.trying_since == answer.date
    assert found | {"created_at": 0, "updated_at": 0, "trying_since": 0} == {
        "key": KEY,
        "message_id": INTENT.message_id,
        "kind": "send-booking-confirmation",
        "job_id": "job-1",
        "claim": 1,
        "recipient_hash": recipient_hash_of("ada@example.com"),
        "template": "bookings/confirmation",
        "locale": "tr",
        "state": "sending",
        "sends": 0,
        "smtp_code": None,
        "smtp_text": None,
        "created_at": 0,
        "updated_at": 0,
        "generation": 1,
        "trying_since": 0,
        "verp_token": "a2b3",
        "bounced_at": None,
        "bounce_status": None,
        "complained_at": None,
        "note": None,
    }


async def test_beginning_is_one_round_trip(database_url: str) -> None:
    class Counting(DatabasePool):
        asked = 0

        async def fetchrow(self, query: str, *args: object) -> dict[str, Any] | None:
            self.asked += 1
            return await super().fetchrow(query, *args)

    database = Counting(dsn=database_url, prepare=migrate)
    await MailLedger(database).begin(INTENT, on_unknown="resend")
    await database.close()
    assert database.asked == 1


@pytest.mark.parametrize("who", [INTENT, NEXT_RUN, OTHER_JOB])
async def test_what_was_sent_is_not_sent(ledger: MailLedger, database: DatabasePool, who: Intent) -> None:
    await first_date(ledger)
    await database.execute("UPDATE skycap.mail_ledger SET state = 'sent'")
    before = await row(database)
    other_name = replace(who, message_id="<another@travel.example.com>")
    assert await ledger.begin(other_name, on_unknown="resend") == AlreadySent(message_id=INTENT.message_id)
    assert await row(database) == before


@pytest.mark.parametrize("state", ["intent", "sending", "deferred", "failed", "suppressed"])
async def test_the_next_run_of_the_job_takes_up_what_was_certainly_not_sent(
    ledger: MailLedger, database: DatabasePool, state: str
) -> None:
    date = await first_date(ledger)
    await database.execute("UPDATE skycap.mail_ledger SET state = $1", state)
    policies: tuple[OnUnknown, ...] = ("resend", "hold")
    for policy in policies:
        answer = await ledger.begin(NEXT_RUN, on_unknown=policy)
        assert same_mail(answer, date)
    found = await row(database)
    assert (found["state"], found["job_id"], found["claim"]) == ("sending", "job-1", 2)


@pytest.mark.parametrize("state", ["sending", "dot"])
async def test_another_job_keeps_away_from_a_mail_that_is_on_its_way(
    ledger: MailLedger, database: DatabasePool, state: str
) -> None:
    await first_date(ledger)
    await database.execute("UPDATE skycap.mail_ledger SET state = $1", state)
    await age(database, minutes=9)
    with pytest.raises(Unavailable, match=r"^mail: another job is sending the same mail$"):
        await ledger.begin(OTHER_JOB, on_unknown="resend")


@pytest.mark.parametrize("state", ["sending", "dot"])
async def test_another_job_takes_over_what_was_left_behind(
    ledger: MailLedger, database: DatabasePool, state: str
) -> None:
    date = await first_date(ledger)
    await database.execute("UPDATE skycap.mail_ledger SET state = $1", state)
    await age(database, minutes=11)
    assert same_mail(await ledger.begin(OTHER_JOB, on_unknown="resend"), date)
    with pytest.raises(LedgerLost):
        await ledger.dot(INTENT)


@pytest.mark.parametrize("state", ["deferred", "failed"])
async def test_another_job_need_not_wait_for_what_was_refused(
    ledger: MailLedger, database: DatabasePool, state: str
) -> None:
    date = await first_date(ledger)
    await database.execute("UPDATE skycap.mail_ledger SET state = $1", state)
    assert await first_date(ledger, OTHER_JOB) == date


async def test_of_two_jobs_at_once_one_sends(database: DatabasePool) -> None:
    ledger = MailLedger(database)
    await database.ping()
    answers = await asyncio.gather(
        *(ledger.begin(replace(INTENT, job_id=f"job-{n}"), on_unknown="resend") for n in range(10)),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, Proceed) for answer in answers) == 1
    assert sum(isinstance(answer, Unavailable) for answer in answers) == 9


async def test_a_dot_is_resent_with_the_same_name_and_date_or_held(ledger: MailLedger, database: DatabasePool) -> None:
    date = await first_date(ledger)
    await ledger.dot(INTENT)
    assert same_mail(await ledger.begin(NEXT_RUN, on_unknown="resend"), date)
    await ledger.dot(NEXT_RUN)
    assert await ledger.begin(replace(INTENT, claim=3), on_unknown="hold") == Held(message_id=INTENT.message_id)
    assert (await row(database))["state"] == "unknown"
    assert await ledger.begin(replace(INTENT, claim=4), on_unknown="hold") == Held(message_id=INTENT.message_id)
    assert await first_date(ledger, OTHER_JOB) == date, "another policy may send it"


async def test_a_run_that_dies_before_its_dot_does_not_hide_the_copy_of_an_earlier_one(ledger: MailLedger) -> None:
    await first_date(ledger)
    await ledger.dot(INTENT)
    await first_date(ledger, NEXT_RUN)
    assert await ledger.begin(replace(INTENT, claim=3), on_unknown="hold") == Held(message_id=INTENT.message_id)


async def test_resending_has_an_end(ledger: MailLedger, database: DatabasePool) -> None:
    for claim in range(1, MOST_SENDS + 1):
        run = replace(INTENT, claim=claim)
        await first_date(ledger, run)
        await ledger.dot(run)
    last = replace(INTENT, claim=MOST_SENDS + 1)
    assert await ledger.begin(last, on_unknown="resend") == Held(message_id=INTENT.message_id)
    await database.execute("UPDATE skycap.mail_ledger SET state = 'deferred'")
    assert isinstance(await ledger.begin(last, on_unknown="resend"), Proceed), "an admin may let it be sent again"


async def test_a_refusal_after_the_dot_is_no_copy(ledger: MailLedger, database: DatabasePool) -> None:
    for claim in range(1, MOST_SENDS + 3):
        run = replace(INTENT, claim=claim)
        await first_date(ledger, run)
        await ledger.dot(run)
        await ledger.deferred(run, code=451, text="4.7.1 greylisted")
    found = await row(database)
    assert (found["state"], found["sends"], found["smtp_code"], found["smtp_text"]) == (
        *("deferred", 0),
        *(451, "4.7.1 greylisted"),
    )


async def test_every_move_is_recorded(ledger: MailLedger, database: DatabasePool) -> None:
    await first_date(ledger)
    await ledger.dot(INTENT)
    assert (await row(database))["state"] == "dot"
    assert (await row(database))["sends"] == 1
    await ledger.sent(INTENT, code=250, text="2.0.0 queued as 1")
    found = await row(database)
    assert (found["state"], found["smtp_code"], found["smtp_text"]) == ("sent", 250, "2.0.0 queued as 1")
    assert found["updated_at"] > found["created_at"]


async def test_what_may_have_been_recorded_already_may_be_recorded_again(ledger: MailLedger) -> None:
    await first_date(ledger)
    await ledger.dot(INTENT)
    for _ in range(2):
        await ledger.sent(INTENT, code=250, text="")


async def test_a_run_whose_job_was_claimed_again_is_fenced_off(ledger: MailLedger) -> None:
    await first_date(ledger)
    await first_date(ledger, NEXT_RUN)
    moves = [
        ledger.dot(INTENT),
        ledger.sent(INTENT, code=250, text=""),
        ledger.deferred(INTENT, code=451, text=""),
        ledger.failed(INTENT, code=550, text=""),
        ledger.unknown(INTENT, text=""),
        ledger.begin(INTENT, on_unknown="resend"),
    ]
    for move in moves:
        with pytest.raises(LedgerLost):
            await move
    await ledger.dot(NEXT_RUN)


async def test_a_mail_that_an_admin_has_settled_is_left_alone(ledger: MailLedger, database: DatabasePool) -> None:
    await first_date(ledger)
    await database.execute("UPDATE skycap.mail_ledger SET state = 'suppressed'")
    with pytest.raises(LedgerLost):
        await ledger.dot(INTENT)


async def test_a_ledger_that_cannot_be_reached_is_unavailable() -> None:
    nowhere = DatabasePool(dsn="postgresql://somebody@127.0.0.1:1/travel")
    with pytest.raises(Unavailable, match=r"^database: "):
        await MailLedger(nowhere).begin(INTENT, on_unknown="resend")


async def test_a_daemon_that_was_started_before_goes_on_with_the_function_that_it_knows(database_url: str) -> None:
    """It has called it in the same session before: the type of the table's rows changes under its feet."""
    first, second = (
        files("skycap.services").joinpath("sql", name).read_text("utf-8")
        for name in ("0001_mail_ledger.sql", "0002_mail_trust.sql")
    )
    begin = (
        "SELECT verdict FROM skycap.mail_begin_v1($1, $2, 'kind', $3, 1, 'hash', 'template', 'tr', FALSE, 3, '10 min')"
    )
    old = await asyncpg.connect(database_url)
    await old.execute("CREATE SCHEMA skycap")
    await old.execute(first)
    assert await old.fetchval(begin, "one", "<one@x>", "job-1") == "proceed"
    await old.execute(second)
    assert await old.fetchval(begin, "two", "<two@x>", "job-1") == "proceed"
    assert await old.fetchval(begin, "one", "<one@x>", "job-2") == "busy"
    await old.close()


async def test_nothing_is_sent_to_who_is_on_the_list(ledger: MailLedger, database: DatabasePool) -> None:
    await suppress(database)
    for who in (INTENT, NEXT_RUN, OTHER_JOB):
        answer = await ledger.begin(who, on_unknown="resend")
        assert isinstance(answer, Suppressed)
        assert (answer.message_id, answer.reason) == (INTENT.message_id, "bounce")
        assert abs(datetime.now(UTC) - answer.since) < timedelta(minutes=1)
        assert (await row(database))["state"] == "suppressed"
        with pytest.raises(LedgerLost):
            await ledger.dot(who)


@pytest.mark.parametrize(
    "listed",
    [
        {"effective": False},
        {"expires_in": -timedelta(seconds=1)},
    ],
)
async def test_a_listing_that_is_not_confirmed_or_has_expired_stops_nothing(
    ledger: MailLedger, database: DatabasePool, listed: dict[str, Any]
) -> None:
    await suppress(database, **listed)
    assert isinstance(await ledger.begin(INTENT, on_unknown="resend"), Proceed)


async def test_who_is_taken_off_the_list_gets_the_mail_that_was_held_back(
    ledger: MailLedger, database: DatabasePool
) -> None:
    await suppress(database, expires_in=timedelta(days=30))
    await ledger.begin(INTENT, on_unknown="resend")
    date = (await row(database))["created_at"]
    await database.execute("DELETE FROM skycap.mail_suppressions")
    assert same_mail(await ledger.begin(NEXT_RUN, on_unknown="resend"), date)
    await ledger.dot(NEXT_RUN)


async def test_what_was_sent_stays_sent_when_its_recipient_comes_on_the_list(
    ledger: MailLedger, database: DatabasePool
) -> None:
    await first_date(ledger)
    await ledger.dot(INTENT)
    await ledger.sent(INTENT, code=250, text="")
    await suppress(database)
    assert await ledger.begin(NEXT_RUN, on_unknown="resend") == AlreadySent(message_id=INTENT.message_id)


@pytest.mark.parametrize("state", ["sent", "failed", "suppressed"])
async def test_what_ended_long_enough_ago_is_a_new_mail_to_another_job(
    ledger: MailLedger, database: DatabasePool, state: str
) -> None:
    first = await first_date(ledger)
    await ledger.dot(INTENT)
    await ledger.sent(INTENT, code=250, text="2.0.0 queued")
    await database.execute("UPDATE skycap.mail_ledger SET state = $1, bounced_at = now(), note = 'moved'", state)
    await first_meant(database, ago=timedelta(hours=25))
    answer = await ledger.begin(OTHER_JOB, on_unknown="hold", repeat_after=timedelta(hours=24))
    assert isinstance(answer, Proceed)
    assert answer.message_id == INTENT.message_id.replace("booking-confirmation.", "booking-confirmation.2.")
    assert answer.date == answer.trying_since >= first
    found = await row(database)
    names = ("generation", "state", "sends", "smtp_code", "smtp_text", "bounced_at", "note", "job_id")
    assert [found[name] for name in names] == [2, "sending", 0, None, None, None, None, "job-2"]


async def test_each_repetition_has_a_name_of_its_own(ledger: MailLedger, database: DatabasePool) -> None:
    names = set[str]()
    for number in range(11):
        answer = await ledger.begin(replace(INTENT, job_id=f"{number}"), on_unknown="hold", repeat_after=timedelta(0))
        assert isinstance(answer, Proceed)
        names.add(answer.message_id)
        await database.execute("UPDATE skycap.mail_ledger SET state = 'sent'")
    assert len(names) == 11
    assert (await row(database))["message_id"].startswith("<send-booking-confirmation.11.")


@pytest.mark.parametrize(
    ("repeat_after", "ago"),
    [
        (None, timedelta(days=1000)),
        (timedelta(hours=24), timedelta(hours=23)),
    ],
)
async def test_what_ended_is_not_repeated_before_its_time(
    ledger: MailLedger, database: DatabasePool, repeat_after: timedelta | None, ago: timedelta
) -> None:
    await first_date(ledger)
    await database.execute("UPDATE skycap.mail_ledger SET state = 'sent'")
    await first_meant(database, ago=ago)
    answer = await ledger.begin(OTHER_JOB, on_unknown="resend", repeat_after=repeat_after)
    assert answer == AlreadySent(message_id=INTENT.message_id)


async def test_a_job_does_not_repeat_its_own_mail_because_it_lost_the_news(
    ledger: MailLedger, database: DatabasePool
) -> None:
    await first_date(ledger)
    await database.execute("UPDATE skycap.mail_ledger SET state = 'sent'")
    await first_meant(database, ago=timedelta(hours=25))
    answer = await ledger.begin(NEXT_RUN, on_unknown="resend", repeat_after=timedelta(hours=24))
    assert answer == AlreadySent(message_id=INTENT.message_id)


async def test_what_has_not_ended_is_not_repeated(ledger: MailLedger, database: DatabasePool) -> None:
    date = await first_date(ledger)
    for state in ("sending", "dot"):
        await database.execute("UPDATE skycap.mail_ledger SET state = $1", state)
        with pytest.raises(Unavailable):
            await ledger.begin(OTHER_JOB, on_unknown="resend", repeat_after=timedelta(0))
    for state in ("unknown", "deferred"):
        await database.execute("UPDATE skycap.mail_ledger SET state = $1", state)
        assert same_mail(await ledger.begin(OTHER_JOB, on_unknown="resend", repeat_after=timedelta(0)), date)


async def test_of_two_jobs_that_repeat_at_once_one_sends(ledger: MailLedger, database: DatabasePool) -> None:
    await first_date(ledger)
    await database.execute("UPDATE skycap.mail_ledger SET state = 'sent'")
    await first_meant(database, ago=timedelta(hours=25))
    day = timedelta(hours=24)
    jobs = [replace(INTENT, job_id=f"job-{n}") for n in range(2, 12)]
    answers = await asyncio.gather(
        *(ledger.begin(job, on_unknown="resend", repeat_after=day) for job in jobs), return_exceptions=True
    )
    assert sum(isinstance(answer, Proceed) for answer in answers) == 1
    assert (await row(database))["generation"] == 2


async def tried_since(ledger: MailLedger, intent: Intent) -> timedelta:
    answer = await ledger.begin(intent, on_unknown="resend")
    assert isinstance(answer, Proceed)
    return datetime.now(UTC) - answer.trying_since


async def test_a_mail_that_is_put_off_ages_over_all_its_runs(ledger: MailLedger, database: DatabasePool) -> None:
    await first_date(ledger)
    await ledger.deferred(INTENT, code=451, text="4.7.1 greylisted")
    await first_meant(database, ago=timedelta(hours=25))
    for who in (NEXT_RUN, OTHER_JOB):
        assert await tried_since(ledger, who) > timedelta(hours=24)
        await ledger.deferred(who, code=451, text="4.7.1 greylisted")


@pytest.mark.parametrize(("state", "still_minutes"), [("failed", 0), ("suppressed", 0), ("deferred", 25 * 60)])
async def test_a_mail_that_was_given_up_is_tried_anew_under_its_first_date(
    ledger: MailLedger, database: DatabasePool, state: str, still_minutes: int
) -> None:
    await first_date(ledger)
    await database.execute("UPDATE skycap.mail_ledger SET state = $1", state)
    await first_meant(database, ago=timedelta(hours=25))
    await age(database, minutes=still_minutes)
    date = (await row(database))["created_at"]
    answer = await ledger.begin(NEXT_RUN, on_unknown="resend")
    assert isinstance(answer, Proceed)
    assert answer.date == date
    assert datetime.now(UTC) - answer.trying_since < timedelta(minutes=1)


SECRET = b"known to nobody"


def test_a_return_address_names_the_mail_and_its_recipient_to_who_has_the_ledger() -> None:
    token = verp_token_of(SECRET, KEY, INTENT.recipient_hash)
    assert verp_sender("bounces@mail.example.com", token) == f"bounces+{token}@mail.example.com"
    assert verp_tokens_in(f"To: <BOUNCES+{token.upper()}@Mail.Example.com>") == [token]
    others = [
        verp_token_of(b"another", KEY, INTENT.recipient_hash),
        verp_token_of(SECRET, "another", INTENT.recipient_hash),
        verp_token_of(SECRET, KEY, recipient_hash_of("ben@example.com")),
    ]
    assert len({token, *others}) == 4


async def test_a_mail_to_another_recipient_has_another_return_address(
    ledger: MailLedger, database: DatabasePool
) -> None:
    for token in ("one", "two"):
        await ledger.begin(replace(INTENT, verp_token=token), on_unknown="resend")
        assert (await row(database))["verp_token"] == token
