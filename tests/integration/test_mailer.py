"""MailService with a real ledger and a real mail server: each meaning once, whatever breaks in between."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from skycap.context import Attachment, Mailer, OnUnknown, RunningJob
from skycap.demo.mailbox import Break, Mailbox, Phase
from skycap.errors import (
    ConfigurationError,
    MailRefused,
    MailSuppressed,
    PermanentError,
    QueueStopped,
    Snooze,
    TemplateFailed,
    Unavailable,
)
from skycap.services import mailer as mailer_module
from skycap.services.composer import Composer, Letterhead
from skycap.services.database import DatabasePool
from skycap.services.ledger import LedgerLost, MailLedger, recipient_hash_of
from skycap.services.mailer import MailService, Sending
from skycap.services.message import RenderedMail
from skycap.services.migrations import migrate
from skycap.services.return_path import ReturnPath
from skycap.services.secrets import MailSecret
from skycap.services.smtp import SmtpPool
from skycap.services.suppressions import Suppressions
from tests.support.servers import PASSWORD, USERNAME, LineServer, ms, pool_to
from tests.support.workers import eventually

ADA, BEN = "ada.lovelace@example.com", "ben@example.com"
PATIENCE = timedelta(seconds=5)
TEMPLATE, KEY = "bookings/confirmation", "booking-confirmation:BK-1"

SEND_FROM_ANOTHER_PROCESS = """
import asyncio, sys
from datetime import timedelta
from pathlib import Path

from skycap.services.database import DatabasePool
from skycap.services.ledger import MailLedger
from skycap.services.mailer import MailService
from skycap.services.smtp import SmtpPool
from tests.integration.test_mailer import ADA, KEY, TEMPLATE, composer, running
from tests.support.servers import PASSWORD, USERNAME

