"""Slow, huge and countless requests: memory is bounded, and liveness is answered at once meanwhile."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import resource
import statistics
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from skycap.http.bodies import Bodies
from tests.support.api import Api, api
from tests.support.daemons import Site
from tests.support.workers import eventually

MIB = 1024 * 1024
LIVE_SECONDS = 0.05
"""Asked for of every answer; asserted of the median, since other tests use the same processors."""
ALL_BODIES_MIB = 64
"""What the daemon holds of all bodies together, see ``Bodies``."""
SLACK_MIB = 32
"""Buffers of sockets and of the allocator."""


@dataclass(kw_only=True)
class Daemon:
    """A daemon in a process of its own, asked over bare connections."""

    url: str
    pid: int

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address = urlsplit(self.url)
        return await asyncio.open_connection(address.hostname, address.port)

    async def liveness_seconds(self, times: int = 41) -> float:
        """The median of that many calls, each on a connection of its own."""
        took: list[float] = []
        for _ in range(times):
            began = time.perf_counter()
            reader, writer = await self.connect()
            writer.write(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            took.append(time.perf_counter() - began)
            assert answer.startswith(b"HTTP/1.1 200"), answer
            writer.close()
        print(f"liveness: median {statistics.median(took) * 1000:.1f} ms, worst {max(took) * 1000:.1f} ms")  # noqa: T201 - with -s
        return statistics.median(took)

    def memory_mib(self, what: str = "VmRSS") -> float:
        """``VmHWM`` is the most that it ever was."""
        found = re.search(rf"^{what}:\s+(\d+) kB$", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
        assert found
        return int(found[1]) / 1024

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))


@pytest.fixture
async def daemon(redis_url: str, tmp_path: Path) -> AsyncGenerator[Daemon]:
    async with AsyncExitStack() as closing:
        with open_files(at_most=1024):  # as in most shells; the daemon takes as many as it may
            process = await closing.enter_async_context(Site(folder=tmp_path, redis_url=redis_url).daemon())
        yield Daemon(url=process.http_url, pid=process.pid)


@contextmanager
def open_files(*, at_most: int) -> Generator[None]:
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (at_most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


async def test_bodies_that_never_end_hinder_nobody(daemon: Daemon) -> None:
    before = daemon.memory_mib()
    async with AsyncExitStack() as closing:
        for number in range(300):
            _, writer = await daemon.connect()
            closing.callback(writer.close)
            writer.write(_head("Content-Length: 200000") + b"{" * (number % 2))
            await writer.drain()
        assert await daemon.liveness_seconds() <= LIVE_SECONDS
        assert await _posted(daemon) == 202
        assert daemon.memory_mib() - before < SLACK_MIB


async def test_a_body_that_does_not_arrive_in_time_is_given_up(redis_url: str) -> None:
    async with api(redis_url, bodies=Bodies(limit_seconds=0.1)) as site:
        reader, writer = await _connected(site)
        writer.write(_head("Content-Length: 100") + b'{"kind"')
        answer = await reader.read()  # to the end: nothing else can follow on this connection
        assert answer.startswith(b"HTTP/1.1 408")
        assert b'"code":"BAD_REQUEST_005"' in answer
        writer.close()


async def test_a_hundred_megabytes_announced_are_refused_before_they_are_read(daemon: Daemon) -> None:
    reader, writer = await daemon.connect()
    writer.write(_head(f"Content-Length: {100 * MIB}"))
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413")
    writer.close()


async def test_a_hundred_megabytes_in_chunks_are_refused_at_the_limit_and_memory_is_bounded(daemon: Daemon) -> None:
    before = daemon.memory_mib()
    answers = await asyncio.gather(*(_sent_in_chunks(daemon, 100) for _ in range(8)))
    assert {answer[:12] for answer in answers} <= {b"HTTP/1.1 413", b"HTTP/1.1 503"}
    assert b"HTTP/1.1 413" in {answer[:12] for answer in answers}
    assert daemon.memory_mib("VmHWM") - before < ALL_BODIES_MIB + SLACK_MIB
    assert await daemon.liveness_seconds() <= LIVE_SECONDS


async def test_a_hundred_megabytes_of_zeros_in_gzip_are_refused_at_the_limit(daemon: Daemon) -> None:
    before = daemon.memory_mib()
    bomb = gzip.compress(bytes(100 * MIB))
    answers = await asyncio.gather(*(_sent(daemon, bomb, "Content-Encoding: gzip") for _ in range(8)))
    assert {answer[:12] for answer in answers} == {b"HTTP/1.1 413"}
    assert daemon.memory_mib("VmHWM") - before < ALL_BODIES_MIB + SLACK_MIB


@pytest.mark.parametrize(
    "body",
    [
        b'{"kind": "take-note", "payload": ' + b'{"a":' * 40 + b"1" + b"}" * 41,
        b'{"kind": "take-note", "payload": {"text": [' + b"0," * 20_000 + b"0]}}",
        b'{"a":[' + b"0," * 20_000 + b'"' + b'\\"' * 120_000,
        b'{"a":[' + b"0," * 20_000 + b'"' + b"\\" * 250_000,
    ],
    ids=["too deep", "too many values", "a string of escapes without end", "nothing but escapes"],
)
async def test_an_intricate_body_is_refused_without_ado(daemon: Daemon, body: bytes) -> None:
    began = _cpu_seconds(daemon.pid)
    assert (await _sent(daemon, body)).startswith(b"HTTP/1.1 400")
    # Reading the third one took minutes once, and nobody else was served meanwhile.
    assert _cpu_seconds(daemon.pid) - began < 2


async def test_a_thousand_connections_that_idle_and_a_thousand_that_say_nothing_leave_it_alive(daemon: Daemon) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before, files = daemon.memory_mib(), daemon.open_files()
    with open_files(at_most=min(hard, 8192)):
        async with AsyncExitStack() as closing:
            for number in range(2000):
                reader, writer = await daemon.connect()
                closing.callback(writer.close)
                if number % 2:
                    writer.write(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    await reader.readuntil(b"\r\n\r\n")
            assert await daemon.liveness_seconds() <= LIVE_SECONDS
            assert await _posted(daemon) == 202
            assert daemon.memory_mib() - before < ALL_BODIES_MIB

        async def all_are_let_go() -> bool:
            return daemon.open_files() <= files + 5

        await eventually(all_are_let_go)


def _head(*headers: str) -> bytes:
    lines = ("POST /api/jobs HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers)
    return "\r\n".join((*lines, "", "")).encode()


async def _posted(daemon: Daemon) -> int:
    payload = {"userEmail": "ada@example.com", "userName": "Ada"}
    body = json.dumps({"kind": "send-welcome-email", "payload": payload}).encode()
    return int((await _sent(daemon, body)).split()[1])


async def _sent(daemon: Daemon, body: bytes, *headers: str) -> bytes:
    reader, writer = await daemon.connect()
    writer.write(_head(f"Content-Length: {len(body)}", *headers) + body)
    answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return answer


async def _sent_in_chunks(daemon: Daemon, mebibytes: int) -> bytes:
    reader, writer = await daemon.connect()
    answer = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
    writer.write(_head("Transfer-Encoding: chunked"))
    chunk = b"100000\r\n" + b" " * MIB + b"\r\n"
    for _ in range(mebibytes):
        if answer.done():
            break
        writer.write(chunk)
        with suppress(ConnectionError):
            await writer.drain()
    writer.close()
    return await answer


async def _connected(site: Api) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = urlsplit(site.url)
    return await asyncio.open_connection(address.hostname, address.port)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
