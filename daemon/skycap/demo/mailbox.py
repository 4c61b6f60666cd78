"""Mailbox: a real mail server on this machine that keeps what it is sent as files; for the demo and for tests.

It speaks STARTTLS and wants a password, as a relay does, and refuses or breaks off where a script says so.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email import policy
from email.parser import BytesHeaderParser
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeAlias, cast
from urllib.parse import quote

import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from skycap.services.smtp_connection import cut

_HOST = "127.0.0.1"

_UNSAFE = re.compile(r"[^A-Za-z0-9.@+-]+")
_NUMBERED = re.compile(r"(\d+)-.*\.eml")
_LONGEST_NAME = 120

Phase = Literal["mail", "rcpt", "data", "dot"]
"""Which reply is decided: that to MAIL, RCPT, DATA, or to the message itself."""


class Break(Enum):
    """What a script may do instead of replying. In the phase dot, the mail is kept nevertheless."""

    DROP = "close the connection"
    HANG = "say nothing until the client gives up"


Script: TypeAlias = Callable[[Phase, str], "str | Break | None"]
"""Decides a reply: a line such as ``451 4.7.1 greylisted``, a break, or None for that of a willing server.

Its second argument is the recipient; in the phase mail there is none yet, and it is empty.
"""


@dataclass(frozen=True, kw_only=True)
class Received:
    """One mail to one recipient. ``received_at`` is in seconds of ``time.monotonic``, for measuring."""

    message_id: str
    sender: str
    recipient: str
    file: Path
    when: datetime
    received_at: float


class Mailbox:
    """``async with Mailbox(folder, username=…, password=…) as mailbox``: listens on a free port of 127.0.0.1.

    Mails are ``folder/<n>-<Message-ID>.eml``, numbered on from those that are there. ``ca_file`` verifies the
    certificate, which is made anew at each start. ``require_tls=False`` is a server that has no TLS, and
    ``implicit_tls=True`` one that begins with it. Iterating gives each mail when it arrives, from the first.
    """

    def __init__(
        self,
        folder: Path,
        *,
        username: str,
        password: str,
        require_tls: bool = True,
        implicit_tls: bool = False,
        replies: Script | None = None,
    ) -> None:
        self.received: list[Received] = []
        self.connections = 0
        self.replies: Script = replies or _willing
        self._folder = folder
        self._username = username
        self._password = password
        self._tls: Literal["starttls", "implicit", "off"] = (
            "implicit" if implicit_tls else "starttls" if require_tls else "off"
        )
        self._arrival = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._clients: set[_Client] = set()

    async def __aenter__(self) -> Self:
        logging.getLogger("mail.log").setLevel(logging.ERROR)  # aiosmtpd's own, which tells whom each mail is for
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        certified = None if self._tls == "off" else self._certified()
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Client(self, starttls=certified if self._tls == "starttls" else None),
            _HOST,
            0,
            ssl=certified if self._tls == "implicit" else None,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
            await asyncio.gather(*(client.end() for client in tuple(self._clients)))
            await self._server.wait_closed()

    async def __aiter__(self) -> AsyncGenerator[Received]:
        seen = 0
        while True:
            async with self._arrival:
                while len(self.received) <= seen:
                    await self._arrival.wait()
            yield self.received[seen]
            seen += 1

    @property
    def smtp_url(self) -> str:
        scheme = {"starttls": "smtp+starttls", "implicit": "smtps", "off": "smtp"}[self._tls]
        return f"{scheme}://{quote(self._username, safe='')}:{quote(self._password, safe='')}@{_HOST}:{self.port}"

    @property
    def port(self) -> int:
        if self._server is None:
            raise RuntimeError("the mailbox is not open")
        return cast("int", self._server.sockets[0].getsockname()[1])

    @property
    def ca_file(self) -> Path:
        return self._folder / "ca.pem"

    async def wait_for(self, message_id: str, timeout: timedelta = timedelta(seconds=10)) -> Received:
        """The first mail with this Message-ID (angle brackets included), as soon as it is there; or TimeoutError."""
        async with asyncio.timeout(timeout.total_seconds()), self._arrival:
            while True:
                for mail in self.received:
                    if mail.message_id == message_id:
                        return mail
                await self._arrival.wait()

    def is_password(self, login: LoginPassword) -> bool:
        expected = (self._username.encode(), self._password.encode())
        return all(hmac.compare_digest(given, wanted) for given, wanted in zip(login, expected, strict=True))

    async def keep(self, content: bytes, sender: str, recipients: Sequence[str]) -> int:
        """Store a mail and return its number."""
        header = BytesHeaderParser(policy=policy.compat32).parsebytes(content)
        message_id = str(header.get("Message-ID", "")).strip()
        number = 1 + max(self._numbers(), default=0)
        file = self._folder / f"{number}-{_UNSAFE.sub('_', message_id.strip('<>'))[:_LONGEST_NAME]}.eml"
        unfinished = file.with_suffix(".part")
        unfinished.write_bytes(content)
        unfinished.replace(file)
        when, received_at = datetime.now(UTC), time.monotonic()
        async with self._arrival:
            self.received += [
                Received(
                    message_id=message_id,
                    sender=sender,
                    recipient=recipient,
                    file=file,
                    when=when,
                    received_at=received_at,
                )
                for recipient in recipients
            ]
            self._arrival.notify_all()
        return number

    def joined(self, client: _Client) -> None:
        self.connections += 1
        self._clients.add(client)

    def left(self, client: _Client) -> None:
        self._clients.discard(client)

    def _numbers(self) -> Iterator[int]:
        for file in self._folder.iterdir():
            if numbered := _NUMBERED.fullmatch(file.name):
                yield int(numbered[1])

    def _certified(self) -> ssl.SSLContext:
        """3 ms with trustme's elliptic keys; RSA would take a hundred times that."""
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca_file))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with authority.issue_cert(_HOST, "localhost").private_key_and_cert_chain_pem.tempfile() as file:
            context.load_cert_chain(file)
        return context


