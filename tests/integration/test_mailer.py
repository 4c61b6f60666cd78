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

from skycap.context import OnUnknown, RunningJob
from skycap.demo.mailbox import Break, Mailbox, Phase
from skycap.errors import ConfigurationError, MailRefused, PermanentError, TemplateFailed, Unavailable
from skycap.services import mailer as mailer_module
from skycap.services.database import DatabasePool
from skycap.services.ledger import LedgerLost, MailLedger, recipient_hash_of
from skycap.services.mailer import MailService
from skycap.services.message import RenderedMail
from skycap.services.migrations import migrate
from skycap.services.smtp import SmtpPool
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
from tests.integration.test_mailer import ADA, KEY, TEMPLATE, Templates, as_it_is, running
from tests.support.servers import PASSWORD, USERNAME

database_url, port, ca_file = sys.argv[1:]
service = MailService(
    templates=Templates(),
    ledger=MailLedger(DatabasePool(dsn=database_url)),
    smtp=SmtpPool(host="127.0.0.1", port=int(port), username=USERNAME, password=PASSWORD, ca_file=Path(ca_file)),
    sender="skycap travel <bookings@travel.example.com>",
    before_send=as_it_is,
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
    ) -> str:
        mailer = self.service.for_job(running(job), claim, "bookings")
        return await mailer.send(to, TEMPLATE, key=key, locale=locale, on_unknown=on_unknown, name=name)

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


async def as_it_is(_: EmailMessage) -> None:
    pass


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
    before_send: Callable[[EmailMessage], Awaitable[None]] = as_it_is,
) -> AsyncGenerator[Office]:
    async with pool_to(server, data_timeout=data_timeout) as smtp:
        service = MailService(
            templates=Templates(),
            ledger=MailLedger(database),
            smtp=smtp,
            sender="skycap travel <bookings@travel.example.com>",
            before_send=before_send,
        )
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
        MailService(templates=Templates(), ledger=ledger, smtp=smtp, sender=sender, before_send=as_it_is)


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


@pytest.mark.parametrize("phase", ["mail", "rcpt", "data", "dot"])
async def test_a_refused_mail_has_failed(office: Office, phase: Phase) -> None:
    office.mailbox.replies = when(phase, f"550 5.1.1 <{ADA}> does not exist")
    with pytest.raises(MailRefused, match="550") as refused:
        await office.send()
    row = await office.row()
    assert (row["state"], row["sends"], row["smtp_code"]) == ("failed", 0, 550)
    assert row["smtp_text"] == "5.1.1 <[address]> does not exist"
    assert "lovelace" not in f"{refused.value!r} {refused.value.__context__!r}"


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
    with pytest.raises(PermanentError, match=r"may have arrived.*skycap\.mail_ledger"):
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
