"""Bodies: what is sent to the API, read within bounds of size, time, depth and number."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from aiohttp import web
from pydantic_core import from_json

from skycap.http.errors import BAD_REQUEST, BUSY, NOT_JSON, TOO_INTRICATE, TOO_LARGE, TOO_SLOW, UNSUPPORTED, ApiError

DEEPEST = 32
"""Objects and lists in each other."""

_MOST_BYTES_AT_ONCE = 64 * 1024 * 1024
_LIMIT_SECONDS = 30.0
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
"""Possessive, and content without its end: it looks at each byte of whatever it is given once."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How large one kind of body may be: bytes before and after decompression, values (members and elements)."""

    largest_bytes: int
    most_values: int


async def wait_for_body(_request: web.Request) -> None:
    """As ``expect_handler`` of a route: who waits for "100 Continue" is told when its body is read, and not before.

    aiohttp's own says so at once: the body of a request that is refused would be sent all the same.
    """


class Bodies:
    """Reads the bodies of one daemon; ``most_bytes_at_once`` is what all that are being read may have together."""

    def __init__(self, *, most_bytes_at_once: int = _MOST_BYTES_AT_ONCE, limit_seconds: float = _LIMIT_SECONDS) -> None:
        self._most_bytes_at_once = most_bytes_at_once
        self._limit_seconds = limit_seconds
        self._bytes_held = 0

    @contextmanager
    def _held(self) -> Generator[list[int]]:
        """What one request holds, to be counted up in its only element."""
        held = [0]
        try:
            yield held
        finally:
            self._bytes_held -= held[0]

    async def json_object(self, request: web.Request, bounds: Bounds) -> dict[str, Any]:
        """The JSON object that the request carries. Raises ApiError."""
        if request.content_type != "application/json":
            raise ApiError(UNSUPPORTED, "the body must be JSON; send it with the header Content-Type: application/json")
        encoding = request.headers.get("Content-Encoding", "identity").lower()
        if encoding not in _WINDOW_BITS:
            raise ApiError(UNSUPPORTED, "the body's Content-Encoding is not read; send gzip, deflate or identity")
        if (request.content_length or 0) > bounds.largest_bytes:
            raise _too_large(bounds)
        with self._held() as held:
            body = await self._read(request, bounds, held)
            if encoding != "identity":
                body = self._decompressed(body, encoding, bounds, held)
            return _json_object(body, bounds)

    async def optional_object(self, request: web.Request, bounds: Bounds) -> dict[str, Any]:
        """As ``json_object``, where there need be no body: then as of an empty object."""
        return await self.json_object(request, bounds) if request.body_exists else {}

    async def _read(self, request: web.Request, bounds: Bounds, held: list[int]) -> bytes:
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        content = request.content
        if content.is_eof() and content.total_bytes <= bounds.largest_bytes:
            # All of a small body comes with the head of its request.
            self._hold(content.total_bytes, held)
            return content.read_nowait()
        chunks: list[bytes] = []
        try:
            async with asyncio.timeout(self._limit_seconds):
                async for chunk in content.iter_any():
                    self._hold(len(chunk), held)
                    chunks.append(chunk)
                    if held[0] > bounds.largest_bytes:
                        raise _too_large(bounds)
        except TimeoutError:
            raise ApiError(TOO_SLOW, f"the body did not arrive within {self._limit_seconds:g} s") from None
        except web.RequestPayloadError:
            raise ApiError(BAD_REQUEST, "the body broke off, or its chunks are not as HTTP has them") from None
        return b"".join(chunks)

    def _hold(self, size_bytes: int, held: list[int]) -> None:
        if self._bytes_held + size_bytes > self._most_bytes_at_once:
            raise ApiError(
                BUSY, "too many bytes are being read at once; send it again later", headers={"Retry-After": "1"}
            )
        self._bytes_held += size_bytes
        held[0] += size_bytes

    def _decompressed(self, body: bytes, encoding: str, bounds: Bounds, held: list[int]) -> bytes:
        reader = zlib.decompressobj(_WINDOW_BITS[encoding])
        try:
            plain = reader.decompress(body, bounds.largest_bytes + 1)
        except zlib.error:
            raise ApiError(BAD_REQUEST, f"the body is not {encoding}, as its Content-Encoding says") from None
        if len(plain) > bounds.largest_bytes:
            raise _too_large(bounds)
        if not reader.eof or reader.unused_data:
            raise ApiError(BAD_REQUEST, f"the body is not one whole {encoding} stream")
        self._hold(len(plain), held)
        return plain


_WINDOW_BITS = {"identity": 0, "gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""What zlib calls each encoding; HTTP's deflate has zlib's own head (RFC 9110 §8.4.1.2)."""


def _json_object(body: bytes, bounds: Bounds) -> dict[str, Any]:
    _check_number_of_values(body, bounds)
    try:
        document = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        # The parser's words tell the place and what it expected, and nothing of what is there.
        raise ApiError(NOT_JSON, f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ApiError(NOT_JSON, "the body must be a JSON object")
    found = cast("dict[str, Any]", document)
    if body.count(b"{") + body.count(b"[") > DEEPEST:
        _check_depth(found)
    return found


def _check_number_of_values(body: bytes, bounds: Bounds) -> None:
    """Before it is parsed: an empty list takes two bytes of text, and sixty of memory."""
    if _values_in(body) > bounds.most_values and _values_in(_STRING.sub(b"", body)) > bounds.most_values:
        raise ApiError(TOO_INTRICATE, f"the body has more than {bounds.most_values:,} values; send less at a time")


def _values_in(text: bytes) -> int:
    return text.count(b",") + text.count(b"{") + text.count(b"[")


def _check_depth(document: dict[str, Any]) -> None:
    level: list[Any] = [document]
    for _ in range(DEEPEST):
        level = [
            child
            for parent in level
            for child in (cast("dict[str, Any]", parent).values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise ApiError(TOO_INTRICATE, f"the body is nested deeper than {DEEPEST} objects and lists; make it flatter")


def _too_large(bounds: Bounds) -> ApiError:
    return ApiError(
        TOO_LARGE,
        f"the body has more than {bounds.largest_bytes:,} bytes, which is the limit; "
        "store large data elsewhere and send its id",
    )
