"""The addresses of Redis, of the mail server and of skycap's own HTTP server, checked and taken apart.

``str()`` and ``repr()`` of an address never show a password; ``unmasked`` is for the library that connects.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema

from skycap.settings.masking import quoted
from skycap.settings.url import HIGHEST_PORT, Url, url_text, whole_number

REDIS_PORT, SENTINEL_PORT = 6379, 26379
SUBMISSION_PORT, SUBMISSIONS_PORT = 587, 465
"""Mail submission with STARTTLS, and with TLS from the first byte (RFC 8314)."""

_TLS_PARAMETERS = frozenset(
    {"ssl_ca_certs", "ssl_ca_path", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname", "ssl_keyfile"}
)
_SENTINEL_PARAMETERS = frozenset({"sentinel_password", "sentinel_tls", "sentinel_username"})
_REDIS_PARAMETERS = _TLS_PARAMETERS | _SENTINEL_PARAMETERS | {"client_name", "db", "password", "username"}
_SENTINEL_SCHEMES = frozenset({"redis+sentinel", "rediss+sentinel"})
_CLUSTER_SCHEMES = frozenset({"redis+cluster", "rediss+cluster"})
_REDIS_SCHEMES = frozenset({"redis", "rediss", "unix"}) | _SENTINEL_SCHEMES | _CLUSTER_SCHEMES
_REDIS_ADVICE = "give redis://, rediss:// or unix://, or redis+sentinel:// or redis+cluster:// (rediss+ with TLS)"
_BIND = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):(?P<port>[0-9]{1,5})")


class Address(ABC):
    """What pydantic reads from text; written out, it is masked."""

    @classmethod
    @abstractmethod
    def parse(cls, text: str) -> Self:
        """Read ``text``; raises ValueError with what is wrong and the fix, never with a secret."""

    @classmethod
    def accept(cls, value: object) -> Self:
        """Read an address, or take one that has been read."""
        if isinstance(value, cls):
            return value
        if not isinstance(value, str):
            raise ValueError("is no text; put it in quotes")  # noqa: TRY004 - pydantic collects ValueError only
        return cls.parse(value)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.accept, serialization=core_schema.to_string_ser_schema()
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


@dataclass(frozen=True, kw_only=True, repr=False)
class RedisAddress(Address):
    """Where the queue server is: ``host`` and ``port``, or a socket at ``path``.

    Of several Sentinels or nodes of a cluster these are the first one's. ``service`` is what Sentinel calls the server.
    """

    url: Url
    host: str
    port: int
    path: Path | None
    service: str | None
    database: int
    username: str | None
    password: str | None
    tls: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        url = Url.parse(text)
        _check_redis_scheme(url.scheme)
        _check_redis_parameters(url)
        username = url.query.get("username") or url.username or None
        password = url.query.get("password") or url.password
        if username and password is None:
            raise ValueError("names a user and no password; a password alone is written redis://:PASSWORD@host")
        by_socket = url.scheme == "unix"
        host, port = ("", 0) if by_socket else _first_redis_host(url)
        service, database = _service_and_database(url)
        return cls(
            url=url,
            host=host,
            port=port,
            path=_socket_path(url) if by_socket else None,
            service=service,
            database=database,
            username=username,
            password=password,
            tls=_has_tls(url),
        )

    @property
    def unmasked(self) -> str:
        """The address as it was written, password included: for ``Link.to`` only."""
        return self.url.text

    def __str__(self) -> str:
        return self.url.masked()


@dataclass(frozen=True, kw_only=True, repr=False)
class SmtpAddress(Address):
    """Where mails are handed over; the user is masked too, since it is often a mail address."""

    url: Url
    host: str
    port: int
    username: str | None
    password: str | None
    implicit_tls: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        url = Url.parse(text)
        if url.scheme not in {"smtp", "smtp+starttls", "smtps"}:
            raise ValueError(
                f"the scheme {url.scheme}:// is not understood; give smtp+starttls://user:password@host:587 "
                "or smtps://user:password@host:465"
            )
        if url.path not in {"", "/"} or url.query:
            raise ValueError("has a path or parameters, which mean nothing here; leave out what follows the port")
        implicit_tls = url.scheme == "smtps"
        return cls(
            url=url,
            host=url.host,
            port=url.hosts[0][1] or (SUBMISSIONS_PORT if implicit_tls else SUBMISSION_PORT),
            username=url.username or None,
            password=url.password or None,
            implicit_tls=implicit_tls,
        )

    def with_password(self, password: str) -> SmtpAddress:
        """The same address with another password."""
        return self.parse(url_text(self.url.scheme, self.host, self.port, self.username, password))

    @property
    def is_loopback(self) -> bool:
        """Whether mails stay on this machine."""
        return is_loopback(self.host)

    def __str__(self) -> str:
        return self.url.masked(hide_username=True)


@dataclass(frozen=True, kw_only=True, repr=False)
class BindAddress(Address):
    """Where to serve this machine only: ``host`` and ``port`` (0 takes a free one), or a socket at ``path``."""

    host: str
    port: int
    path: Path | None

    @classmethod
    def parse(cls, text: str) -> Self:
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            if not path.startswith("/"):
                raise ValueError(f"{quoted(text)} has no absolute path; write unix:/run/skycap/http.sock")
            return cls(host="", port=0, path=Path("/" + path.lstrip("/")))
        match = _BIND.fullmatch(text)
        if match is None or int(match["port"]) > HIGHEST_PORT:
            raise ValueError(f"{quoted(text)} is no place to listen; write host:port, [v6]:port or unix:/path")
        host = match["host"].strip("[]")
        address = cls(host=host, port=int(match["port"]), path=None)
        address.check_reach()
        return address

    @classmethod
    def of(cls, listening: socket.socket) -> Self:
        """Where a socket of somebody else's listens."""
        name = listening.getsockname()
        if listening.family is socket.AF_UNIX:
            return cls(host="", port=0, path=Path(os.fsdecode(name).replace("\0", "@")))  # an abstract one
        return cls(host=name[0], port=name[1], path=None)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        return self.path is not None or is_loopback(self.host)

    def check_reach(self) -> None:
        """Raises ValueError for an address that other machines reach."""
        if not self.is_local:
            raise ValueError(
                f"{quoted(str(self))} can be reached from other machines, and nobody is asked for a token there; "
                f"give 127.0.0.1:{self.port} or unix:/path, behind a proxy that checks who asks"
            )

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, kw_only=True, repr=False)
class ListenAddress(BindAddress):
    """Where skycap's own HTTP server listens, which may be for other machines."""

    def check_reach(self) -> None:
        """Any reach is possible; whether requests carry a token is for ``HttpSettings`` to check."""


