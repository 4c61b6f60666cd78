"""SmtpConnection: one conversation with a mail server.

aiosmtplib's own ``data`` sends the command and the message in one go. Here the message is written in a step of its
own, so that the ledger can be told in between, and so that it is known on which side of that step a connection broke.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import cast

import aiosmtplib

from skycap.services.recipient import Recipient
from skycap.services.replies import (
    Deferred,
    OutcomeUnknown,
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

_LINE_END = re.compile(rb"\r\n|\r|\n")
_LEADING_DOT = re.compile(rb"^\.", re.MULTILINE)


class SmtpConnection:
    """One conversation with the server, which has greeted us and let us in."""

    def __init__(self, smtp: aiosmtplib.SMTP, *, data_timeout: timedelta) -> None:
        self.mails = 0
        self._smtp = smtp
        self._data_timeout = data_timeout
        self._loop = asyncio.get_running_loop()
        self._rests_since = self._loop.time()
        self._expiry: asyncio.TimerHandle | None = None

    async def deliver(
        self, message: bytes, *, sender: str, recipient: Recipient, before_dot: Callable[[], Awaitable[None]]
    ) -> SmtpReply:
        self.mails += 1
        message = _with_line_ends(message)
        known = (sender, recipient.address, recipient.ascii_address or "")
        await self._offer(message, sender, recipient, known)
        await before_dot()
        return await self._hand_over(message, known)

    async def check(self) -> None:
        """Raises Deferred unless the server answers."""
        await self._command("connect", b"NOOP")

    async def is_usable(self) -> bool:
        """Whether the server still listens; when in doubt it is asked."""
        self._wake()
        if not self._smtp.is_connected:
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
        if self._smtp.transport is not None:
            cut(self._smtp.transport)
        self._smtp.close()

    def hang_up(self) -> None:
        """End it between two mails, without waiting for the server's goodbye."""
        self._wake()
        if self._smtp.protocol is not None:
            with suppress(aiosmtplib.SMTPServerDisconnected):
                self._smtp.protocol.write(b"QUIT\r\n")
        self._smtp.close()

    async def quit(self) -> None:
        """End it between two mails; a server that does not answer is left alone after a moment."""
        self._wake()
        with suppress(aiosmtplib.SMTPException, OSError):
            await self._smtp.quit(timeout=_GOODBYE.total_seconds())
        self._smtp.close()

    def _wake(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    async def _offer(self, message: bytes, sender: str, recipient: Recipient, known: tuple[str, ...]) -> None:
        """MAIL, RCPT and DATA; afterwards the server waits for the message."""
        address = recipient.ascii_address or recipient.address
        options = [b"SIZE=%d" % len(message)] if self._smtp.supports_extension("size") else []
        if not message.isascii() and self._smtp.supports_extension("8bitmime"):
            options.append(b"BODY=8BITMIME")
        if recipient.ascii_address is None:
            if not self._smtp.supports_extension("smtputf8"):
                raise SmtpRefused("the recipient is not ASCII (EAI), and the mail server has no SMTPUTF8")
            options.append(b"SMTPUTF8")
        await self._command("MAIL", b"MAIL", f"FROM:<{sender}>".encode(), *options, known=known)
        await self._command("RCPT", b"RCPT", f"TO:<{address}>".encode(), known=known)
        await self._command("DATA", b"DATA", known=known, expected=_START_INPUT)

    async def _hand_over(self, message: bytes, known: tuple[str, ...]) -> SmtpReply:
        """Write the message and learn what the server says to it. From the first byte on, a loss tells nothing."""
        protocol = self._smtp.protocol
        if protocol is None or not protocol.is_connected:
            raise Deferred("the connection was lost just before the message")
        protocol.write(_LEADING_DOT.sub(b"..", message) + b".\r\n")
        try:
            response = await protocol.read_response(timeout=self._data_timeout.total_seconds())
        except aiosmtplib.SMTPResponseException:
            raise OutcomeUnknown("the mail server's reply to the message was no SMTP") from None
        except (aiosmtplib.SMTPException, OSError) as error:
            raise OutcomeUnknown(f"no reply of the mail server to the message: {network_reason(error)}") from error
        reply = reply_of(response.code, response.message, *known)
        if reply.code in _COMPLETED:
            return reply
        if reply.code < _REFUSED:
            raise OutcomeUnknown(f"the mail server's reply to the message makes no sense: {reply}")
        raise refusal("end of DATA", reply)

    async def _command(
        self, stage: Stage, *words: bytes, known: tuple[str, ...] = (), expected: range = _COMPLETED
    ) -> None:
        try:
            response = await self._smtp.execute_command(*words)
        except aiosmtplib.SMTPResponseException:
            raise Deferred(f"the mail server's reply was no SMTP (at {stage})") from None
        except (aiosmtplib.SMTPException, OSError) as error:
            raise Deferred(f"{network_reason(error)} (at {stage})") from error
        if response.code not in expected:
            raise refusal(stage, reply_of(response.code, response.message, *known))


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


def _with_line_ends(message: bytes) -> bytes:
    """With CRLF throughout, also at its end."""
    lines = _LINE_END.sub(b"\r\n", message)
    return lines if lines.endswith(b"\r\n") else lines + b"\r\n"
