"""Long answers arrive compressed, whatever they are of, and are the same ones."""

from __future__ import annotations

import gzip
import sys
from collections.abc import AsyncGenerator

import pytest
from aiohttp import ClientSession, web

from skycap.http.compression import SHORTEST_BYTES
from skycap.http.server import HttpServer

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

UNPACKED = {"gzip": gzip.decompress, "zstd": zstd.decompress}
LONG = b"0123456789abcdef" * (SHORTEST_BYTES // 16)
LARGE = LONG * 100
"""Compressed in a thread."""

TYPES = {"json": "application/json", "html": "text/html", "plain": "text/plain", "png": "image/png"}


class Answers:
    """Answers as they are asked for."""

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/{what}", self.answer)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        match request.match_info["what"]:
            case "stream":
                stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
                await stream.prepare(request)
                await stream.write(LONG)
                return stream
            case "short":
                return web.Response(body=LONG[:-1], content_type="text/plain")
            case "large":
                return web.Response(body=LARGE, content_type="application/json")
            case "packed":
                headers = {"Content-Encoding": "gzip"}
                return web.Response(body=gzip.compress(LARGE), content_type="text/plain", headers=headers)
            case "tagged":
                return web.Response(body=LONG, content_type="text/plain", headers={"ETag": '"a"', "Vary": "Accept"})
            case "error":
                raise web.HTTPBadRequest(text="x" * SHORTEST_BYTES)
            case what:
                return web.Response(body=LONG, content_type=TYPES[what])


@pytest.fixture
async def http() -> AsyncGenerator[ClientSession]:
    server = HttpServer([Answers()], host="127.0.0.1", port=0, path=None)
    await server.start()
    async with ClientSession(server.url, auto_decompress=False, skip_auto_headers=["Accept-Encoding"]) as session:
        yield session
    await server.stop()


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@pytest.mark.parametrize(("what", "body"), [("json", LONG), ("html", LONG), ("plain", LONG), ("large", LARGE)])
async def test_a_long_answer_is_compressed(http: ClientSession, what: str, body: bytes, coding: str) -> None:
    async with http.get(f"/{what}", headers={"Accept-Encoding": coding}) as response:
        packed = await response.read()
    assert (response.status, response.headers["Content-Encoding"]) == (200, coding)
    assert response.headers["Vary"] == "Accept-Encoding"
    assert response.headers["Content-Length"] == str(len(packed))
    assert len(packed) < len(body) / 4
    assert UNPACKED[coding](packed) == body


async def test_who_reads_no_coding_gets_it_as_it_is_and_caches_are_told(http: ClientSession) -> None:
    async with http.get("/json") as response:
        assert await response.read() == LONG
    assert "Content-Encoding" not in response.headers
    assert response.headers["Vary"] == "Accept-Encoding"


@pytest.mark.parametrize("what", ["short", "stream", "png"])
async def test_what_is_short_a_stream_or_compressed_by_itself_is_left_alone(http: ClientSession, what: str) -> None:
    async with http.get(f"/{what}", headers={"Accept-Encoding": "gzip, zstd"}) as response:
        assert (await response.read()).startswith(LONG[:-1])
    assert "Content-Encoding" not in response.headers
    assert "Vary" not in response.headers


async def test_what_has_a_coding_is_not_given_another(http: ClientSession) -> None:
    async with http.get("/packed", headers={"Accept-Encoding": "zstd"}) as response:
        assert gzip.decompress(await response.read()) == LARGE
    assert response.headers["Content-Encoding"] == "gzip"


async def test_a_tag_that_named_the_bytes_is_weak_then(http: ClientSession) -> None:
    async with http.get("/tagged", headers={"Accept-Encoding": "gzip"}) as response:
        assert response.headers["ETag"] == 'W/"a"'
        assert response.headers.getall("Vary") == ["Accept", "Accept-Encoding"]


async def test_errors_are_compressed_too(http: ClientSession) -> None:
    async with http.get("/error", headers={"Accept-Encoding": "zstd"}) as response:
        assert b'"code":"BAD_REQUEST_001"' in zstd.decompress(await response.read())
    assert response.status == 400


async def test_a_request_for_the_head_says_what_the_answer_would_have(http: ClientSession) -> None:
    headers = {"Accept-Encoding": "gzip"}
    async with http.head("/json", headers=headers) as head, http.get("/json", headers=headers) as whole:
        for name in ("Content-Encoding", "Content-Length", "Vary"):
            assert head.headers[name] == whole.headers[name]
