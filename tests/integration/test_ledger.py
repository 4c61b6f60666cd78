"""MailLedger on a real PostgreSQL: who may send a mail, and who may not any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

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
    message_id_of,
    recipient_hash_of,
)
from skycap.services.migrations import migrate

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


async def first_date(ledger: MailLedger, intent: Intent = INTENT) -> datetime:
    answer = await ledger.begin(intent, on_unknown="resend")
    assert isinstance(answer, Proceed)
    return answer.date


def test_a_message_id_says_the_same_thing_of_the_same_key_wherever_it_is_made() -> None:
    assert INTENT.message_id == "<send-booking-confirmation.d3ty2dknpkbdg5vukvax6lryqrskihss@travel.example.com>"
    assert message_id_of("another", kind="k", domain="d") != message_id_of("one", kind="k", domain="d")


def test_a_recipients_hash_does_not_depend_on_how_the_address_is_written() -> None:
    assert recipient_hash_of(" Ada@Example.COM") == recipient_hash_of("ada@example.com")
    assert len(recipient_hash_of("ada@example.com")) == 64


async def test_a_new_mail_may_be_sent(ledger: MailLedger, database: DatabasePool) -> None:
    answer = await ledger.begin(INTENT, on_unknown="resend")
    assert isinstance(answer, Proceed)
    assert answer.message_id == INTENT.message_id
    assert abs(datetime.now(UTC) - answer.date) < timedelta(minutes=1)
    found = await row(database)
    assert found | {"created_at": 0, "updated_at": 0} == {
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


@pytest.mark.parametrize("state", ["sent", "suppressed"])
@pytest.mark.parametrize("who", [INTENT, NEXT_RUN, OTHER_JOB])
async def test_what_was_sent_or_must_not_be_is_not_sent(
    ledger: MailLedger, database: DatabasePool, state: str, who: Intent
) -> None:
    await first_date(ledger)
    await database.execute("UPDATE skycap.mail_ledger SET state = $1", state)
    before = await row(database)
    other_name = replace(who, message_id="<another@travel.example.com>")
    assert await ledger.begin(other_name, on_unknown="resend") == AlreadySent(message_id=INTENT.message_id)
    assert await row(database) == before


@pytest.mark.parametrize("state", ["intent", "sending", "deferred", "failed"])
async def test_the_next_run_of_the_job_takes_up_what_was_certainly_not_sent(
    ledger: MailLedger, database: DatabasePool, state: str
) -> None:
    date = await first_date(ledger)
    await database.execute("UPDATE skycap.mail_ledger SET state = $1", state)
    policies: tuple[OnUnknown, ...] = ("resend", "hold")
    for policy in policies:
        answer = await ledger.begin(NEXT_RUN, on_unknown=policy)
        assert answer == Proceed(message_id=INTENT.message_id, date=date)
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
    assert await ledger.begin(OTHER_JOB, on_unknown="resend") == Proceed(message_id=INTENT.message_id, date=date)
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
    assert await ledger.begin(NEXT_RUN, on_unknown="resend") == Proceed(message_id=INTENT.message_id, date=date)
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
