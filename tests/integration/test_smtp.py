"""SmtpPool against real servers: what it never sends, what it keeps, and what each way to fail means."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from skycap.demo.mailbox import Break, Mailbox, Phase
from skycap.errors import ConfigurationError, MailRefused, Unavailable
from skycap.services import smtp as smtp_module
from skycap.services import smtp_connection
from skycap.services.replies import (
    Deferred,
    NotLoggedIn,
    OutcomeUnknown,
    SmtpRefused,
    SmtpReply,
    one_line,
    refusal,
)
from skycap.services.smtp import SmtpPool
from tests.support.servers import PASSWORD, USERNAME, LineServer, ms, pool_to
from tests.support.workers import eventually

LIMITS = ("connect_timeout", "command_timeout")
SENDER, ADA = "bookings@travel.example.com", "ada.lovelace@example.com"
MAIL = b"From: bookings@travel.example.com\r\nMessage-ID: <one@travel.example.com>\r\n\r\nYour room is booked.\r\n"


@pytest.fixture
async def mailbox(tmp_path: Path) -> AsyncGenerator[Mailbox]:
    async with Mailbox(tmp_path, username=USERNAME, password=PASSWORD) as mailbox:
        yield mailbox


@pytest.fixture
async def pool(mailbox: Mailbox) -> AsyncGenerator[SmtpPool]:
    async with pool_to(mailbox) as pool:
        yield pool


async def nothing_to_tell() -> None:
    pass


async def deliver(pool: SmtpPool, message: bytes = MAIL, *, recipient: str = ADA) -> SmtpReply:
    return await pool.deliver(message, sender=SENDER, recipient=recipient, before_dot=nothing_to_tell)


def shown(error: BaseException | None) -> str:
    """What a log shows of it and of what led to it."""
    if error is None:
        return ""
    led_to_it = error.__context__ if error.__cause__ is None and not error.__suppress_context__ else error.__cause__
    return f"{error} {error!r} {shown(led_to_it)}"


def names_nobody(error: BaseException) -> bool:
    return not any(name in shown(error).lower() for name in ("ada.", "lovelace", PASSWORD, USERNAME))


# What is sent


async def test_a_mail_is_delivered_and_the_reply_says_so(pool: SmtpPool, mailbox: Mailbox) -> None:
    reply = await deliver(pool)
    assert (reply.code, reply.text) == (250, "2.0.0 queued as 1")
    assert mailbox.received[0].recipient == ADA
    assert mailbox.received[0].file.read_bytes() == MAIL


@pytest.mark.parametrize(
    ("message", "arrived"),
    [
        (b"a: b\n\none\rtwo\r\nthree", b"a: b\r\n\r\none\r\ntwo\r\nthree\r\n"),
        (b"a: b\r\n\r\n.\r\n..\r\n.dots\r\n", b"a: b\r\n\r\n.\r\n..\r\n.dots\r\n"),
        (b"a: b\r\n\r\n.\n.QUIT\n", b"a: b\r\n\r\n.\r\n.QUIT\r\n"),
        ("a: b\r\n\r\nİyi yolculuklar\r\n".encode(), "a: b\r\n\r\nİyi yolculuklar\r\n".encode()),
        (b"a: b\r\n\r\n" + b"x" * 900_000 + b"\r\n", None),
    ],
)
async def test_no_message_can_end_itself(
    pool: SmtpPool, mailbox: Mailbox, message: bytes, arrived: bytes | None
) -> None:
    if arrived is None:  # longer lines than SMTP allows are refused by the server, not by a broken connection
        with pytest.raises(SmtpRefused, match="500 Line too long"):
            await deliver(pool, message)
    else:
        await deliver(pool, message)
        assert mailbox.received[0].file.read_bytes() == arrived


async def test_the_server_hears_the_message_only_after_the_ledger(mailbox: Mailbox) -> None:
    told: list[str] = []
    mailbox.replies = lambda phase, _: told.append(phase)

    async def tell() -> None:
        told.append("ledger")
        await asyncio.sleep(0.02)

    async with pool_to(mailbox) as pool:
        await pool.deliver(MAIL, sender=SENDER, recipient=ADA, before_dot=tell)
    assert told == ["mail", "rcpt", "data", "ledger", "dot"]


async def test_what_the_ledger_raises_passes_and_nothing_is_sent(mailbox: Mailbox) -> None:
    async def refuse() -> None:
        raise Unavailable("database", "gone")

    async with pool_to(mailbox) as pool:
        with pytest.raises(Unavailable, match=r"^database: gone$"):
            await pool.deliver(MAIL, sender=SENDER, recipient=ADA, before_dot=refuse)
        await deliver(pool)
    assert len(mailbox.received) == 1
    assert mailbox.connections == 2, "a connection that waits for a message is no good for another"


async def test_the_size_is_announced_so_that_a_server_can_refuse_at_once() -> None:
    async with LineServer({"MAIL": "552 5.3.4 too big"}) as server, pool_to(server) as pool:
        with pytest.raises(SmtpRefused, match="552"):
            await deliver(pool)
        assert server.heard[1] == f"MAIL FROM:<{SENDER}> SIZE={len(MAIL)}"


async def test_a_domain_beyond_ascii_is_sent_in_its_ascii_form(pool: SmtpPool, mailbox: Mailbox) -> None:
    await deliver(pool, recipient="ada@şirket.example.com")
    assert mailbox.received[0].recipient == "ada@xn--irket-idb.example.com"


async def test_a_local_part_beyond_ascii_needs_smtputf8(pool: SmtpPool) -> None:
    with pytest.raises(MailRefused, match="EAI") as refused:
        await deliver(pool, recipient="ayşe.lovelace@example.com")
    assert names_nobody(refused.value)
    answers = {"EHLO": "250-localhost\r\n250-8BITMIME\r\n250 SMTPUTF8"}
    async with LineServer(answers) as server, pool_to(server) as open_minded:
        await deliver(open_minded, "a: ş\r\n".encode(), recipient="ayşe@example.com")
        assert server.heard[1:3] == [f"MAIL FROM:<{SENDER}> BODY=8BITMIME SMTPUTF8", "RCPT TO:<ayşe@example.com>"]


@pytest.mark.parametrize(
    "recipient",
    [
        "",
        "ada.lovelace",
        "@example.com",
        "ada.lovelace@",
        f"Ada <{ADA}>",
        f"{ADA}, {ADA}",
        f"{ADA}\r\nDATA",
        f"<{ADA}>",
    ],
)
async def test_what_is_no_address_is_refused_before_anything_is_connected(
    pool: SmtpPool, mailbox: Mailbox, recipient: str
) -> None:
    with pytest.raises(MailRefused, match="no mail address") as refused:
        await deliver(pool, recipient=recipient)
    assert names_nobody(refused.value)
    assert mailbox.connections == 0


# Encryption and log-in


async def test_without_starttls_neither_password_nor_mail_is_sent() -> None:
    answers = {"EHLO": "250-localhost\r\n250 AUTH PLAIN LOGIN"}
    async with LineServer(answers) as server:
        async with pool_to(server, tls="starttls", username=USERNAME, password=PASSWORD) as pool:
            with pytest.raises(Deferred, match="STARTTLS"):
                await deliver(pool)
        async with pool_to(server, tls="opportunistic", username=USERNAME, password=PASSWORD) as pool:
            with pytest.raises(NotLoggedIn, match="not sent without it"):
                await deliver(pool)
        assert server.heard == ["EHLO skycap.test"] * 2


async def test_opportunistic_uses_tls_when_it_is_offered_and_does_without_when_it_is_not(
    mailbox: Mailbox, tmp_path: Path
) -> None:
    async with pool_to(mailbox, tls="opportunistic") as pool:  # the mailbox takes nothing without TLS
        await deliver(pool)
    async with LineServer() as server, pool_to(server, tls="opportunistic") as pool:
        await deliver(pool)
        assert server.heard[0] == "EHLO skycap.test"


async def test_tls_from_the_start_and_none_at_all(tmp_path: Path) -> None:
    async with Mailbox(tmp_path / "a", username=USERNAME, password=PASSWORD, implicit_tls=True) as mailbox:
        async with pool_to(mailbox, tls="implicit") as pool:
            await deliver(pool)
        assert len(mailbox.received) == 1
    async with Mailbox(tmp_path / "b", username=USERNAME, password=PASSWORD, require_tls=False) as mailbox:
        async with pool_to(mailbox, tls="off", ca_file=None) as pool:
            await deliver(pool)
        assert len(mailbox.received) == 1


@pytest.mark.parametrize("implicit", [False, True])
async def test_a_certificate_of_somebody_else_defers(tmp_path: Path, implicit: bool) -> None:
    async with (
        Mailbox(tmp_path, username=USERNAME, password=PASSWORD, implicit_tls=implicit) as mailbox,
        pool_to(mailbox, ca_file=None, tls="implicit" if implicit else "starttls") as pool,
    ):
        with pytest.raises(Deferred, match="certificate is not valid: unable to get local issuer"):
            await deliver(pool)
    assert mailbox.received == []


async def test_a_wrong_password_holds_the_mail_and_loses_none(mailbox: Mailbox) -> None:
    async with pool_to(mailbox, password="wrong horse") as pool:
        with pytest.raises(NotLoggedIn, match="535") as refused:
            await deliver(pool)
    assert isinstance(refused.value, Unavailable)
    assert "horse" not in shown(refused.value)


async def test_a_server_that_wants_a_log_in_which_we_do_not_have_holds_the_mail(mailbox: Mailbox) -> None:
    async with pool_to(mailbox, username=None) as pool:
        with pytest.raises(NotLoggedIn, match=r"530 5\.7\.0"):
            await deliver(pool)


def test_a_ca_file_that_cannot_be_read_is_a_matter_of_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"CA file .*absent\.pem cannot be used: No such file"):
        SmtpPool(host="127.0.0.1", port=1, ca_file=tmp_path / "absent.pem")
    (tmp_path / "empty.pem").touch()
    with pytest.raises(ConfigurationError, match=r"CA file .*empty\.pem cannot be used"):
        SmtpPool(host="127.0.0.1", port=1, ca_file=tmp_path / "empty.pem")


def test_no_password_is_shown() -> None:
    pool = SmtpPool(host="relay.example.com", port=587, username=USERNAME, password=PASSWORD)
    assert repr(pool) == "SmtpPool(relay.example.com:587, starttls)"


# Connections


async def test_one_connection_carries_twenty_mails(pool: SmtpPool, mailbox: Mailbox) -> None:
    for _ in range(20):
        await deliver(pool)
    assert len(mailbox.received) == 20
    assert mailbox.connections == 1


async def test_there_are_no_more_connections_than_allowed(mailbox: Mailbox) -> None:
    async with pool_to(mailbox, connections=2) as pool:
        await asyncio.gather(*(deliver(pool) for _ in range(10)))
    assert len(mailbox.received) == 10
    assert mailbox.connections == 2


async def test_a_connection_ends_after_so_many_mails(
    pool: SmtpPool, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp_module, "MOST_MAILS", 3)
    for _ in range(7):
        await deliver(pool)
    assert mailbox.connections == 3


async def test_a_connection_that_rests_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp_connection, "_DROPPED_AFTER_IDLE", ms(10))
    async with LineServer() as server, pool_to(server) as pool:
        await deliver(pool)
        await asyncio.wait_for(server.left.wait(), 5)
        assert server.heard[-1] == "QUIT"
        await deliver(pool)
        assert server.connections == 2


async def test_a_connection_that_has_rested_is_asked_whether_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp_connection, "_CHECKED_AFTER_IDLE", timedelta(0))
    async with LineServer() as server, pool_to(server) as pool:
        await deliver(pool)
        await deliver(pool)
        assert "NOOP" in server.heard
        assert server.connections == 1
        server.answers["NOOP"] = "421 too idle"
        await deliver(pool)
        assert server.connections == 2


async def test_a_connection_that_the_server_ended_meanwhile_is_replaced() -> None:
    async with LineServer() as server, pool_to(server) as pool:
        await deliver(pool)
        await server.disconnect()
        await eventually(lambda: _is_gone(pool))
        await deliver(pool)
        assert server.connections == 2


async def _is_gone(pool: SmtpPool) -> bool:
    (connection,) = pool._idle  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - it shows nowhere else
    return not connection._smtp.is_connected  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - as above


async def test_a_pool_that_is_closed_takes_leave_and_opens_nothing() -> None:
    async with LineServer() as server:
        async with pool_to(server) as pool:
            await deliver(pool)
        assert server.heard[-1] == "QUIT"
        with pytest.raises(Deferred, match="stopping"):
            await deliver(pool)
        assert server.connections == 1


async def test_a_ping_shows_whether_we_are_let_in(pool: SmtpPool, mailbox: Mailbox) -> None:
    await pool.ping()
    await pool.ping()
    await deliver(pool)
    assert mailbox.connections == 1
    async with pool_to(mailbox, password="wrong") as shut_out:
        with pytest.raises(Unavailable):
            await shut_out.ping()


async def test_a_ping_does_not_wait_for_mails(mailbox: Mailbox) -> None:
    is_stuck = asyncio.Event()

    def script(phase: Phase, _: str) -> Break | None:
        if phase == "rcpt":
            is_stuck.set()
            return Break.HANG
        return None

    mailbox.replies = script
    async with pool_to(mailbox, connections=1) as pool:
        stuck = asyncio.create_task(deliver(pool))
        await is_stuck.wait()
        await asyncio.wait_for(pool.ping(), 5)
        stuck.cancel()
        await asyncio.wait([stuck])


# What failing means


@pytest.mark.parametrize(
    ("phase", "reply", "error"),
    [
        ("mail", "421 4.3.2 shutting down", Deferred),
        ("mail", "451 4.3.0 try later", Deferred),
        ("mail", "552 5.3.4 message too big", SmtpRefused),
        ("mail", "553 5.7.1 sender not allowed", SmtpRefused),
        ("mail", "535 5.7.8 bad credentials", NotLoggedIn),
        ("rcpt", "450 4.2.1 mailbox busy", Deferred),
        ("rcpt", "451 4.7.1 greylisted, come back in 300 seconds", Deferred),
        ("rcpt", "452 4.2.2 mailbox full", Deferred),
        ("rcpt", "552 5.2.2 mailbox full", Deferred),
        ("rcpt", "530 5.7.0 authentication required", NotLoggedIn),
        ("rcpt", "534 5.7.9 mechanism too weak", NotLoggedIn),
        ("rcpt", "538 5.7.11 encryption required", NotLoggedIn),
        ("rcpt", "550 5.1.1 no such user", SmtpRefused),
        ("rcpt", "550 5.7.1 relaying denied", SmtpRefused),
        ("rcpt", "550 5.7.26 unauthenticated mail of this domain", Deferred),
        ("rcpt", "550 5.7.515 access denied, sending domain does not meet the level", Deferred),
        ("rcpt", "501 syntax", SmtpRefused),
        ("data", "451 4.3.0 no", Deferred),
        ("data", "554 5.6.0 no valid recipients", SmtpRefused),
        ("dot", "451 4.3.0 content filter is down", Deferred),
        ("dot", "452 4.3.1 no space", Deferred),
        ("dot", "552 5.3.4 too big", SmtpRefused),
        ("dot", "554 5.7.1 looks like spam", SmtpRefused),
    ],
)
async def test_a_reply_decides_between_later_and_never(
    mailbox: Mailbox, phase: Phase, reply: str, error: type[Exception]
) -> None:
    mailbox.replies = lambda asked, _: reply if asked == phase else None
    async with pool_to(mailbox) as pool:
        with pytest.raises((Deferred, SmtpRefused)) as raised:
            await deliver(pool)
        refused = raised.value
        assert isinstance(refused, Deferred | SmtpRefused)
        assert type(refused) is error
        assert str(refused.reply) == reply
        assert reply in str(refused)
        assert mailbox.received == []

        mailbox.replies = lambda _phase, _recipient: None
        await deliver(pool)
        assert mailbox.connections == 2, "after any error, the connection is not used again"


@pytest.mark.parametrize("greeting", ["421 too busy", "554 no service here", "gibberish"])
async def test_a_server_that_greets_otherwise_defers(greeting: str) -> None:
    async with LineServer({"": greeting}) as server, pool_to(server) as pool:
        with pytest.raises(Deferred):
            await deliver(pool)


@pytest.mark.parametrize("verb", ["", "EHLO", "MAIL", "RCPT", "DATA"])
async def test_a_server_that_falls_silent_before_the_message_defers(verb: str) -> None:
    async with LineServer({verb: None}) as server, pool_to(server, **dict.fromkeys(LIMITS, ms(50))) as pool:
        with pytest.raises(Deferred, match="no answer in time"):
            await deliver(pool)


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
async def test_a_server_that_speaks_something_else_before_the_message_defers(verb: str) -> None:
    async with LineServer({verb: f"what? {ADA}"}) as server, pool_to(server) as pool:
        with pytest.raises(Deferred, match="no SMTP") as deferred:
            await deliver(pool)
    assert names_nobody(deferred.value)


async def test_a_server_that_is_not_there_defers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for host, reason in (("127.0.0.1", "Connection refused"), ("mail.invalid", "ame")):
        pool = SmtpPool(host=host, port=port, tls="off")
        with pytest.raises(Deferred, match=reason) as deferred:
            await deliver(pool)
        assert host not in str(deferred.value)


@pytest.mark.parametrize("phase", ["mail", "rcpt", "data"])
async def test_a_connection_lost_before_the_message_defers(mailbox: Mailbox, phase: Phase) -> None:
    mailbox.replies = lambda asked, _: Break.DROP if asked == phase else None
    async with pool_to(mailbox) as pool:
        with pytest.raises(Deferred, match="the connection was lost"):
            await deliver(pool)
    assert mailbox.received == []


async def test_a_connection_lost_while_the_ledger_is_told_defers() -> None:
    async with LineServer() as server, pool_to(server) as pool:

        async def tell() -> None:
            await server.disconnect()
            await asyncio.sleep(0.05)

        with pytest.raises(Deferred, match="just before the message"):
            await pool.deliver(MAIL, sender=SENDER, recipient=ADA, before_dot=tell)
        assert server.heard[-1] == "DATA"


@pytest.mark.parametrize("how", list(Break))
async def test_a_connection_lost_or_silent_after_the_message_leaves_the_outcome_unknown(
    mailbox: Mailbox, how: Break
) -> None:
    mailbox.replies = lambda phase, _: how if phase == "dot" else None
    async with pool_to(mailbox, data_timeout=ms(100)) as pool:
        with pytest.raises(OutcomeUnknown) as unknown:
            await deliver(pool)
    assert names_nobody(unknown.value)
    assert len(mailbox.received) == 1


@pytest.mark.parametrize("reply", [f"what? {ADA}", "354 go on"])
async def test_a_reply_to_the_message_that_makes_no_sense_leaves_the_outcome_unknown(reply: str) -> None:
    async with LineServer({".": reply}) as server, pool_to(server) as pool:
        with pytest.raises(OutcomeUnknown) as unknown:
            await deliver(pool)
    assert names_nobody(unknown.value)


# No address in any text


@pytest.mark.parametrize(
    "text",
    [
        "550 5.1.1 <ada.lovelace@example.com>: unknown",
        "550 5.1.1 ADA.Lovelace@EXAMPLE.com unknown in ada.lovelace's table",
        "550-5.1.1 first line for ada.lovelace@example.com\r\n550 5.1.1 second: user ada.lovelace",
        "451 4.7.1 bookings+ada.lovelace=example.com@travel.example.com deferred",
    ],
)
@pytest.mark.parametrize("phase", ["rcpt", "dot"])
async def test_an_address_in_a_reply_is_in_no_error(mailbox: Mailbox, phase: Phase, text: str) -> None:
    mailbox.replies = lambda asked, _: text if asked == phase else None
    async with pool_to(mailbox) as pool:
        with pytest.raises((Deferred, SmtpRefused)) as raised:
            await deliver(pool)
    assert "[address]" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert names_nobody(raised.value)


async def test_an_address_in_the_reply_that_takes_a_mail_is_not_in_ours() -> None:
    async with LineServer({".": f"250 2.0.0 queued for <{ADA}>"}) as server, pool_to(server) as pool:
        assert str(await deliver(pool)) == "250 2.0.0 queued for <[address]>"


@pytest.mark.parametrize(
    ("text", "logged"),
    [
        ("plain words", "plain words"),
        ("  two\r\nlines\t with \x1b[31mcolour\x00 ", "two lines with [31mcolour"),
        ("not utf-8: \udcff", "not utf-8: ?"),
        ("to <o'hara@example.com>", "to <[address]>"),
        ("x" * 1000, "x" * 500),
    ],
)
def test_a_text_is_fit_for_a_log(text: str, logged: str) -> None:
    assert one_line(text) == logged


def test_a_reply_knows_its_enhanced_status() -> None:
    assert SmtpReply(code=451, text="4.7.1 greylisted").status == "4.7.1"
    assert SmtpReply(code=550, text="no such user in version 5.1.1").status is None


def test_what_comes_before_a_mail_is_not_the_mails_fault() -> None:
    reply: Any = SmtpReply(code=554, text="no service")
    assert isinstance(refusal("connect", reply), Deferred)
    assert isinstance(refusal("AUTH", SmtpReply(code=504, text="unknown mechanism")), Deferred)