def is_loopback(host: str) -> bool:
    """Whether only this machine is meant; a name other than localhost could be any machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_redis_scheme(scheme: str) -> None:
    if scheme in {"http", "https"}:
        raise ValueError(
            f"{scheme}:// is a REST address, which is no queue server; give the rediss:// address of the same database"
        )
    if scheme not in _REDIS_SCHEMES:
        raise ValueError(f"the scheme {scheme}:// is not understood; {_REDIS_ADVICE}")


def _check_redis_parameters(url: Url) -> None:
    unknown = sorted(set(url.query) - _REDIS_PARAMETERS)
    if unknown:
        known = ", ".join(sorted(_REDIS_PARAMETERS))
        raise ValueError(f"the parameter {unknown[0]} is not understood; leave it out (known: {known})")
    misplaced = sorted(set(url.query) & _TLS_PARAMETERS)
    if misplaced and not _has_tls(url):
        _, plus, kind = url.scheme.partition("+")
        raise ValueError(f"the parameter {misplaced[0]} means nothing without TLS; write rediss{plus}{kind}://")
    misplaced = sorted(set(url.query) & _SENTINEL_PARAMETERS)
    if misplaced and url.scheme not in _SENTINEL_SCHEMES:
        raise ValueError(f"the parameter {misplaced[0]} means nothing without Sentinel; write redis+sentinel://")
    if url.query.get("sentinel_tls", "yes") not in {"yes", "no"}:
        raise ValueError("has a sentinel_tls that is neither yes nor no; write sentinel_tls=no where they speak none")
    if "sentinel_username" in url.query and "sentinel_password" not in url.query:
        raise ValueError("names a sentinel_username and no password; add sentinel_password=PASSWORD")


def _has_tls(url: Url) -> bool:
    return url.scheme.startswith("rediss")


def _first_redis_host(url: Url) -> tuple[str, int]:
    if url.scheme in _SENTINEL_SCHEMES | _CLUSTER_SCHEMES:
        if not all(host for host, _ in url.hosts):
            raise ValueError(f"leaves a host out; write {url.scheme}://host:port,host:port")
        host, port = next(iter(url.hosts))
        return host, port or (SENTINEL_PORT if url.scheme in _SENTINEL_SCHEMES else REDIS_PORT)
    if len(url.hosts) != 1:
        raise ValueError("names several hosts; give one, or write redis+sentinel:// or redis+cluster://")
    return url.host, url.hosts[0][1] or REDIS_PORT


def _service_and_database(url: Url) -> tuple[str | None, int]:
    if url.scheme in _SENTINEL_SCHEMES:
        service, _, database = url.path.removeprefix("/").partition("/")
        if not service:
            raise ValueError(f"names no service; write {url.scheme}://host:26379,host:26379/mymaster/0")
        return service, _redis_database(url, database, f"{url.scheme}://host:26379/{service}/0")
    if url.scheme in _CLUSTER_SCHEMES:
        if url.path.removeprefix("/") not in {"", "0"} or url.query.get("db", "0") != "0":
            raise ValueError("names a database, and a cluster has only database 0; leave out what follows the hosts")
        return None, 0
    path = "" if url.scheme == "unix" else url.path.removeprefix("/")
    return None, _redis_database(url, path, "redis://host:6379/0")


def _socket_path(url: Url) -> Path:
    if not url.path or any(host for host, _ in url.hosts):
        raise ValueError("names no socket; write unix:///run/valkey/valkey.sock?db=0")
    return Path(url.path)


def _redis_database(url: Url, path: str, example: str) -> int:
    number = whole_number(url.query.get("db") or path or "0")
    if number is None:
        # redis-py would take database 0 without a word.
        raise ValueError(f"the part after the host is no database number; write {example}")
    return number
