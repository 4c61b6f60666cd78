"""Sockets that systemd holds while daemons come and go (sd_listen_fds(3)); no systemd is needed."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemons import Site
from tests.support.workers import PATIENCE
from tests.systemd.notified import notified

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
def site(redis_url: str, tmp_path: Path) -> Site:
    return Site(folder=tmp_path, redis_url=redis_url)


@pytest.fixture
def unix() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("\0skycap-test-passed-sockets")
        listening.listen()
        yield listening


@pytest.fixture
def tcp() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


async def asked(listening: socket.socket) -> Connection:
    """A connection on which a request has been sent."""
    calling = socket.socket(listening.family)
    calling.setblocking(False)
    await asyncio.get_running_loop().sock_connect(calling, listening.getsockname())
    reader, writer = await asyncio.open_connection(sock=calling)
    writer.write(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    return reader, writer


async def answer(connection: Connection) -> str:
    reader, writer = connection
    async with asyncio.timeout(PATIENCE.total_seconds()):
        said = await reader.read()
    writer.close()
    return said.decode().partition("\r\n")[0]


async def test_it_serves_each_socket_and_none_of_its_own(site: Site, unix: socket.socket, tcp: socket.socket) -> None:
    site.extra["http"] = {"bind": f"unix:{site.folder}/own.sock"}
    async with notified(site, passed=[tcp, unix]) as daemon:
        ready = await daemon.hears("READY")
        assert [await answer(await asked(each)) for each in (unix, tcp)] == ["HTTP/1.1 200 OK"] * 2
        assert await daemon.stop() == 0
    assert ready["X_SKYCAP_HTTP"] == f"http://127.0.0.1:{tcp.getsockname()[1]}"
    assert not (site.folder / "own.sock").exists()


async def test_who_connects_between_two_daemons_is_answered_by_the_next(site: Site, tcp: socket.socket) -> None:
    async with notified(site, passed=[tcp]) as daemon:
        await daemon.hears("READY")
        assert await daemon.stop() == 0
    waiting = await asked(tcp)
    async with notified(site, passed=[tcp]) as daemon:
        assert await answer(waiting) == "HTTP/1.1 200 OK"
        assert await daemon.stop() == 0


async def test_a_reload_goes_on_with_them_whatever_is_configured_by_then(site: Site, tcp: socket.socket) -> None:
    async with notified(site, passed=[tcp]) as daemon:
        ready = await daemon.hears("READY")
        site.extra["http"] = {"bind": f"unix:{site.folder}/own.sock"}
        _ = site.config  # written anew
        daemon.process.send_signal(signal.SIGHUP)
        reloaded = await daemon.hears("READY")
        assert await answer(await asked(tcp)) == "HTTP/1.1 200 OK"
        assert await daemon.stop() == 0
    assert not reloaded["STATUS"].startswith("reload refused")
    assert reloaded["X_SKYCAP_HTTP"] == ready["X_SKYCAP_HTTP"]
    assert not (site.folder / "own.sock").exists()


async def test_what_was_passed_to_another_process_is_not_taken(site: Site, tcp: socket.socket) -> None:
    async with notified(site, passed=[tcp], passed_to="1") as daemon:
        ready = await daemon.hears("READY")
        assert await daemon.stop() == 0
    assert ready["X_SKYCAP_HTTP"].rpartition(":")[2] != str(tcp.getsockname()[1])


async def refusal(site: Site, passed: socket.socket) -> str:
    async with notified(site, passed=[passed]) as daemon:
        assert await daemon.ended() == 78
    return site.log.read_text()


async def test_a_socket_that_others_reach_takes_tokens(site: Site) -> None:
    with socket.create_server(("0.0.0.0", 0)) as for_all:  # noqa: S104 - which is refused
        said = await refusal(site, for_all)
    assert "http.tokens_file: is not set, and others reach 0.0.0.0:" in said
    assert "skycap tokens new" in said


async def test_a_socket_that_takes_no_connection_is_refused(site: Site) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        assert "let the socket unit have ListenStream= and Accept=no" in await refusal(site, datagrams)


async def test_callers_are_not_left_to_wait_for_a_server_that_is_switched_off(site: Site, tcp: socket.socket) -> None:
    site.extra["http"] = {"enabled": False}
    assert "http.enabled: is false, but systemd holds a socket" in await refusal(site, tcp)
