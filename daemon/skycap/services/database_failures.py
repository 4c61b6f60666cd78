"""What a database says when it cannot be used: what is the server's state or the network's, and what was undone."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

import asyncpg

from skycap.errors import ConfigurationError, Unavailable

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]

ASYNCPG_FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)

READ_ONLY = "25006"
TOO_LONG = "57014"
COLLIDED = frozenset({"40001", "40P01"})
"""The server has undone a transaction in favour of another one; the same again is likely to succeed."""

_UNDONE = COLLIDED | {READ_ONLY, "53000", "53200", "53300", "55P03", "57P01", "57P03"}
"""The server said so instead of doing it. Not 57P02, which those who survive a crash say whatever they had done, and
nothing that would be the same a second later (53100, a full disk)."""

_REASONS = {
    "08P01": "the server refused the protocol; PgBouncer takes parameters such as statement_timeout in a URL "
    "only where its ignore_startup_parameters names them",
    READ_ONLY: "the server is read-only: a standby, or failing over",
    "3D000": "there is no database of this name",
    "40001": "transactions collided and this one was undone",
    "40P01": "a deadlock was resolved by undoing this transaction",
    "53100": "the server's disk is full",
    "53200": "the server is out of memory",
    "53300": "the server has no connection left",
    "55P03": "a lock was not free within lock_timeout",
    TOO_LONG: "the statement took longer than statement_timeout",
    "57P01": "the server is shutting down",
    "57P02": "the server crashed and starts again",
    "57P03": "the server is starting or recovering",
}
_CLASSES = {
    "08": "the connection was lost",
    "28": "the server refused the log-in",
    "53": "the server is short of something",
    "57P": "the server ended the connection",
}


@contextmanager
def reaching(connection: Connection | None = None) -> Generator[None]:
    """Raise Unavailable for whatever is the server's state or the network's; programming errors pass."""
    try:
        yield
    except asyncpg.ClientConfigurationError as error:
        raise ConfigurationError(
            "the database URL cannot be used: write postgresql://user:password@host:port/database"
        ) from error
    except asyncpg.PostgresError as error:
        reason = _reason(error.sqlstate or "")
        if reason is None:
            raise
        raise Unavailable("database", f"{reason} ({error.sqlstate})") from error
    except asyncpg.InterfaceError as error:
        if connection is None or not _is_gone(connection):
            raise
        raise Unavailable("database", _CLASSES["08"]) from error
    except asyncpg.InternalClientError as error:
        # What asyncpg says when the server has ended the connection and its farewell still lies in the socket.
        if connection is not None:
            connection.terminate()
        raise Unavailable("database", _CLASSES["08"]) from error
    except OSError as error:
        raise Unavailable("database", _network_reason(error)) from error


def sqlstate_of(error: Unavailable) -> str | None:
    """What the server said, of an error that came out of ``reaching``; None when it said nothing."""
    cause = error.__cause__
    return cause.sqlstate if isinstance(cause, asyncpg.PostgresError) else None


def was_undone(error: Unavailable) -> bool:
    """Whether the server itself said that it has not done it, nor ever will."""
    return sqlstate_of(error) in _UNDONE


def has_waited(error: Unavailable) -> bool:
    """Whether a time limit ran out, after which there is no point in asking again at once."""
    return isinstance(error.__cause__, TimeoutError)


def _reason(sqlstate: str) -> str | None:
    if sqlstate in _REASONS:
        return _REASONS[sqlstate]
    return next((reason for start, reason in _CLASSES.items() if sqlstate.startswith(start)), None)


def _network_reason(error: OSError) -> str:
    """In words of our own: the error's own name the host."""
    if isinstance(error, TimeoutError):
        return "no answer, or no free connection, in time"
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return f"no connection ({type(error).__name__})"


def _is_gone(connection: Connection) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:  # the pool has taken it back, as it does with a connection that was lost
        return True