database_url, port, ca_file = sys.argv[1:]
service = MailService(
    composer=composer(),
    ledger=MailLedger(DatabasePool(dsn=database_url)),
    smtp=SmtpPool(host="127.0.0.1", port=int(port), username=USERNAME, password=PASSWORD, ca_file=Path(ca_file)),
)
asyncio.run(service.for_job(running("job-1"), 1, "bookings").send(ADA, TEMPLATE, key=KEY, name="Ada"))
"""


class Templates:
    """Two words are a template, too."""

    def render(self, template: str, *, locale: str | None, variables: Mapping[str, object]) -> RenderedMail:
        if "name" not in variables:
            raise TemplateFailed(f"{template}: 'name' is undefined")
        text = f"Hello {variables['name']}"
        return RenderedMail(subject=text, text=f"{text}\n", html=f"<p>{text}</p>\n", locale=locale or "en")


@dataclass(kw_only=True)
class Office:
    """A mail service, what it relies on, and the jobs that use it."""

    service: MailService
    server: Mailbox | LineServer
    database: DatabasePool

    @property
    def mailbox(self) -> Mailbox:
        assert isinstance(self.server, Mailbox)
        return self.server

    async def send(
        self,
        to: str = ADA,
        *,
        job: str = "job-1",
        claim: int = 1,
        key: str | None = KEY,
        locale: str | None = None,
        on_unknown: OnUnknown = "resend",
        name: str = "Ada",
        **options: Any,
    ) -> str:
        return await self.mailer(job, claim).send(
            to, TEMPLATE, key=key, locale=locale, on_unknown=on_unknown, name=name, **options
        )

    def mailer(self, job: str = "job-1", claim: int = 1) -> Mailer:
        return self.service.for_job(running(job), claim, "bookings")

    async def row(self) -> dict[str, Any]:
        (found,) = await self.database.fetch("SELECT * FROM skycap.mail_ledger")
        return found

    def sent(self) -> list[EmailMessage]:
        contents = [mail.file.read_bytes() for mail in self.mailbox.received]
        return [message_from_bytes(content, policy=policy.default) for content in contents]


def running(job_id: str) -> RunningJob:
    return RunningJob(
        id=job_id,
        kind="send-booking-confirmation",
        queue="email",
        attempt=1,
        max_attempts=3,
        enqueued_at=datetime.now(UTC),
    )


def composer(before_send: Callable[[EmailMessage], Awaitable[None]] | None = None) -> Composer:
    letterhead = Letterhead(
        sender="skycap travel <bookings@travel.example.com>", unsubscribe_mailbox="support@travel.example.com"
    )
    return Composer(Templates(), letterhead, before_send=before_send)


@pytest.fixture
async def mailbox(tmp_path: Path) -> AsyncGenerator[Mailbox]:
    async with Mailbox(tmp_path, username=USERNAME, password=PASSWORD) as mailbox:
        yield mailbox


@asynccontextmanager
async def opened(
    server: Mailbox | LineServer,
    database: DatabasePool,
    *,
    data_timeout: timedelta = PATIENCE,
    before_send: Callable[[EmailMessage], Awaitable[None]] | None = None,
    **parts: Any,
) -> AsyncGenerator[Office]:
    async with pool_to(server, data_timeout=data_timeout) as smtp:
        service = MailService(composer=composer(before_send), ledger=MailLedger(database), smtp=smtp, **parts)
        yield Office(service=service, server=server, database=database)
    await database.close()


@pytest.fixture
async def office(mailbox: Mailbox, database_url: str) -> AsyncGenerator[Office]:
    async with opened(mailbox, DatabasePool(dsn=database_url, prepare=migrate), data_timeout=ms(300)) as office:
        yield office


def when(phase: Phase, reply: str | Break) -> Callable[[Phase, str], str | Break | None]:
    return lambda asked, _: reply if asked == phase else None


# One mail


async def test_a_mail_arrives_and_the_ledger_and_the_log_know(office: Office) -> None:
    with capture_logs() as logs:
        message_id = await office.send(locale="tr")
    (mail,) = office.sent()
    assert mail["Message-ID"] == message_id
    assert re.fullmatch(r"<send-booking-confirmation\.[a-z2-7]{32}@travel\.example\.com>", message_id)
    assert mail["From"] == "skycap travel <bookings@travel.example.com>"
    assert mail["To"] == ADA
    assert mail["Subject"] == "Hello Ada"
    row = await office.row()
    assert (row["key"], row["state"], row["sends"]) == (KEY, "sent", 1)
    assert (row["smtp_code"], row["smtp_text"]) == (250, "2.0.0 queued as 1")
    assert (row["job_id"], row["kind"]) == ("job-1", "send-booking-confirmation")
    assert (row["template"], row["locale"], row["recipient_hash"]) == (TEMPLATE, "tr", recipient_hash_of(ADA))
    (line,) = logs
    assert line == {
        "event": "mail sent",
        "log_level": "info",
        "template": TEMPLATE,
        "message_id": message_id,
        "smtp_code": 250,
        "duration_ms": line["duration_ms"],
        "job": "job-1",
        "plugin": "bookings",
    }


async def test_the_same_meaning_is_sent_once_whoever_asks(office: Office) -> None:
    first = await office.send()
    assert await office.send() == first
    assert await office.send(claim=2) == first
    assert await office.send(job="job-2", to=BEN) == first
    assert len(office.mailbox.received) == 1


async def test_without_a_key_it_means_this_job_this_template_and_this_recipient(office: Office) -> None:
    first = await office.send(key=None)
    assert await office.send(key=None, claim=2) == first
    assert await office.send(key=None, to=BEN) != first
    assert await office.send(key=None, job="job-2") != first
    assert [mail.recipient for mail in office.mailbox.received] == [ADA, BEN, ADA]


async def test_an_address_in_a_key_is_not_kept(office: Office) -> None:
    first = await office.send(key=f"welcome:{ADA}")
    assert await office.send(key=f"welcome:{ADA.upper()}") == first
    row = await office.row()
    assert row["key"] == f"welcome:{recipient_hash_of(ADA)[:32]}"
    assert "lovelace" not in str(row)


async def test_two_sends_at_once_in_one_daemon_are_one_mail(office: Office) -> None:
    ids = await asyncio.gather(*(office.send(job=f"job-{n}") for n in range(5)))
    assert len(set(ids)) == 1
    assert len(office.mailbox.received) == 1


async def test_two_daemons_at_once_send_one_mail(office: Office, database_url: str) -> None:
    await office.database.ping()
    async with opened(office.mailbox, DatabasePool(dsn=database_url)) as other:
        results = await asyncio.gather(office.send(), other.send(job="job-2"), return_exceptions=True)
        assert len(office.mailbox.received) == 1
        assert sum(isinstance(result, Unavailable | str) for result in results) == 2
        assert await office.send() == await other.send(job="job-2")
    assert len(office.mailbox.received) == 1


async def test_a_hook_may_add_headers(mailbox: Mailbox, database_url: str) -> None:
    async def add(message: EmailMessage) -> None:
        message["X-Campaign"] = "spring"

    async with opened(mailbox, DatabasePool(dsn=database_url, prepare=migrate), before_send=add) as office:
        await office.send()
        assert office.sent()[0]["X-Campaign"] == "spring"


@pytest.mark.parametrize("sender", ["", "skycap", "bookings@", "ayşe@example.com"])
async def test_a_sender_that_is_no_address_is_a_matter_of_configuration(sender: str) -> None:
    smtp = SmtpPool(host="127.0.0.1", port=1)
    ledger = MailLedger(DatabasePool(dsn=""))
    with pytest.raises(ConfigurationError, match="is no mail address"):
        MailService(composer=Composer(Templates(), Letterhead(sender=sender)), ledger=ledger, smtp=smtp)


# What goes wrong before the dot


async def test_a_template_error_touches_nothing(office: Office) -> None:
    await office.database.ping()
    mailer = office.service.for_job(running("job-1"), 1, "bookings")
    with pytest.raises(TemplateFailed):
        await mailer.send(ADA, TEMPLATE, key=KEY)
    assert await office.database.fetch("SELECT * FROM skycap.mail_ledger") == []
    assert office.mailbox.connections == 0


async def test_without_its_ledger_no_mail_is_sent(mailbox: Mailbox) -> None:
    nowhere = DatabasePool(dsn="postgresql://somebody@127.0.0.1:1/travel")
    async with opened(mailbox, nowhere) as office:
        with pytest.raises(Unavailable, match=r"^database: "):
            await office.send()
    assert mailbox.connections == 0


async def test_a_ledger_that_is_gone_before_the_dot_stops_the_mail(mailbox: Mailbox, database_url: str) -> None:
    database = Flaky(dsn=database_url, prepare=migrate)
    async with opened(mailbox, database) as office:
        database.fails_on("dot", times=1)
        with pytest.raises(Unavailable, match=r"^database: gone$"):
            await office.send()
        assert mailbox.received == []
        assert (await office.row())["state"] == "sending"
        await office.send(claim=2)
        assert len(mailbox.received) == 1


async def test_a_run_that_has_lost_its_job_does_not_send(office: Office) -> None:
    async def claimed_again(_: EmailMessage) -> None:
        await office.database.execute("UPDATE skycap.mail_ledger SET claim = claim + 1")

    async with opened(office.mailbox, office.database, before_send=claimed_again) as late:
        with pytest.raises(LedgerLost):
            await late.send()
    assert office.mailbox.received == []


@pytest.mark.parametrize("phase", ["mail", "rcpt", "data", "dot"])
async def test_a_deferred_mail_is_sent_by_the_next_run(office: Office, phase: Phase) -> None:
    office.mailbox.replies = when(phase, f"451 4.7.1 {ADA} is greylisted")
    with pytest.raises(Unavailable, match=r"^mail: 451 4\.7\.1") as deferred:
        await office.send()
    row = await office.row()
    assert (row["state"], row["sends"], row["smtp_code"]) == ("deferred", 0, 451)
    assert row["smtp_text"] == "4.7.1 [address] is greylisted"
    assert "lovelace" not in str(deferred.value)
    office.mailbox.replies = lambda _phase, _recipient: None
    await office.send(claim=2)
    assert (await office.row())["state"] == "sent"


@pytest.mark.parametrize("phase", ["rcpt", "data", "dot"])
async def test_a_refused_mail_has_failed(office: Office, phase: Phase) -> None:
    office.mailbox.replies = when(phase, f"550 5.1.1 <{ADA}> does not exist")
    with pytest.raises(MailRefused, match="550") as refused:
        await office.send()
    row = await office.row()
    assert (row["state"], row["sends"], row["smtp_code"]) == ("failed", 0, 550)
    assert row["smtp_text"] == "5.1.1 <[address]> does not exist"
    assert "lovelace" not in f"{refused.value!r} {refused.value.__context__!r}"


async def test_a_fault_before_the_dot_leaves_the_mail_to_whoever_comes_next(
    mailbox: Mailbox, database_url: str
) -> None:
    async def stumble(_: EmailMessage) -> None:
        raise ZeroDivisionError("no fault of the mail")

    database = DatabasePool(dsn=database_url, prepare=migrate)
    async with opened(mailbox, database, before_send=stumble) as office:
        with pytest.raises(ZeroDivisionError):
            await office.send()
        row = await office.row()
        assert (row["state"], row["smtp_text"]) == ("deferred", "not sent: ZeroDivisionError")
    async with opened(mailbox, DatabasePool(dsn=database_url)) as office:
        await office.send(job="job-2")
        assert len(office.sent()) == 1


async def test_an_address_that_was_refused_twice_is_suppressed(mailbox: Mailbox, database_url: str) -> None:
    database = DatabasePool(dsn=database_url, prepare=migrate)
    async with opened(mailbox, database, suppressions=Suppressions(database)) as office:
        mailbox.replies = when("rcpt", "550 5.1.1 no such user")
        for key in ("first", "second"):
            with pytest.raises(MailRefused, match="550"):
                await office.send(key=key)
        mailbox.replies = lambda _phase, _recipient: None
        with pytest.raises(MailSuppressed, match=r"on the suppression list \(refused\)"):
            await office.send(key="third")
        assert await office.send(BEN, key="fourth")
        states = await database.fetch("SELECT key, state FROM skycap.mail_ledger ORDER BY created_at")
    assert [row["state"] for row in states] == ["failed", "failed", "suppressed", "sent"]


async def test_a_connection_lost_before_the_dot_is_a_deferral(office: Office) -> None:
    office.mailbox.replies = when("data", Break.DROP)
    with pytest.raises(Unavailable, match="the connection was lost"):
        await office.send(on_unknown="hold")
    assert (await office.row())["state"] == "deferred"


@pytest.mark.parametrize("to", ["ada", "ayşe@example.com", f"{ADA}\nBcc: {BEN}"])
async def test_a_recipient_that_cannot_be_written_to_is_refused_for_good(office: Office, to: str) -> None:
    with pytest.raises(PermanentError) as refused:
        await office.send(to=to)
    assert to not in str(refused.value)
    assert office.mailbox.received == []


async def test_a_header_that_cannot_be_written_has_failed(office: Office) -> None:
    with pytest.raises(PermanentError, match="line break"):
        await office.send(name="Ada\nBcc: ben@example.com")
    assert (await office.row())["state"] == "failed"
    assert office.mailbox.connections == 0


# What goes wrong after the dot


@pytest.mark.parametrize("how", list(Break))
async def test_a_mail_whose_fate_is_unknown_is_resent_byte_for_byte(office: Office, how: Break) -> None:
    office.mailbox.replies = when("mail", "451 later")
    with pytest.raises(Unavailable):
        await office.send()
    await office.database.execute("UPDATE skycap.mail_ledger SET created_at = created_at - interval '2 days'")
    office.mailbox.replies = when("dot", how)
    with capture_logs() as logs, pytest.raises(Unavailable, match="sent again, with the same Message-ID"):
        await office.send()
    assert [line["event"] for line in logs] == ["mail may or may not have arrived"]
    row = await office.row()
    assert (row["state"], row["sends"]) == ("dot", 1)

    office.mailbox.replies = lambda _phase, _recipient: None
    message_id = await office.send(claim=2)

    first, second = office.mailbox.received
    assert first.file != second.file
    assert first.file.read_bytes() == second.file.read_bytes()
    assert first.message_id == second.message_id == message_id
    assert office.sent()[1]["Date"].datetime == row["created_at"].replace(microsecond=0), "that of the first intent"
    row = await office.row()
    assert (row["state"], row["sends"]) == ("sent", 2)


@pytest.mark.parametrize("how", list(Break))
async def test_a_mail_that_is_not_to_arrive_twice_is_held(office: Office, how: Break) -> None:
    office.mailbox.replies = when("dot", how)
    with pytest.raises(PermanentError, match=r"may have arrived.*skycap mail ledger mark-sent"):
        await office.send(on_unknown="hold")
    assert (await office.row())["state"] == "unknown"
    office.mailbox.replies = lambda _phase, _recipient: None
    with pytest.raises(PermanentError, match="may have arrived"):
        await office.send(on_unknown="hold", claim=2)
    assert len(office.mailbox.received) == 1


async def test_a_daemon_killed_after_the_dot_leaves_a_row_that_the_next_run_resends(
    office: Office, database_url: str
) -> None:
    await office.database.ping()
    has_the_message = asyncio.Event()

    def script(phase: Phase, _: str) -> Break | None:
        if phase == "dot":
            has_the_message.set()
            return Break.HANG
        return None

    office.mailbox.replies = script
    daemon = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SEND_FROM_ANOTHER_PROCESS),
        *(database_url, str(office.mailbox.port), str(office.mailbox.ca_file)),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    await has_the_message.wait()
    daemon.kill()
    await daemon.wait()
    assert (await office.row())["state"] == "dot"

    office.mailbox.replies = lambda _phase, _recipient: None
    with pytest.raises(Unavailable, match="another job is sending the same mail"):
        await office.send(job="job-2")
    await office.send(claim=2)
    first, second = office.mailbox.received
    assert first.file.read_bytes() == second.file.read_bytes()
    assert (await office.row())["state"] == "sent"


async def test_copies_have_an_end(office: Office) -> None:
    office.mailbox.replies = when("dot", Break.DROP)
    for claim in (1, 2, 3):
        with pytest.raises(Unavailable):
            await office.send(claim=claim)
    with pytest.raises(PermanentError, match="may have arrived"):
        await office.send(claim=4)
    assert len(office.mailbox.received) == 3


async def test_a_ledger_that_is_away_when_the_mail_is_through_is_told_later(
    mailbox: Mailbox, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailer_module, "_RECORDING_PAUSES", (ms(1), ms(1)))
    database = Flaky(dsn=database_url, prepare=migrate)
    async with opened(mailbox, database) as office:
        database.fails_on("sent", times=2)
        first = await office.send()
        assert (await office.row())["state"] == "sent"

        database.fails_on("sent", times=3)
        with capture_logs() as logs:
            await office.send(key="another")
        assert [(line["event"], line["log_level"]) for line in logs] == [
            ("mail ledger could not be told; its row in skycap.mail_ledger is left in state dot", "error"),
            ("mail sent", "info"),
        ]
        assert await office.send() == first
        assert len(mailbox.received) == 2


async def test_a_refusal_is_not_hidden_by_a_ledger_that_is_away(
    mailbox: Mailbox, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailer_module, "_RECORDING_PAUSES", ())
    database = Flaky(dsn=database_url, prepare=migrate)
    async with opened(mailbox, database) as office:
        mailbox.replies = when("rcpt", "550 5.1.1 no")
        database.fails_on("failed", times=1)
        with pytest.raises(MailRefused):
            await office.send()


# Cancellation


async def test_a_job_that_is_cancelled_before_the_dot_stops_at_once(office: Office) -> None:
    asked = asyncio.Event()

    def script(phase: Phase, _: str) -> Break | None:
        if phase == "rcpt":
            asked.set()
            return Break.HANG
        return None

    office.mailbox.replies = script
    sending = asyncio.create_task(office.send())
    await asked.wait()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(sending, 5)
    assert (await office.row())["state"] == "sending"
    assert office.mailbox.received == []


async def test_a_job_that_is_cancelled_after_the_dot_first_learns_what_became_of_its_mail(database_url: str) -> None:
    async def has_the_message() -> bool:
        return server.heard[-1:] == ["."]

    database = DatabasePool(dsn=database_url, prepare=migrate)
    async with LineServer({".": None}) as server, opened(server, database) as office:
        sending = asyncio.create_task(office.send())
        await eventually(has_the_message)
        for _ in range(20):
            sending.cancel()
            await asyncio.sleep(0)
        assert not sending.done()
        await server.say("250 2.0.0 queued at last")
        with pytest.raises(asyncio.CancelledError):
            await sending
        row = await office.row()
    assert (row["state"], row["smtp_text"]) == ("sent", "2.0.0 queued at last")


class Flaky(DatabasePool):
    """A database that goes away when the ledger is about to move a row to some state."""

    _fails_on = ""
    _times = 0

    def fails_on(self, state: str, *, times: int) -> None:
        self._fails_on, self._times = state, times

    async def fetchval(self, query: str, *args: object) -> Any:
        if self._times and self._fails_on in args:
            self._times -= 1
            raise Unavailable("database", "gone")
        return await super().fetchval(query, *args)


# What a mail carries


async def test_a_mail_that_somebody_has_written_goes_as_it_is(office: Office) -> None:
    html = "<p>Grüße, <b>hepsi</b> bu.</p>\n<script>x</script>\n"
    picture = Attachment(filename="fatura şubat.png", content=b"\x89PNG" * 100, media_type="image/png")
    await office.mailer().send_written(ADA, subject="Şubat", html=html, text="Grüße", attachments=[picture])
    (mail,) = office.sent()
    body = mail.get_body(("html",))
    assert body is not None
    assert body.get_content().replace("\r\n", "\n") == html
    assert [(part.get_filename(), part.get_content()) for part in mail.iter_attachments()] == [
        (picture.filename, picture.content)
    ]
    assert mail["Subject"] == "Şubat"
    assert "Content-Language" not in mail


async def test_a_written_mail_is_a_new_one_when_the_last_is_old_enough(office: Office) -> None:
    async def send(job: str, after: timedelta) -> str:
        return await office.mailer(job).send_written(
            ADA, subject="Hi", html="<p>Hi</p>", text="Hi", key="greeting", repeat_after=after
        )

    first = await send("job-1", timedelta(hours=24))
    assert await send("job-2", timedelta(hours=24)) == first
    assert await send("job-3", timedelta(0)) != first
    assert len(office.sent()) == 2


class OneLink:
    """A link for whoever asks."""

    async def link(self, plugin: str, who: Mapping[str, str], *, locale: str | None) -> str | None:
        return f"https://jobs.example.com/unsubscribe/{plugin}-{who['alert']}-{locale}"


async def test_a_guest_can_leave_with_one_click(mailbox: Mailbox, database_url: str) -> None:
    database = DatabasePool(dsn=database_url, prepare=migrate)
    async with opened(mailbox, database, unsubscribing=OneLink()) as office:
        await office.send(unsubscribe={"alert": "7"}, locale="tr")
        (mail,) = office.sent()
    assert mail["List-Unsubscribe"] == (
        "<https://jobs.example.com/unsubscribe/bookings-7-tr>, <mailto:support@travel.example.com?subject=unsubscribe>"
    )
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


async def test_without_an_address_of_the_web_a_guest_leaves_by_a_mail(office: Office) -> None:
    await office.send(unsubscribe={"alert": "7"})
    await office.send(key="no subscription")
    subscribed, other = office.sent()
    assert subscribed["List-Unsubscribe"] == "<mailto:support@travel.example.com?subject=unsubscribe>"
    assert "List-Unsubscribe-Post" not in subscribed
    assert "List-Unsubscribe" not in other


async def test_each_mail_has_a_return_address_of_its_own(mailbox: Mailbox, database_url: str) -> None:
    database = DatabasePool(dsn=database_url, prepare=migrate)
    return_path = ReturnPath("bounces@mail.example.com", secret=MailSecret(database))
    async with opened(mailbox, database, return_path=return_path) as office:
        await office.send()
        await office.send(key="another")
        senders = [mail.sender for mail in office.mailbox.received]
        tokens = [row["verp_token"] for row in await database.fetch("SELECT verp_token FROM skycap.mail_ledger")]
    assert sorted(senders) == sorted(f"bounces+{token}@mail.example.com" for token in tokens)
    assert len(set(senders)) == 2


async def test_a_provider_that_knows_a_second_copy_is_told_which_mail_it_is(
    mailbox: Mailbox, database_url: str
) -> None:
    database = DatabasePool(dsn=database_url, prepare=migrate)
    async with opened(mailbox, database, sending=Sending(idempotency_header="X-Once")) as office:
        mailbox.replies = when("dot", Break.DROP)
        with pytest.raises(Unavailable):  # not held: the second copy is the provider's to drop
            await office.send(on_unknown="hold")
        mailbox.replies = lambda _phase, _recipient: None
        await office.send(on_unknown="hold", claim=2)
        await office.send(key="another")
        first, copy, other = (mail["X-Once"] for mail in office.sent())
    assert first == copy != other
    assert re.fullmatch("[0-9a-f]{32}", first)


async def test_a_mail_is_signed_last(mailbox: Mailbox, database_url: str) -> None:
    async def sign(message: bytes) -> bytes:
        return b"DKIM-Signature: of " + str(len(message)).encode() + b"\r\n" + message

    async def add(message: EmailMessage) -> None:
        message["X-Plugin"] = "was here"

    database = DatabasePool(dsn=database_url, prepare=migrate)
    async with opened(mailbox, database, before_send=add, sending=Sending(sign=sign)) as office:
        await office.send()
        (content,) = [mail.file.read_bytes() for mail in mailbox.received]
    assert content.startswith(b"DKIM-Signature: of ")
    assert b"X-Plugin" in content


# Not now


async def test_a_mail_waits_for_its_domains_turn(mailbox: Mailbox, database_url: str) -> None:
    waits = [timedelta(seconds=3), timedelta(0)]
    asked: list[tuple[str, str]] = []

    async def pace(domain: str, key: str) -> timedelta:
        asked.append((domain, key))
        return waits.pop(0)

    database = DatabasePool(dsn=database_url, prepare=migrate)
    async with opened(mailbox, database, sending=Sending(pace=pace)) as office:
        with pytest.raises(Snooze) as snoozed:
            await office.send()
        assert (snoozed.value.delay, await database.fetch("SELECT FROM skycap.mail_ledger")) == (ms(3000), [])
        await office.send()
        assert asked == [("example.com", KEY)] * 2
        assert len(office.sent()) == 1


async def test_a_mail_that_is_put_off_for_too_long_is_given_up(office: Office) -> None:
    office.mailbox.replies = when("rcpt", "451 4.7.1 greylisted")
    with pytest.raises(Unavailable):
        await office.send()
    with pytest.raises(MailRefused, match=r"given up: put off for 0\.0 h, at last by: .*451 4\.7\.1 greylisted"):
        await office.send(max_age=timedelta(0))
    assert (await office.row())["state"] == "failed"


async def test_what_stops_every_mail_is_no_reason_to_give_one_up(office: Office) -> None:
    office.mailbox.replies = when("mail", "530 5.7.0 Authentication required")
    with pytest.raises(QueueStopped, match="530"):
        await office.send(max_age=timedelta(0))
    assert (await office.row())["state"] == "deferred"
