"""Hosts: an address that names several servers, which redis-py cannot read by itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from redis.asyncio.connection import parse_url

_ADDRESS = re.compile(r"[^:]+://((?P<credentials>[^@/?]*)@)?(?P<hosts>[^@/?]*)(?P<path>[^?]*)(?P<query>.*)")
_HOST = re.compile(r"\[?(?P<host>[^\]]*?)\]?(:(?P<port>[0-9]+))?")

Address = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class Hosts:
    """``scheme://user:password@host:port,host:port/path/path?options``; ``options`` are as redis-py names them."""

    addresses: Sequence[Address]
    path: Sequence[str]
    options: dict[str, Any]
    tls: bool

    @classmethod
    def parse(cls, url: str, *, default_port: int) -> Hosts:
        """Take apart what the settings have checked."""
        match = _ADDRESS.fullmatch(url)
        if match is None:
            raise ValueError("is no address; write scheme://host:port,host:port")
        # The rest of it is read by redis-py, as if it named one server.
        options = dict[str, Any](parse_url(f"redis://{match['credentials'] or ''}@host{match['query']}"))
        del options["host"]
        return cls(
            addresses=[_address(host, default_port) for host in match["hosts"].split(",")],
            path=[unquote(part) for part in match["path"].split("/") if part],
            options=options,
            tls=url.lower().startswith("rediss"),
        )


def _address(text: str, default_port: int) -> Address:
    match = _HOST.fullmatch(text)
    if match is None:
        raise ValueError("does not read as host:port,host:port")
    return match["host"], int(match["port"] or default_port)