class _Client(SMTP):
    """The server's side of one connection."""

    def __init__(self, mailbox: Mailbox, *, starttls: ssl.SSLContext | None) -> None:
        super().__init__(
            _Handler(mailbox),
            hostname="localhost",
            ident="skycap mailbox",
            tls_context=starttls,
            require_starttls=starttls is not None,
            auth_require_tls=starttls is not None,
            authenticator=_authenticate,
            loop=asyncio.get_running_loop(),
        )
        self.mailbox = mailbox

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self.transport is None:  # and not a second time, when STARTTLS has been done
            self.mailbox.joined(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self.mailbox.left(self)

    async def end(self) -> None:
        self.abort()
        if self._handler_coroutine is not None:  # which does not notice an end in the middle of STARTTLS
            self._handler_coroutine.cancel()
            await asyncio.wait([self._handler_coroutine])

    def abort(self) -> None:
        if self.transport is not None:
            cut(self.transport)

    async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802 - aiosmtpd finds commands by name
        recipients = self.envelope.rcpt_tos if self.envelope else []
        reply = await self.obeyed(self.mailbox.replies("data", recipients[0])) if recipients else None
        if reply is None:
            await super().smtp_DATA(arg)
        else:
            await self.push(reply)

    async def obeyed(self, reply: str | Break | None) -> str | None:
        """``reply``, unless it is a break, from which there is no return: the lost connection cancels us."""
        if not isinstance(reply, Break):
            return reply
        if reply is Break.DROP:
            self.abort()
        await asyncio.get_running_loop().create_future()
        return None


class _Handler:
    """What aiosmtpd asks about each command."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's name
        self, client: _Client, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if reply := await client.obeyed(self._mailbox.replies("mail", "")):
            return reply
        # Not left to aiosmtpd's auth_required, which warns of every server without STARTTLS, be it on implicit TLS.
        if not session.authenticated:
            return "530 5.7.0 Authentication required"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(  # noqa: N802
        self, client: _Client, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if reply := await client.obeyed(self._mailbox.replies("rcpt", address)):
            return reply
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 OK"

    async def handle_DATA(self, client: _Client, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        content, recipients = cast("bytes", envelope.original_content), list(envelope.rcpt_tos)
        reply = self._mailbox.replies("dot", recipients[0])
        if isinstance(reply, str) and not reply.startswith("2"):
            return reply
        number = await self._mailbox.keep(content, envelope.mail_from or "", recipients)
        return await client.obeyed(reply) or f"250 2.0.0 queued as {number}"


def _authenticate(
    client: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, login: LoginPassword
) -> AuthResult:
    return AuthResult(success=cast("_Client", client).mailbox.is_password(login), handled=False)


def _willing(_phase: Phase, _recipient: str) -> None:
    return None
