"""Url: an address taken apart strictly, by rules whose errors never repeat the address."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, unquote_plus

HIGHEST_PORT = 65535

_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(\?(?P<query>[^#]*))?", re.IGNORECASE
)
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^:\[\]@]*)(:(?P<port>[0-9]{1,5}))?")
_DIGITS = re.compile(r"[0-9]{1,9}")
_SECRET_PARAMETERS = frozenset({"password", "sentinel_password", "sslpassword"})
_ESCAPES = "in a password write @ / ? # as %40 %2F %3F %23"


@dataclass(frozen=True, kw_only=True, repr=False)
class Url:
    """The decoded parts of ``scheme://username:password@host:port/path?query``; prints without its password.

    ``hosts`` has more than one member only where a list was written, for PostgreSQL, Sentinel or a cluster. ``path``
    begins with a slash or is empty.
    """

    text: str
    scheme: str
    username: str | None
    password: str | None
    hosts: tuple[tuple[str, int | None], ...]
    path: str
    query: Mapping[str, str] = field(hash=False)

    @classmethod
    def parse(cls, text: str) -> Url:
        """Take ``text`` apart; raises ValueError with what is wrong and the fix, never with a part of the address."""
        match = _URL.fullmatch(text.strip())
        if match is None or re.search(r"\s", match[0]):
            raise ValueError(f"is no address; write scheme://user:password@host:port, and {_ESCAPES}")
        authority, path, query = match["authority"], match["path"], match["query"] or ""
        if authority.count("@") > 1 or "@" in path or ("@" in query and "@" not in authority):
            raise ValueError(f"has an @ where none belongs; {_ESCAPES}")
        credentials, has_credentials, hosts = authority.rpartition("@")
        username, has_password, password = credentials.partition(":")
        return cls(
            text=match[0],
            scheme=match["scheme"].lower(),
            username=unquote(username) if has_credentials else None,
            password=unquote(password) if has_password else None,
            hosts=tuple(_host_and_port(host) for host in hosts.split(",")),
            path=unquote(path),
            query=_parameters(query),
        )

    @property
    def host(self) -> str:
        """The only host; raises ValueError when none or several are named."""
        if len(self.hosts) > 1:
            raise ValueError("names several hosts; give one")
        host = "".join(host for host, _ in self.hosts)
        if not host:
            raise ValueError("names no host; write scheme://host:port")
        return host

    def masked(self, *, hide_username: bool = False) -> str:
        """The address with ``***`` for whatever is secret, for people to read."""
        parameters = "&".join(
            f"{name}={'***' if name in _SECRET_PARAMETERS else value}" for name, value in self.query.items()
        )
        hosts = ",".join(_spelt(host, port) for host, port in self.hosts)
        credentials = self._masked_credentials(hide_username=hide_username)
        return f"{self.scheme}://{credentials}{hosts}{self.path}{'?' if parameters else ''}{parameters}"

    def __repr__(self) -> str:
        return f"Url({self.masked(hide_username=True)!r})"

    def _masked_credentials(self, *, hide_username: bool) -> str:
        if self.username is None:
            return ""
        username = "***" if hide_username and self.username else self.username
        return f"{username}@" if self.password is None else f"{username}:***@"


def url_text(scheme: str, host: str, port: int, username: str | None, password: str | None) -> str:
    """The text of an address from its parts, encoded as Url.parse decodes it."""
    credentials = "" if username is None else quote(username, safe="")
    if password is not None:
        credentials += f":{quote(password, safe='')}"
    return f"{scheme}://{credentials}{'@' if credentials else ''}{_spelt(host, port)}"


def whole_number(text: str) -> int | None:
    """The number that ``text`` writes in digits alone, at most nine; None when it is anything else."""
    return int(text) if _DIGITS.fullmatch(text) else None


def _host_and_port(text: str) -> tuple[str, int | None]:
    match = _HOST.fullmatch(text)
    if match is None:
        raise ValueError(f"does not read as user:password@host:port; {_ESCAPES}")
    port = int(match["port"]) if match["port"] else None
    if port is not None and not 0 < port <= HIGHEST_PORT:
        raise ValueError(f"has a port outside 1 to {HIGHEST_PORT}; {_ESCAPES}")
    return unquote(match["host"]).strip("[]"), port


def _spelt(host: str, port: int | None) -> str:
    host = f"[{host}]" if ":" in host else host
    return host if port is None else f"{host}:{port}"


def _parameters(query: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for piece in filter(None, query.split("&")):
        name, equals, value = piece.partition("=")
        if not equals:
            raise ValueError(f"has a parameter without a value after the ?; write name=value, and {_ESCAPES}")
        if name in parameters:
            raise ValueError(f"has the parameter {name} twice; leave one out")
        parameters[name] = unquote_plus(value)
    return parameters
