"""DatabaseAddress: the PostgreSQL address, also with the parameters that only Prisma understands.

asyncpg sends parameters that it does not know to the server as settings, and the server refuses the connection.
So every parameter is either kept for asyncpg, mapped to what it means to skycap, or named as not understood.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, urlencode

from skycap.settings.addresses import Address
from skycap.settings.url import Url, whole_number

_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

_FOR_ASYNCPG = frozenset(
    {
        # where and as whom
        "database", "dbname", "host", "krbsrvname", "gsslib", "passfile", "password", "port", "service",
        "target_session_attrs", "user",
        # TLS
        "ssl_max_protocol_version", "ssl_min_protocol_version", "sslcert", "sslcrl", "sslkey", "sslmode",
        "sslnegotiation", "sslpassword", "sslrootcert",
        # settings of the server, which it takes when a session begins
        "application_name", "idle_in_transaction_session_timeout", "idle_session_timeout", "lock_timeout", "options",
        "search_path", "statement_timeout",
    }
)  # fmt: skip
_MAPPED = frozenset(
    {
        "connect_timeout",
        "connection_limit",
        "pgbouncer",
        "pool_timeout",
        "schema",
        "socket_timeout",
        "statement_cache_size",
    }
)
_INSTEAD = {
    "channel_binding": "leave it out, asyncpg has no channel binding; sslmode=verify-full proves who the server is",
    "sslaccept": "write sslmode=verify-full for strict, sslmode=require for accept_invalid_certs",
    "sslidentity": "write sslcert and sslkey, as PEM files",
}


@dataclass(frozen=True, kw_only=True, repr=False)
class DatabaseAddress(Address):
    """Where PostgreSQL is, and what the address says about connections to it; None = not said.

    ``pgbouncer`` means a transaction pooler: no prepared statement survives there (``statement_cache_size`` is 0), and
    LISTEN, migrations and CREATE INDEX CONCURRENTLY need the direct address; False rules one out, where None lets it be
    found out. ``schema`` is Prisma's: the search path.
    """

    url: Url
    dsn: str
    schema: str | None
    pgbouncer: bool | None
    connection_limit: int | None
    connect_timeout_seconds: float | None
    pool_timeout_seconds: float | None
    socket_timeout_seconds: float | None
    statement_cache_size: int | None

    @classmethod
    def parse(cls, text: str) -> Self:
        url = Url.parse(text)
        _check_scheme(url.scheme)
        _check_parameters(url.query)
        pgbouncer = _switch(url.query, "pgbouncer")
        return cls(
            url=url,
            dsn=_dsn(url),
            schema=url.query.get("schema") or None,
            pgbouncer=pgbouncer,
            connection_limit=_whole_number(url.query, "connection_limit"),
            connect_timeout_seconds=_seconds(url.query, "connect_timeout"),
            pool_timeout_seconds=_seconds(url.query, "pool_timeout"),
            socket_timeout_seconds=_seconds(url.query, "socket_timeout"),
            statement_cache_size=0 if pgbouncer else _whole_number(url.query, "statement_cache_size", lowest=0),
        )

    @property
    def unmasked(self) -> str:
        """What asyncpg connects to, password included."""
        return self.dsn

    @property
    def limits(self) -> dict[str, float]:
        """What the address says about the keys of ``[database]``, by key."""
        said = {
            "pool_size": self.connection_limit,
            "pool_timeout_seconds": self.pool_timeout_seconds,
            "connect_timeout_seconds": self.connect_timeout_seconds,
            "statement_timeout_seconds": self.socket_timeout_seconds,
        }
        return {key: value for key, value in said.items() if value is not None}

    def __str__(self) -> str:
        return self.url.masked()


def _check_scheme(scheme: str) -> None:
    if scheme.startswith("prisma"):
        raise ValueError(
            f"{scheme}:// is spoken by Prisma's own client only; give the postgresql:// address of the server"
        )
    if scheme not in {"postgresql", "postgres"}:
        raise ValueError(
            f"the scheme {scheme}:// is not understood; give postgresql://user:password@host:5432/database"
        )


def _check_parameters(query: Mapping[str, str]) -> None:
    unknown = sorted(set(query) - _FOR_ASYNCPG - _MAPPED)
    if unknown:
        advice = _INSTEAD.get(unknown[0], "leave it out")
        raise ValueError(f"the parameter {unknown[0]} is not understood; {advice}")
    if query.get("sslmode", "prefer") not in _SSL_MODES:
        raise ValueError(f"sslmode is none of {', '.join(_SSL_MODES)}; give one of them")


def _dsn(url: Url) -> str:
    """The address with what asyncpg understands and nothing else."""
    parameters = {name: value for name, value in url.query.items() if name in _FOR_ASYNCPG}
    if "sslcert" in parameters and not {"sslkey", "sslrootcert"} & set(parameters):
        # To Prisma it is the certificate of the server's authority; to libpq, the client's own, which needs a key.
        parameters["sslrootcert"] = parameters.pop("sslcert")
    base, _, _ = url.text.partition("?")
    return f"{base}?{urlencode(parameters, quote_via=quote)}" if parameters else base


def _whole_number(query: Mapping[str, str], name: str, *, lowest: int = 1) -> int | None:
    if name not in query:
        return None
    number = whole_number(query[name])
    if number is None or number < lowest:
        raise ValueError(f"{name} is no whole number from {lowest}; correct or leave it out")
    return number


def _seconds(query: Mapping[str, str], name: str) -> float | None:
    """0 is Prisma's "wait for ever", which skycap never does: its own limit stays."""
    return _whole_number(query, name, lowest=0) or None


def _switch(query: Mapping[str, str], name: str) -> bool | None:
    if name not in query:
        return None
    written = query[name].lower()
    if written not in {"true", "false"}:
        raise ValueError(f"{name} is neither true nor false; give one of them")
    return written == "true"
