"""Requests written byte by byte, for what no HTTP library would send; blocking, so asked in a thread."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.support.workers import PATIENCE

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True, kw_only=True)
class BareAnswer:
    """What came back; ``continued`` counts the "100 Continue" before it, and ``fields`` has lower-case names."""

    continued: int
    status: int
    fields: Mapping[str, str]
    body: bytes

    @property
    def content_type(self) -> str:
        return self.fields.get("content-type", "").partition(";")[0]


def bare_answer(
    url: str, path: bytes = b"/api/jobs", body: bytes = b"", *, method: bytes = b"POST", **headers: bytes
) -> BareAnswer:
    """Headers are named as in ``Content_Type``; the usual ones are added unless they are given."""
    usual = {"Host": b"localhost", "Content_Type": b"application/json", "Content_Length": b"%d" % len(body)}
    lines = [b"%b: %b" % (name.replace("_", "-").encode(), value) for name, value in ({**usual, **headers}).items()]
    request = b"\r\n".join([b"%b %b HTTP/1.1" % (method, path), *lines, b"Connection: close", b"", body])
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=PATIENCE.total_seconds()) as connection:
        connection.sendall(request)
        return _parsed(b"".join(iter(lambda: connection.recv(65536), b"")))


def _parsed(text: bytes) -> BareAnswer:
    continued = 0
    while text.startswith(CONTINUE):
        continued, text = continued + 1, text.removeprefix(CONTINUE)
    head, _, body = text.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return BareAnswer(continued=continued, status=int(first.split()[1]), fields=fields, body=body)
