"""Mailbox, the mail server of the demo and of these tests, seen by Python's own SMTP client."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path

import pytest
import trustme

from skycap.demo.mailbox import Break, Mailbox, Phase, Received
from tests.support.servers import PASSWORD, USERNAME, ms


@pytest.fixture
async def mailbox(tmp_path: Path) -> AsyncGenerator[Mailbox]:
    async with Mailbox(tmp_path / "mails", username=USERNAME, password=PASSWORD) as mailbox:
        yield mailbox


def message(message_id: str = "<one@example.com>", to: str = "ada@example.com") -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = "bookings@travel.example.com"
    mail["To"] = to
    mail["Message-ID"] = message_id
    mail.set_content("Your room is booked.\n.\n..and breakfast, too.")
    return mail


def mails(folder: Path) -> list[Path]:
    return list(folder.glob("*.eml"))


async def send(mailbox: Mailbox, *mails: EmailMessage, password: str = PASSWORD) -> None:
    def speak() -> None:
        with smtplib.SMTP("127.0.0.1", mailbox.port, timeout=5) as client:
            client.starttls(context=ssl.create_default_context(cafile=str(mailbox.ca_file)))
            client.login(USERNAME, password)
            for mail in mails:
                client.send_message(mail)

    await asyncio.to_thread(speak)


async def test_a_mail_becomes_a_file(mailbox: Mailbox, tmp_path: Path) -> None:
    await send(mailbox, message("<od/d=name@example.com>"))
    (received,) = mailbox.received
    assert received.message_id == "<od/d=name@example.com>"
    assert received.recipient == "ada@example.com"
    assert received.file == tmp_path / "mails" / "1-od_d_name@example.com.eml"
    assert b"\r\n.\r\n..and breakfast, too.\r\n" in received.file.read_bytes()
    assert datetime.now(UTC) - received.when < timedelta(seconds=10)
    assert received.received_at <= time.monotonic()
    assert sorted(file.suffix for file in (tmp_path / "mails").iterdir()) == [".eml", ".pem"]


async def test_its_url_says_how_to_log_in(mailbox: Mailbox) -> None:
    assert mailbox.smtp_url == f"smtp+starttls://relay-user:correct%20horse@127.0.0.1:{mailbox.port}"


async def test_one_can_wait_for_a_mail_and_for_each_mail(mailbox: Mailbox) -> None:
    async def first_two() -> list[Received]:
        found: list[Received] = []
        async for mail in mailbox:
            found.append(mail)
            if len(found) == 2:
                break
        return found

    iterating, waiting = asyncio.create_task(first_two()), asyncio.create_task(mailbox.wait_for("<two@example.com>"))
    await send(mailbox, message("<one@example.com>"), message("<two@example.com>"))
    assert [mail.message_id for mail in await iterating] == ["<one@example.com>", "<two@example.com>"]
    assert (await waiting).message_id == "<two@example.com>"
    with pytest.raises(TimeoutError):
        await mailbox.wait_for("<three@example.com>", ms(10))


async def test_files_are_numbered_on_after_a_restart(tmp_path: Path) -> None:
    for _ in range(2):
        async with Mailbox(tmp_path, username=USERNAME, password=PASSWORD) as mailbox:
            await send(mailbox, message())
    assert sorted(mail.name for mail in mails(tmp_path)) == ["1-one@example.com.eml", "2-one@example.com.eml"]


async def test_it_wants_tls_and_the_password(mailbox: Mailbox) -> None:
    def without_tls() -> None:
        with smtplib.SMTP("127.0.0.1", mailbox.port, timeout=5) as client:
            client.send_message(message())

    def without_login() -> None:
        with smtplib.SMTP("127.0.0.1", mailbox.port, timeout=5) as client:
            client.starttls(context=ssl.create_default_context(cafile=str(mailbox.ca_file)))
            client.send_message(message())

    with pytest.raises(smtplib.SMTPSenderRefused, match="530"):
        await asyncio.to_thread(without_tls)
    with pytest.raises(smtplib.SMTPSenderRefused, match="530"):
        await asyncio.to_thread(without_login)
    with pytest.raises(smtplib.SMTPAuthenticationError, match="535"):
        await send(mailbox, message(), password="wrong")
    assert mailbox.received == []


async def test_a_server_without_tls_and_one_that_begins_with_it(tmp_path: Path) -> None:
    def plain(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=5) as client:
            client.login(USERNAME, PASSWORD)
            client.send_message(message())
            assert not client.has_extn("starttls")

    def implicit(port: int, ca_file: Path) -> None:
        context = ssl.create_default_context(cafile=str(ca_file))
        with smtplib.SMTP_SSL("127.0.0.1", port, timeout=5, context=context) as client:
            client.login(USERNAME, PASSWORD)
            client.send_message(message())

    async with Mailbox(tmp_path / "a", username=USERNAME, password=PASSWORD, require_tls=False) as mailbox:
        await asyncio.to_thread(plain, mailbox.port)
        assert mailbox.smtp_url.startswith("smtp://")
        assert len(mailbox.received) == 1
    async with Mailbox(tmp_path / "b", username=USERNAME, password=PASSWORD, implicit_tls=True) as mailbox:
        await asyncio.to_thread(implicit, mailbox.port, mailbox.ca_file)
        assert mailbox.smtp_url.startswith("smtps://")
        assert len(mailbox.received) == 1


async def test_a_script_decides_what_it_replies(mailbox: Mailbox) -> None:
    def script(phase: Phase, recipient: str) -> str | Break | None:
        if phase == "rcpt" and recipient.startswith("full"):
            return "452 4.2.2 mailbox full"
        if phase == "dot" and recipient.startswith("spam"):
            return "554 5.7.1 no"
        return Break.DROP if phase == "data" and recipient.startswith("cut") else None

    mailbox.replies = script
    with pytest.raises(smtplib.SMTPRecipientsRefused, match=r"4\.2\.2 mailbox full"):
        await send(mailbox, message(to="full@example.com"))
    with pytest.raises(smtplib.SMTPDataError, match=r"5\.7\.1 no"):
        await send(mailbox, message(to="spam@example.com"))
    with pytest.raises(smtplib.SMTPServerDisconnected):
        await send(mailbox, message(to="cut@example.com"))
    assert mailbox.received == []


async def test_a_connection_that_is_dropped_after_the_message_has_delivered_it(mailbox: Mailbox) -> None:
    mailbox.replies = lambda phase, _: Break.DROP if phase == "dot" else None
    with pytest.raises(smtplib.SMTPServerDisconnected):
        await send(mailbox, message())
    assert len(mailbox.received) == 1


async def test_closing_does_not_wait_for_a_client_that_hangs(tmp_path: Path) -> None:
    async with Mailbox(tmp_path, username=USERNAME, password=PASSWORD) as mailbox:
        reader, writer = await asyncio.open_connection("127.0.0.1", mailbox.port)
        assert (await reader.readline()).startswith(b"220 ")
    assert await reader.read() == b""
    writer.close()


async def test_its_certificate_costs_no_time(tmp_path: Path) -> None:
    trustme.CA()  # what is loaded once is not counted
    began = time.process_time()
    async with Mailbox(tmp_path, username=USERNAME, password=PASSWORD):
        took = time.process_time() - began
    assert took < 0.15
