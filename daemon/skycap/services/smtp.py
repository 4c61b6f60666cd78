"""SmtpPool: kept connections to one mail server, each encrypted and logged in before it carries a mail."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Literal

import aiosmtplib

from skycap.errors import ConfigurationError
from skycap.services.recipient import Recipient
from skycap.services.replies import Deferred, NotLoggedIn, SmtpReply, Stage, refusal
from skycap.services.smtp_connection import SmtpConnection, SmtpTerms, network_reason, reply_of

Tls = Literal["starttls", "implicit", "opportunistic", "off"]
"""``starttls`` and ``implicit`` demand it, ``opportunistic`` takes it when offered; the certificate is verified."""

_START_TLS = {"starttls": True, "opportunistic": None}


class SmtpPool:
    """At most ``connections`` to one server, opened when needed and used again, the last one first.

    The time limits are for reaching the server (its greeting included), for each of its replies and for TLS, and for
    its reply after the last byte, which should be generous (RFC 5321 4.5.3.2.6 says 10 minutes): every mail that it
    cuts short may arrive twice. ``mails_per_connection``: relays end one after some hundreds, and a new one finds a
    relay that has moved.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        tls: Tls = "starttls",
        username: str | None = None,
        password: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        ca_file: Path | None = None,
        connections: int = 4,
        mails_per_connection: int = 100,
        connect_timeout: timedelta = timedelta(seconds=10),
        command_timeout: timedelta = timedelta(seconds=30),
        data_timeout: timedelta = timedelta(minutes=5),
        hostname: str | None = None,
        timed: Callable[[str, float], None] = lambda _phase, _seconds: None,
    ) -> None:
        """``timed`` is told of each phase that went well how many seconds it took."""
        self.data_timeout = data_timeout
        self._host = host
        self._port = port
        self._tls: Tls = tls
        self._username = username
        self._password = password
        self._ssl_context = ssl_context or (None if tls == "off" else _ssl_context(ca_file))
        self._connect_timeout = connect_timeout
        self._command_timeout = command_timeout
        self._timed = timed
        self._hostname = hostname or socket.gethostname()
        self._connections = connections
        self._mails_per_connection = mails_per_connection
        self._slots = asyncio.Semaphore(connections)
        self._idle: list[SmtpConnection] = []
        self._is_closed = False

    def __repr__(self) -> str:
        return f"SmtpPool({self._host}:{self._port}, {self._tls})"

    async def deliver(
        self, message: bytes, *, sender: str, recipient: Recipient | str, before_dot: Callable[[], Awaitable[None]]
    ) -> SmtpReply:
        """Send ``message`` to one recipient and return the reply by which the server took it.

        ``sender`` is the envelope's, to which bounces go; it may be another one for each mail. A Recipient saves the
        0.05 ms of parsing an address.
        ``before_dot`` is awaited when the server is ready for the message, before any of it is written; what it raises
        passes, and nothing is sent. Raises Deferred and SmtpRefused when the server has not taken the mail, and
        OutcomeUnknown when nobody can know. Only a connection on which all went well is used again.
        """
        to = Recipient.parse(recipient) if isinstance(recipient, str) else recipient
        async with self._slots:
            connection = await self._connected()
            try:
                return await connection.deliver(message, sender=sender, recipient=to, before_dot=before_dot)
            finally:
                self._keep(connection)

    async def ping(self) -> None:
        """Raises Deferred when the server cannot be reached or does not let us in.

        Waits for no mail: when all connections are in use, there is one more for the moment.
        """
        connection = await self._connected()
        try:
            await connection.check()
        except BaseException:
            connection.drop()
            raise
        self._keep(connection)

    async def look(self) -> SmtpTerms:
        """Log in on a connection of its own, offer no mail, and take leave. Raises as ``ping`` does."""
        connection = await self._connect()
        try:
            return connection.terms
        finally:
            await connection.quit()

    async def close(self) -> None:
        """Take leave on all idle connections; those in use are ended when their mail is through."""
        self._is_closed = True
        idle, self._idle = self._idle, []
        await asyncio.gather(*(connection.quit() for connection in idle))

    async def _connected(self) -> SmtpConnection:
        while self._idle:
            connection = self._idle.pop()
            if await connection.is_usable():
                return connection
        if self._is_closed:
            raise Deferred("the connections are closed, since the daemon is stopping")
        return await self._connect()

    async def _connect(self) -> SmtpConnection:
        smtp = aiosmtplib.SMTP(
            hostname=self._host,
            port=self._port,
            local_hostname=self._hostname,
            timeout=self._command_timeout.total_seconds(),
            use_tls=self._tls == "implicit",
            start_tls=_START_TLS.get(self._tls, False),
            tls_context=self._ssl_context,
        )
        began = time.perf_counter()
        try:
            await smtp.connect(timeout=self._connect_timeout.total_seconds())
            await self._introduce(smtp)
            self._timed("connect", time.perf_counter() - began)
            return SmtpConnection(
                smtp, command_timeout=self._command_timeout, data_timeout=self.data_timeout, timed=self._timed
            )
        except aiosmtplib.SMTPResponseException as error:
            smtp.close()
            if error.code == aiosmtplib.SMTPStatus.invalid_response:
                raise Deferred("the mail server's reply was no SMTP (at connect)") from None
            stage: Stage = "AUTH" if isinstance(error, aiosmtplib.SMTPAuthenticationError) else "connect"
            # Not `from` it: it quotes the server, who may name the account.
            raise refusal(stage, reply_of(error.code, error.message, self._username or "")) from None
        except (aiosmtplib.SMTPException, OSError) as error:
            smtp.close()
            raise Deferred(f"no connection to the mail server: {network_reason(error)}") from error
        except BaseException:
            smtp.close()
            raise

    async def _introduce(self, smtp: aiosmtplib.SMTP) -> None:
        if smtp.is_ehlo_or_helo_needed:
            await smtp.ehlo()
        if self._username is None:
            return
        # aiosmtplib would log in by itself, but in clear text where `opportunistic` found no TLS.
        if self._tls != "off" and smtp.get_transport_info("sslcontext") is None:
            raise NotLoggedIn("the mail server offers no TLS, and the password is not sent without it")
        if not smtp.supports_extension("auth"):
            raise NotLoggedIn("the mail server offers no log-in: does it need the user name that is configured?")
        await smtp.login(self._username, self._password or "")

    def _keep(self, connection: SmtpConnection) -> None:
        is_used_up = connection.mails >= self._mails_per_connection
        if not connection.is_reusable:
            connection.drop()
        elif self._is_closed or is_used_up or len(self._idle) >= self._connections:
            connection.hang_up()
        else:
            self._idle.append(connection)
            connection.rest(on_expiry=self._idle.remove)


def _ssl_context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ConfigurationError(f"the mail server's CA file {ca_file} cannot be used: {error.strerror}") from error
