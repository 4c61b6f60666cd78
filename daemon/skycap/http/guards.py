"""Guards: who is let in, with tokens and without."""

from __future__ import annotations

import math
from functools import lru_cache
from urllib.parse import urlsplit

from aiohttp import web

from skycap.http.access import Caller
from skycap.http.allowance import Allowance
from skycap.http.errors import FOREIGN, NO_TOKEN, RATE_LIMIT, WRONG_TOKEN, ApiError
from skycap.http.scopes import Scope
from skycap.http.tokens import Token, TokenFile, found
from skycap.settings.addresses import is_loopback
from skycap.settings.call_rate import call_rate

_ANYBODY = Caller(name="local", scopes=frozenset(Scope))
_FAR = frozenset({"cross-site", "same-site"})


class TokenGuard:
    """Admits callers with a token, each as often as its rate allows."""

    def __init__(self, file: TokenFile, *, token_rate: str, is_for_others: bool) -> None:
        self._file = file
        self._token_rate = call_rate(token_rate)
        self._allowances: dict[Token, Allowance] = {}
        self.is_for_others = is_for_others

    def admit(self, request: web.Request) -> Caller:
        token = self._token(request)
        wait_seconds = self._allowance(token).take()
        if wait_seconds:
            raise ApiError(
                RATE_LIMIT,
                f"the token {token.name!r} has used up its rate; send requests more slowly",
                headers={"Retry-After": str(max(1, math.ceil(wait_seconds)))},
            )
        return Caller(name=token.name, scopes=token.scopes)

    def _token(self, request: web.Request) -> Token:
        scheme, _, presented = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not presented:
            raise ApiError(
                NO_TOKEN,
                "a token is needed; send it with the header Authorization: Bearer TOKEN",
                headers={"WWW-Authenticate": 'Bearer realm="skycap"'},
            )
        token = found(self._file.tokens(), presented.strip())
        if token is None or token.is_expired():
            raise ApiError(
                WRONG_TOKEN,
                "the token is not known here, or has expired; an admin makes one with `skycap tokens new`",
                headers={"WWW-Authenticate": 'Bearer realm="skycap", error="invalid_token"'},
            )
        return token

    def _allowance(self, token: Token) -> Allowance:
        allowance = self._allowances.get(token)
        if allowance is None:
            # One that is in the file no more, or has changed, is not counted any longer.
            current = set(self._file.tokens())
            self._allowances = {known: its for known, its in self._allowances.items() if known in current}
            number, time = token.rate or self._token_rate
            allowance = self._allowances[token] = Allowance(number / time.total_seconds(), burst=number)
        return allowance


class LocalGuard:
    """Admits everybody on this machine but the web pages that its browsers show (DNS rebinding, forged requests)."""

    is_for_others = False

    def __init__(self, host: str) -> None:
        """``host`` is the name that the server listens on; empty for a unix socket, which no browser reaches."""
        self._host = host

    def admit(self, request: web.Request) -> Caller:
        read = request.headers.get
        if self._host and _is_foreign(
            self._host, read("Host", ""), read("Origin"), is_far=read("Sec-Fetch-Site", "none") in _FAR
        ):
            raise ApiError(
                FOREIGN,
                "this daemon answers to the names of its own machine only, and to no web page of another; "
                "set http.tokens_file and send a token",
            )
        return _ANYBODY


class NobodyGuard:
    """Admits nobody: in production nobody may enqueue before an admin has said who."""

    is_for_others = False

    def admit(self, request: web.Request) -> Caller:  # noqa: ARG002 - see Guard
        raise ApiError(
            NO_TOKEN,
            "in production jobs take a token: make one with `skycap tokens new NAME --scope enqueue --file "
            "/etc/skycap/tokens.toml`, set http.tokens_file to that file and restart the daemon",
            headers={"WWW-Authenticate": 'Bearer realm="skycap"'},
        )


@lru_cache(maxsize=64)  # the same few for nearly all requests
def _is_foreign(own_host: str, host: str, origin: str | None, *, is_far: bool) -> bool:
    name = _host_name(host)
    if is_far or not (is_loopback(name) or name == own_host.lower()):
        return True
    return origin is not None and origin.partition("://")[2] != host


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:  # such as an open bracket
        return ""
