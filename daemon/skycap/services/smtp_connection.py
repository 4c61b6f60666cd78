"""SmtpConnection: one conversation with a mail server, from the moment that it has let us in.

aiosmtplib connects, encrypts and logs in; what follows is spoken here. The message is written in a step of its own, so
that the ledger can be told before it, and so that it is known on which side of that step a connection broke. Where the
server takes several commands at once (PIPELINING, RFC 2920), a mail costs two round trips instead of four.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import NamedTuple, cast

import aiosmtplib

from skycap.services.recipient import Recipient
from skycap.services.replies import (
    Deferred,
    OutcomeUnknown,
    ReplyClass,
    SmtpRefused,
    SmtpReply,
    Stage,
    one_line,
    refusal,
)

_DROPPED_AFTER_IDLE = timedelta(seconds=30)
_CHECKED_AFTER_IDLE = timedelta(seconds=10)

_GOODBYE = timedelta(seconds=2)

_COMPLETED = range(200, 300)
_START_INPUT = range(354, 355)
_REFUSED = 400

_LONGEST_REPLY_BYTES = 64 * 1024
"""RFC 5321 4.5.3.1.5 allows a line 512; what is longer than this would never end."""

_REPLY_LINE = re.compile(rb"([2-5]\d\d)(?:([ -])(.*?))?\r?", re.DOTALL)
_LINE_END = re.compile(rb"\r\n|\r|\n")
_UNSAFE_IN_A_COMMAND = re.compile(rb"[\x00-\x1f\x7f]")


class SmtpTerms(NamedTuple):
    """On which a server takes mails; None where it does not say, or nothing is encrypted."""

    tls: str | None
    certificate_ends: str | None
    """As Python's ssl tells it: ``Nov 28 12:00:00 2027 GMT``."""
    largest_bytes: int | None


