"""A mail server that takes every mail over TLS, keeps none and does as little as it can: never what is measured.

.venv/bin/python -m tests.benchmarks.mail_sink FOLDER

It writes ``ca.pem`` into the folder and its port to standard output; each line on its standard input is answered with
the numbers of mails and connections that it has taken.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import trustme
import uvloop

HOST = "127.0.0.1"

_END = b"\r\n.\r\n"
_EHLO = b"250-sink\r\n250-PIPELINING\r\n250-SIZE 10485760\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n"


@dataclass(kw_only=True)
class Taken:
    """What the server has taken since its start."""

    mails: int = 0
    connections: int = 0


@dataclass(frozen=True, kw_only=True)
class Sink:
    """The server, seen from another process."""

    port: int
    ca_file: Path
    process: Process

    async def taken(self) -> Taken:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"\n")
        mails, connections = map(int, (await self.process.stdout.readline()).split())
        return Taken(mails=mails, connections=connections)


@asynccontextmanager
async def mail_sink(folder: Path) -> AsyncGenerator[Sink]:
    """A sink in a process of its own, which ends with the block."""
    command = (sys.executable, "-m", "tests.benchmarks.mail_sink", str(folder))
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = int(await process.stdout.readline())
        yield Sink(port=port, ca_file=folder / "ca.pem", process=process)
    finally:
        process.stdin.close()
        await process.wait()


class _Client(asyncio.Protocol):
    """The server's side of one connection."""

    def __init__(self, taken: Taken) -> None:
        self._taken = taken
        self._buffer = b""
        self._in_message = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._taken.connections += 1
        self._transport.write(b"220 sink\r\n")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            end = _END if self._in_message else b"\r\n"
            line, found, rest = self._buffer.partition(end)
            if not found:
                return
            self._buffer = rest
            self._answer(b"." if self._in_message else line[:4].upper())

    def _answer(self, verb: bytes) -> None:
        self._in_message = verb == b"DATA"
        if verb == b".":
            self._taken.mails += 1
        self._transport.write(
            {b"EHLO": _EHLO, b"DATA": b"354 go on\r\n", b"QUIT": b"221 bye\r\n"}.get(verb, b"250 2.0.0 ok\r\n")
        )
        if verb == b"QUIT":
            self._transport.close()


async def _serve(folder: Path) -> None:
    taken = Taken()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Client(taken), HOST, 0, ssl=_certified(folder))
    requests = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(requests), sys.stdin)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    while await requests.readline():
        sys.stdout.write(f"{taken.mails} {taken.connections}\n")
        sys.stdout.flush()


def _certified(folder: Path) -> ssl.SSLContext:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with authority.issue_cert(HOST, "localhost").private_key_and_cert_chain_pem.tempfile() as file:
        context.load_cert_chain(file)
    return context


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1])))
