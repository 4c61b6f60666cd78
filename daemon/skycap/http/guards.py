"""Guards: who is let in, with tokens and without."""

from __future__ import annotations

import math
from collections.abc import Iterable

from aiohttp import web

from skycap.http.access import LOCAL, Caller
from skycap.http.allowance import Allowance
from skycap.http.errors import NO_TOKEN, RATE_LIMIT, WRONG_TOKEN, ApiError
from skycap.http.scopes import Scope
from skycap.http.tokens import Token, TokenFile, found
from skycap.http.web_pages import WebPages
from skycap.settings.call_rate import call_rate

_ANYBODY = Caller(name=LOCAL, scopes=frozenset(Scope))


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
    """Admits everybody on this machine but the web pages that its browsers show."""

    is_for_others = False

    def __init__(self, host: str, further_hosts: Iterable[str] = ()) -> None:
        """See WebPages."""
        self._pages = WebPages(host, further_hosts)

    def admit(self, request: web.Request) -> Caller:
        self._pages.refuse_foreign(request)
        return _ANYBODY


class NobodyGuard:
    """Admits nobody: in production nobody may enqueue or change anything before an admin has said who."""

    is_for_others = False

    def admit(self, request: web.Request) -> Caller:  # noqa: ARG002 - see Guard
        raise ApiError(
            NO_TOKEN,
            "in production jobs take a token: make one with `skycap tokens new NAME --scope enqueue --file "
            "/etc/skycap/tokens.toml`, set http.tokens_file to that file and restart the daemon",
            headers={"WWW-Authenticate": 'Bearer realm="skycap"'},
        )