class SmtpConnection:
    """One conversation with the server, which has greeted us and let us in."""

    def __init__(
        self,
        smtp: aiosmtplib.SMTP,
        *,
        command_timeout: timedelta,
        data_timeout: timedelta,
        timed: Callable[[str, float], None] = lambda _phase, _seconds: None,
    ) -> None:
        """Takes over what ``smtp`` has connected; raises Deferred when that is gone by now."""
        self.mails = 0
        self._timed = timed
        self._offers = smtp.esmtp_extensions
        self._command_seconds = command_timeout.total_seconds()
        self._data_seconds = data_timeout.total_seconds()
        self._loop = asyncio.get_running_loop()
        self._rests_since = self._loop.time()
        self._expiry: asyncio.TimerHandle | None = None
        self._is_between_mails = True
        if smtp.transport is None:
            raise Deferred("the connection was lost as soon as it was there")
        self._wire = _Wire(smtp.transport)

    @property
    def is_reusable(self) -> bool:
        """Whether the server waits for another mail: no command has failed, and none is underway."""
        return self._is_between_mails and self._wire.is_open

    @property
    def terms(self) -> SmtpTerms:
        certificate: Mapping[str, str] = self._wire.transport.get_extra_info("peercert") or {}
        encryption: ssl.SSLObject | None = self._wire.transport.get_extra_info("ssl_object")
        return SmtpTerms(
            tls=None if encryption is None else encryption.version(),
            certificate_ends=certificate.get("notAfter"),
            largest_bytes=self._largest_bytes,
        )

    async def deliver(
        self, message: bytes, *, sender: str, recipient: Recipient, before_dot: Callable[[], Awaitable[None]]
    ) -> SmtpReply:
        message = with_line_ends(message)
        commands = self._envelope(message, sender, recipient)
        known = (sender, recipient.address, recipient.ascii_address or "")
        self.mails += 1
        self._is_between_mails = False
        began = self._loop.time()
        await self._offer(commands, known)
        self._timed("envelope", self._loop.time() - began)
        await before_dot()
        began = self._loop.time()
        reply = await self._hand_over(message, known)
        self._timed("message", self._loop.time() - began)
        self._is_between_mails = True
        return reply

    async def check(self) -> None:
        """Raises Deferred unless the server answers."""
        await self._offer([_Command("connect", b"NOOP\r\n")], ())

    async def is_usable(self) -> bool:
        """Whether the server still listens; when in doubt it is asked."""
        self._wake()
        if not self._wire.is_open:
            self.drop()
            return False
        if self._loop.time() - self._rests_since < _CHECKED_AFTER_IDLE.total_seconds():
            return True
        try:
            await self.check()
        except Deferred:
            self.drop()
            return False
        except BaseException:
            self.drop()
            raise
        return True

    def rest(self, *, on_expiry: Callable[[SmtpConnection], None]) -> None:
        """Wait for the next mail, for a while."""

        def expire() -> None:
            on_expiry(self)
            self.hang_up()

        self._rests_since = self._loop.time()
        self._expiry = self._loop.call_later(_DROPPED_AFTER_IDLE.total_seconds(), expire)

    def drop(self) -> None:
        """End it where it stands. What is still unsent of a message that was given up stays unsent."""
        self._wake()
        cut(self._wire.transport)

    def hang_up(self) -> None:
        """End it between two mails, without waiting for the server's goodbye."""
        self._wake()
        with suppress(OSError, _NoSmtp):
            self._wire.write(b"QUIT\r\n", replies=1)
        self._wire.transport.close()

    async def quit(self) -> None:
        """End it between two mails; a server that does not answer is left alone after a moment."""
        self._wake()
        with suppress(OSError, _NoSmtp):
            self._wire.write(b"QUIT\r\n", replies=1)
            await self._wire.reply(_GOODBYE.total_seconds())
        self._wire.transport.close()

    def _wake(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def _envelope(self, message: bytes, sender: str, recipient: Recipient) -> list[_Command]:
        """MAIL, RCPT and DATA; raises SmtpRefused for what this server would not take."""
        options = self._options(message, recipient)
        mail = b" ".join([f"MAIL FROM:<{sender}>".encode(), *options])
        rcpt = f"RCPT TO:<{recipient.ascii_address or recipient.address}>".encode()
        if _UNSAFE_IN_A_COMMAND.search(mail + rcpt):
            raise ValueError("an envelope address has a control character in it")
        return [
            _Command("MAIL", mail + b"\r\n"),
            _Command("RCPT", rcpt + b"\r\n"),
            _Command("DATA", b"DATA\r\n", expects=_START_INPUT),
        ]

    def _options(self, message: bytes, recipient: Recipient) -> list[bytes]:
        options: list[bytes] = []
        if "size" in self._offers:
            limit = self._largest_bytes
            if limit is not None and limit < len(message):
                problem = f"the message has {len(message)} bytes, and the mail server takes {limit}"
                raise SmtpRefused(problem, reply_class=ReplyClass.MESSAGE_REFUSED)
            options.append(b"SIZE=%d" % len(message))
        if "8bitmime" in self._offers and not message.isascii():
            options.append(b"BODY=8BITMIME")
        if recipient.ascii_address is None:
            if "smtputf8" not in self._offers:
                problem = "the recipient is not ASCII (EAI), and the mail server has no SMTPUTF8"
                raise SmtpRefused(problem, reply_class=ReplyClass.EAI)
            options.append(b"SMTPUTF8")
        return options

    @property
    def _largest_bytes(self) -> int | None:
        limit = self._offers.get("size", "").strip()
        return int(limit) or None if limit.isdecimal() else None  # RFC 1870: 0 is no limit

    async def _offer(self, commands: list[_Command], known: tuple[str, ...]) -> None:
        """Say them, and return when each was answered as expected; the first that was not is what is raised.

        RFC 2920 3.1 has a client end the message with a lone dot when RCPT was refused and DATA was not. Here the
        caller drops the connection, which ends it as well, and cannot make a muddled server deliver an empty mail.
        """
        for group in [commands] if "pipelining" in self._offers else [[command] for command in commands]:
            for number, command in enumerate(group):
                try:
                    if number == 0:
                        self._wire.write(b"".join(each.line for each in group), replies=len(group))
                    code, text = await self._wire.reply(self._command_seconds)
                except _NoSmtp:
                    raise Deferred(f"the mail server's reply was no SMTP (at {command.stage})") from None
                except OSError as error:
                    raise Deferred(f"{network_reason(error)} (at {command.stage})") from error
                if code not in command.expects:
                    raise refusal(command.stage, reply_of(code, text, *known))

    async def _hand_over(self, message: bytes, known: tuple[str, ...]) -> SmtpReply:
        """Write the message and learn what the server says to it. From the first byte on, a loss tells nothing."""
        try:
            self._wire.write(_with_dots(message), replies=1)
        except (OSError, _NoSmtp):
            raise Deferred("the connection was lost just before the message") from None
        try:
            code, text = await self._wire.reply(self._data_seconds)
        except _NoSmtp:
            raise OutcomeUnknown("the mail server's reply to the message was no SMTP") from None
        except OSError as error:
            raise OutcomeUnknown(f"no reply of the mail server to the message: {network_reason(error)}") from error
        reply = reply_of(code, text, *known)
        if reply.code in _COMPLETED:
            return reply
        if reply.code < _REFUSED:
            raise OutcomeUnknown(f"the mail server's reply to the message makes no sense: {reply}")
        raise refusal("end of DATA", reply)


class _Command(NamedTuple):
    stage: Stage
    line: bytes
    expects: range = _COMPLETED


class _NoSmtp(Exception):
    """The server said what is no reply, or replied to what it was not asked."""


class _Wire(asyncio.Protocol):
    """Commands out, replies in, over a transport that had another protocol until now."""

    def __init__(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.WriteTransport", transport)
        self._unread = b""
        self._lines: list[bytes] = []
        self._lines_bytes = 0
        self._replies: deque[tuple[int, str]] = deque()
        self._expected = 0
        self._reader: asyncio.Future[None] | None = None
        self._end: Exception | None = None
        transport.set_protocol(self)

    @property
    def is_open(self) -> bool:
        return self._end is None and not self.transport.is_closing()

    def write(self, data: bytes, *, replies: int) -> None:
        """Raises OSError or _NoSmtp when the conversation is over by now."""
        if self._end is not None:
            raise self._end
        if self.transport.is_closing():
            raise ConnectionResetError
        self._expected += replies
        self.transport.write(data)

    async def reply(self, seconds: float) -> tuple[int, str]:
        """The next reply; TimeoutError when it is not complete in time, OSError or _NoSmtp when there is none."""
        if not self._replies and self._end is None:
            self._reader = asyncio.get_running_loop().create_future()
            async with asyncio.timeout(seconds):
                await self._reader
        if not self._replies:
            raise self._end or ConnectionResetError
        self._expected -= 1
        return self._replies.popleft()

    def data_received(self, data: bytes) -> None:
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._take(line)
        is_endless = len(self._unread) + self._lines_bytes > _LONGEST_REPLY_BYTES
        if is_endless or len(self._replies) > self._expected:
            self._finish(_NoSmtp())
        if self._replies:
            self._call_reader()

    def eof_received(self) -> None:
        self._finish(ConnectionResetError())

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(exc if exc is not None and not isinstance(exc, ConnectionError) else ConnectionResetError())

    def _take(self, line: bytes) -> None:
        found = _REPLY_LINE.fullmatch(line)
        if found is None or self._end is not None:
            self._finish(_NoSmtp())
            return
        self._lines.append(found[3] or b"")
        self._lines_bytes += len(line)
        if found[2] != b"-":
            text = b"\n".join(self._lines).decode("utf-8", "surrogateescape")
            self._lines.clear()
            self._lines_bytes = 0
            self._replies.append((int(found[1]), text))

    def _finish(self, error: Exception) -> None:
        """Nothing more is said or heard; what has been heard can still be read."""
        if self._end is None:
            self._end = error
            self._unread = b""
            self._call_reader()

    def _call_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


def cut(transport: asyncio.BaseTransport) -> None:
    """Abort it, whatever was done to it before.

    Python 3.11.2's abort() raises AttributeError on a TLS transport that was closed twice; later versions do not.
    """
    with suppress(AttributeError):
        cast("asyncio.WriteTransport", transport).abort()


def reply_of(code: int, text: str, *known: str) -> SmtpReply:
    return SmtpReply(code=code, text=one_line(text, *known))


def network_reason(error: Exception) -> str:
    """In words of our own where the error's would name the host."""
    cause = error.__cause__ or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed: {cause.reason}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(cause, socket.gaierror):
        return str(cause.strerror)
    if isinstance(cause, OSError):
        return os.strerror(cause.errno) if cause.errno else "the connection was lost"
    return str(cause)


def with_line_ends(message: bytes) -> bytes:
    """With CRLF throughout, also at its end: as it goes over the wire."""
    pairs = message.count(b"\r\n")
    if message.count(b"\n") != pairs or message.count(b"\r") != pairs:
        message = _LINE_END.sub(b"\r\n", message)
    return message if message.endswith(b"\r\n") else message + b"\r\n"


def _with_dots(message: bytes) -> bytes:
    """With a second dot before each that begins a line (RFC 5321 4.5.2), and with the one that ends it."""
    if message.startswith(b"."):
        message = b"." + message
    return message.replace(b"\n.", b"\n..") + b".\r\n"
