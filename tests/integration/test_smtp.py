"""SmtpPool against real servers: what it never sends, what it keeps, and what each way to fail means."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from skycap.demo.mailbox import Break, Mailbox, Phase
from skycap.errors import ConfigurationError, MailRefused, Unavailable
from skycap.services import smtp_connection
from skycap.services.recipient import Recipient
from skycap.services.replies import (
    Deferred,
    NotLoggedIn,
    OutcomeUnknown,
    ReplyClass,
    SenderRefused,
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


PIPELINING = b"250-localhost\r\n250-PIPELINING\r\n250 SIZE 1000000\r\n"
BY_THE_BOOK = {
    "": b"220 localhost\r\n",
    "EHLO": b"250 localhost\r\n",
    "MAIL": b"250 fine\r\n",
    "RCPT": b"250 fine\r\n",
    "DATA": b"354 go on\r\n",
    ".": b"250 queued\r\n",
    "NOOP": b"250 fine\r\n",
    "QUIT": b"221 bye\r\n",
}


class ScriptedServer(LineServer):
    """Says to its first client the bytes that ``says`` has for a verb, and nothing to what it does not know.

    The next clients are served by the book. ``pause`` is between each two bytes of an answer. ``pieces`` is what came,
    as it came.
    """

    def __init__(self, says: Mapping[str, bytes], *, pause: timedelta | None = None) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self._says = says
        self._pause = pause

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers = BY_THE_BOOK | (dict(self._says) if self.connections == 1 else {})
        await self._write(writer, answers[""])
        while piece := await reader.read(65536):
            self.pieces.append(piece)
            for verb in _verbs(piece):
                await self._write(writer, answers.get(verb, b""))

    async def _write(self, writer: asyncio.StreamWriter, answer: bytes) -> None:
        if self._pause is None:
            writer.write(answer)
            await writer.drain()
            return
        for byte in answer:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(self._pause.total_seconds())


def _verbs(piece: bytes) -> list[str]:
    if piece.endswith(b"\r\n.\r\n"):
        return ["."]
    return [line.split(b" ")[0].decode("latin-1") for line in piece.splitlines()]


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


async def test_a_message_larger_than_the_server_takes_is_refused_without_being_sent() -> None:
    answers = {"EHLO": f"250-localhost\r\n250 SIZE {len(MAIL) - 1}"}
    async with LineServer(answers) as server, pool_to(server) as pool:
        with pytest.raises(SmtpRefused, match=f"has {len(MAIL)} bytes, and the mail server takes {len(MAIL) - 1}") as e:
            await deliver(pool)
        assert e.value.reply_class is ReplyClass.MESSAGE_REFUSED
        await deliver(pool, MAIL[:-6])
        assert server.heard[1] == f"MAIL FROM:<{SENDER}> SIZE={len(MAIL) - 4}", "with the line end that was missing"
        assert server.connections == 1, "a connection on which nothing was said is as good as before"


@pytest.mark.parametrize("size", ["SIZE", "SIZE 0", "SIZE nonsense"])
async def test_a_server_that_names_no_size_takes_any(size: str) -> None:
    async with LineServer({"EHLO": f"250-localhost\r\n250 {size}"}) as server, pool_to(server) as pool:
        await deliver(pool)


async def test_each_mail_may_have_a_sender_of_its_own() -> None:
    async with LineServer() as server, pool_to(server) as pool:
        for sender in ("bounces+1@travel.example.com", "bounces+2@travel.example.com"):
            await pool.deliver(MAIL, sender=sender, recipient=ADA, before_dot=nothing_to_tell)
        assert [line.split()[1] for line in server.heard if line.startswith("MAIL")] == [
            "FROM:<bounces+1@travel.example.com>",
            "FROM:<bounces+2@travel.example.com>",
        ]
        with pytest.raises(ValueError, match="control character"):
            await pool.deliver(MAIL, sender="a@b\r\nRSET", recipient=ADA, before_dot=nothing_to_tell)


async def test_an_address_that_was_parsed_before_is_taken_as_it_is(pool: SmtpPool, mailbox: Mailbox) -> None:
    await pool.deliver(MAIL, sender=SENDER, recipient=Recipient.parse(ADA), before_dot=nothing_to_tell)
    assert mailbox.received[0].recipient == ADA


async def test_a_domain_beyond_ascii_is_sent_in_its_ascii_form(pool: SmtpPool, mailbox: Mailbox) -> None:
    await deliver(pool, recipient="ada@şirket.example.com")
    assert mailbox.received[0].recipient == "ada@xn--irket-idb.example.com"


async def test_a_local_part_beyond_ascii_needs_smtputf8(pool: SmtpPool) -> None:
    with pytest.raises(SmtpRefused, match="EAI") as refused:
        await deliver(pool, recipient="ayşe.lovelace@example.com")
    assert refused.value.reply_class is ReplyClass.EAI
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


async def test_a_server_that_offers_no_log_in_holds_the_mail(tmp_path: Path) -> None:
    async with LineServer() as server, pool_to(server, username=USERNAME, password=PASSWORD) as pool:
        with pytest.raises(NotLoggedIn, match="offers no log-in"):
            await deliver(pool)


@pytest.mark.parametrize(
    ("says", "options"),
    [
        ({"": b""}, {"tls": "implicit"}),
        ({"EHLO": b"250-localhost\r\n250 STARTTLS\r\n"}, {"tls": "starttls"}),
        ({"EHLO": b"250-localhost\r\n250 STARTTLS\r\n", "STARTTLS": b"220 go\r\n"}, {"tls": "starttls"}),
        ({"EHLO": b"250-localhost\r\n250 AUTH PLAIN\r\n"}, {"username": USERNAME, "password": PASSWORD}),
    ],
    ids=["TLS from the start", "STARTTLS", "TLS after STARTTLS", "AUTH"],
)
async def test_each_step_of_the_introduction_has_a_time_limit(says: dict[str, bytes], options: dict[str, Any]) -> None:
    async with ScriptedServer(says) as server, pool_to(server, **dict.fromkeys(LIMITS, ms(100)), **options) as pool:
        with pytest.raises(Deferred, match="no answer in time"):
            await asyncio.wait_for(deliver(pool), 5)


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


async def test_a_connection_ends_after_so_many_mails(mailbox: Mailbox) -> None:
    async with pool_to(mailbox, mails_per_connection=3) as pool:
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
    return not connection.is_reusable


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
        ("mail", "553 5.7.1 sender not allowed", SenderRefused),
        ("mail", "535 5.7.8 bad credentials", NotLoggedIn),
        ("rcpt", "450 4.2.1 mailbox busy", Deferred),
        ("rcpt", "451 4.7.1 greylisted, come back in 300 seconds", Deferred),
        ("rcpt", "452 4.2.2 mailbox full", Deferred),
        ("rcpt", "552 5.2.2 mailbox full", Deferred),
        ("rcpt", "530 5.7.0 authentication required", NotLoggedIn),
        ("rcpt", "534 5.7.9 mechanism too weak", NotLoggedIn),
        ("rcpt", "538 5.7.11 encryption required", NotLoggedIn),
        ("rcpt", "550 5.1.1 no such user", SmtpRefused),
        ("rcpt", "550 5.7.1 relaying denied", SenderRefused),
        ("rcpt", "550 5.7.26 unauthenticated mail of this domain", SenderRefused),
        ("rcpt", "550 5.7.515 access denied, sending domain does not meet the level", SenderRefused),
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


# A server that speaks nonsense


NONSENSE = {
    "garbage": b"hello there\r\n",
    "binary": bytes(range(256)) + b"\r\n",
    "an endless line": b"2" * 100_000,
    "an endless reply": b"250-\r\n" * 20_000,
    "a code of two digits": b"25 fine\r\n",
    "a code of four digits": b"2500 fine\r\n",
    "a code that no server has": b"999 fine\r\n",
    "two replies": b"250 one\r\n250 two\r\n",
    "a reply and garbage": b"250 one\r\nhello\r\n",
    "another server's greeting": b"HTTP/1.1 400 Bad Request\r\n\r\n",
}


def scripted(verb: str, says: bytes, *, pipelining: bool) -> ScriptedServer:
    return ScriptedServer(({"EHLO": PIPELINING} if pipelining else {}) | {verb: says})


async def next_mail_works(pool: SmtpPool, server: ScriptedServer) -> None:
    await deliver(pool)
    assert server.connections == 2


@pytest.mark.parametrize("pipelining", [False, True], ids=["in turn", "at once"])
@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("says", NONSENSE.values(), ids=NONSENSE)
async def test_nonsense_before_the_message_defers(says: bytes, verb: str, pipelining: bool) -> None:
    async with scripted(verb, says, pipelining=pipelining) as server, pool_to(server) as pool:
        with pytest.raises(Deferred) as deferred:
            await deliver(pool)
        assert "in time" not in str(deferred.value), "it is told by what was said, and not by waiting for more"
        assert not any(piece.startswith(b"From:") for piece in server.pieces), "the message was not sent"
        await next_mail_works(pool, server)


@pytest.mark.parametrize("says", [*NONSENSE.values(), b"354 go on\r\n"], ids=[*NONSENSE, "354"])
async def test_nonsense_after_the_message_is_no_refusal(says: bytes) -> None:
    async with scripted(".", says, pipelining=False) as server, pool_to(server) as pool:
        if says.startswith(b"250 one\r\n"):
            assert str(await deliver(pool)) == "250 one", "what was said first was clear"
        else:
            with pytest.raises(OutcomeUnknown):
                await deliver(pool)
        await next_mail_works(pool, server)


@pytest.mark.parametrize(
    "greeting",
    [says for name, says in NONSENSE.items() if name not in {"two replies", "a reply and garbage"}],
)
async def test_a_nonsensical_greeting_defers(greeting: bytes) -> None:
    async with scripted("", greeting, pipelining=False) as server, pool_to(server) as pool:
        with pytest.raises(Deferred) as deferred:
            await deliver(pool)
        assert deferred.value.counts_against_server
        await next_mail_works(pool, server)


async def test_a_greeting_that_drips_has_a_time_limit() -> None:
    slow = ScriptedServer({"": b"220-" + b"x" * 1000}, pause=ms(5))
    async with slow as server, pool_to(server, connect_timeout=ms(100)) as pool:
        with pytest.raises(Deferred, match="no answer in time"):
            await asyncio.wait_for(deliver(pool), 5)


@pytest.mark.parametrize("verb", ["MAIL", "DATA"])
async def test_a_reply_that_drips_has_a_time_limit(verb: str) -> None:
    slow = ScriptedServer({verb: b"250-" + b"x" * 1000}, pause=ms(5))
    async with slow as server, pool_to(server, command_timeout=ms(200)) as pool:
        with pytest.raises(Deferred, match="no answer in time"):
            await asyncio.wait_for(deliver(pool), 5)


async def test_a_reply_in_single_bytes_and_eight_bits_is_a_reply() -> None:
    says = {"RCPT": "250-güzel\r\n250 ok\r\n".encode("latin-1"), ".": b"250-2.0.0 one\r\n250 2.0.0 \xfftwo\r\n"}
    async with ScriptedServer(says, pause=ms(0)) as server, pool_to(server) as pool:
        assert str(await deliver(pool)) == "250 2.0.0 one 2.0.0 ?two"
        await deliver(pool)
        assert server.connections == 1


async def test_250_in_the_place_of_354_defers() -> None:
    async with scripted("DATA", b"250 fine\r\n", pipelining=True) as server, pool_to(server) as pool:
        with pytest.raises(Deferred, match=r"250 fine \(at DATA\)"):
            await deliver(pool)
        await next_mail_works(pool, server)


async def test_a_server_that_speaks_between_two_mails_is_not_listened_to() -> None:
    async with LineServer() as server, pool_to(server) as pool:
        await deliver(pool)
        await server.say("250 2.0.0 queued")
        await eventually(lambda: _is_gone(pool))
        await deliver(pool)
        assert server.connections == 2


# Several commands at once


async def test_a_mail_takes_two_round_trips_where_the_server_takes_several_commands_at_once() -> None:
    async with scripted("EHLO", PIPELINING, pipelining=True) as server, pool_to(server) as pool:
        await deliver(pool)
        await deliver(pool)
        commands = f"MAIL FROM:<{SENDER}> SIZE={len(MAIL)}\r\nRCPT TO:<{ADA}>\r\nDATA\r\n".encode()
        assert server.pieces[1:] == [commands, MAIL + b".\r\n"] * 2


async def test_the_ledger_is_told_between_the_commands_and_the_message_also_when_they_are_sent_at_once() -> None:
    async with scripted("EHLO", PIPELINING, pipelining=True) as server, pool_to(server) as pool:
        heard: list[bytes] = []

        async def tell() -> None:
            await asyncio.sleep(0.02)
            heard.extend(server.pieces)

        await pool.deliver(MAIL, sender=SENDER, recipient=ADA, before_dot=tell)
        assert heard[-1].endswith(b"DATA\r\n")
        assert server.pieces[-1] == MAIL + b".\r\n"


@pytest.mark.parametrize("data", [b"354 go on\r\n", b"554 no valid recipients\r\n", b"503 bad sequence\r\n"])
@pytest.mark.parametrize(
    ("verb", "says", "error"),
    [
        ("MAIL", b"550 no\r\n", SenderRefused),
        ("MAIL", b"421 shutting down\r\n", Deferred),
        ("RCPT", b"550 5.1.1 no such user\r\n", SmtpRefused),
        ("RCPT", b"450 4.7.1 Greylisted for 300 seconds\r\n", Deferred),
    ],
)
async def test_a_refused_command_counts_though_the_server_waits_for_the_message(
    verb: str, says: bytes, error: type[Exception], data: bytes
) -> None:
    says_at_once = {"EHLO": PIPELINING, verb: says, "DATA": data}
    told: list[str] = []

    async def tell() -> None:
        told.append("dot")

    async with ScriptedServer(says_at_once) as server, pool_to(server) as pool:
        with pytest.raises((Deferred, SmtpRefused)) as raised:
            await pool.deliver(MAIL, sender=SENDER, recipient=ADA, before_dot=tell)
        assert type(raised.value) is error
        await next_mail_works(pool, server)
        assert told == []
        assert [piece for piece in server.pieces if piece.endswith(b".\r\n")] == [MAIL + b".\r\n"], "no empty mail"


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
