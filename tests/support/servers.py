"""Mail servers for tests: a willing one behind a pool, and one that says exactly what it is told."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Self

from skycap.demo.mailbox import Mailbox
from skycap.services.smtp import SmtpPool

USERNAME, PASSWORD = "relay-user", "correct horse"

_EHLO = "250-localhost\r\n250 SIZE 1000000"


@asynccontextmanager
async def pool_to(server: Mailbox | LineServer, **options: Any) -> AsyncGenerator[SmtpPool]:
    """A pool that is let in by ``server``, closed at the end."""
    if isinstance(server, Mailbox):
        way: dict[str, Any] = {"username": USERNAME, "password": PASSWORD, "ca_file": server.ca_file}
    else:
        way = {"tls": "off"}
    pool = SmtpPool(host="127.0.0.1", port=server.port, hostname="skycap.test", **{**way, **options})
    try:
        yield pool
    finally:
        await pool.close()


class LineServer:
    """A mail server without TLS that answers by the book, except for what ``answers`` says for a verb.

    The verbs are those of SMTP in upper case, ``""`` for the greeting and ``"."`` for the message. None means no
    answer at all. With a ``context`` it begins with TLS.
    """

    def __init__(
        self, answers: Mapping[str, str | None] | None = None, *, context: ssl.SSLContext | None = None
    ) -> None:
        self._context = context
        self.answers: dict[str, str | None] = {
            "": "220 localhost",
            "EHLO": _EHLO,
            "DATA": "354 go on",
            "QUIT": "221 bye",
            **(answers or {}),
        }
        self.heard: list[str] = []
        self.connections = 0
        self.left = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self.disconnect()
        await self._server.wait_closed()

    async def say(self, line: str) -> None:
        """To all clients, unasked."""
        for writer in self._writers:
            writer.write(f"{line}\r\n".encode())
            await writer.drain()

    async def disconnect(self) -> None:
        """Close all connections, and return when the other side knows."""
        for writer in tuple(self._writers):
            writer.close()
            await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            await self._converse(reader, writer)
        except ConnectionError:
            pass  # the client's right
        finally:
            self._writers.discard(writer)
            writer.close()
            self.left.set()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._answer("", writer)
        in_message = False
        while line := await reader.readline():
            text = line.decode().rstrip("\r\n")
            self.heard.append(text)
            if in_message and text != ".":
                continue
            verb = text.split(" ")[0]
            in_message = verb == "DATA" and (self.answers["DATA"] or "").startswith("354")
            await self._answer(verb, writer)
            if verb == "QUIT":
                return

    async def _answer(self, verb: str, writer: asyncio.StreamWriter) -> None:
        answer = self.answers.get(verb, "250 fine")
        if answer is not None:
            writer.write(f"{answer}\r\n".encode())
            await writer.drain()


def ms(number: float) -> timedelta:
    return timedelta(milliseconds=number)
