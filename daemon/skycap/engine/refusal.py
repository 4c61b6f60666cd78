"""Why Redis did not do what it was asked: what is worth trying again is Unavailable, and never tells an address."""

from __future__ import annotations

import os
import re
import ssl
from typing import Any

from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import AuthenticationError, BusyLoadingError, NoPermissionError, ResponseError

from skycap.errors import ConfigurationError, Unavailable

NOT_NOW = frozenset(
    {
        *("BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "OOM", "READONLY", "TRYAGAIN"),
        "UNBLOCKED",  # a blocked client of a master that became a replica
    }
)
"""The first words of replies that another time, or another server, may not give."""

_TELLING = re.compile(r"max number of clients[a-z +]*reached", re.IGNORECASE)
"""What redis-py says of a connection without telling the address."""


_FORBIDDEN_IN_SCRIPT = re.compile(r"ACL failure in script|user executing the script can't")
"""What Valkey, and Redis before 7.2, say with the code ERR."""


def code_of(reply: Any) -> str:
    """The first word of an error, such as ``NOSCRIPT``; empty for a reply that is none."""
    return str(reply).partition(" ")[0] if isinstance(reply, ResponseError) else ""


def accepted(reply: Any, command: str) -> Any:
    """The reply, unless it is an error: raises Unavailable for "not now", and ResponseError for a bug of ours."""
    if isinstance(reply, ResponseError):
        raise _refusal(reply, command) from reply
    return reply


def unreachable(error: Exception) -> str:
    """Why there is no connection, in words without an address."""
    match error:
        case AuthenticationError():
            return "its user or password is refused"
        case NoPermissionError():
            return _without_permission("the connection", str(error))
        case ResponseError() | BusyLoadingError():
            return str(error)
        case MasterNotFoundError():
            silent = ", and not all answer" if " : " in str(error) else ""
            return f"no Sentinel that answers knows a master of this name{silent}"
        case TimeoutError():
            return "no connection within the time limit"
        case _:
            return _telling(error) or _system_reason(error) or type(error).__name__


def _refusal(error: ResponseError, command: str) -> Exception:
    code, text = code_of(error), str(error)
    if code in NOT_NOW:
        return Unavailable("redis", text)
    if code == "NOPERM" or _FORBIDDEN_IN_SCRIPT.search(text):
        return Unavailable("redis", _without_permission(command, text))
    match code:
        case "NOAUTH" | "WRONGPASS":
            return Unavailable("redis", "its user or password is refused")
        case "ASK":
            # Nothing is asked there: the scripts would find one half of a queue.
            return Unavailable("redis", "the slot of this queue is moving to another node of the cluster")
        case "MOVED":
            return ConfigurationError("redis.url: this server is a node of a cluster; write redis+cluster://")
        case _:
            return error


def _without_permission(what: str, text: str) -> str:
    return f"{what}: {text}; grant its user the rights that skycap's README lists"


def _telling(error: Exception) -> str | None:
    found = _TELLING.search(str(error))
    return found[0] if found else None


def _system_reason(error: BaseException) -> str | None:
    """What the operating system or TLS said: redis-py puts the address before it, and keeps the error as context."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is refused: {cause.verify_message.partition(',')[0]}"
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed: {cause.reason}"
        if isinstance(cause, OSError) and cause.errno:
            # Not strerror: asyncio writes the address into it. Below zero are the resolver's own numbers.
            return os.strerror(cause.errno) if cause.errno > 0 else "its host name is not known"
        cause = cause.__cause__ or cause.__context__
    return None
