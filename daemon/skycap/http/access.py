"""Access: which handlers ask who is there, and what a caller must be allowed to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from aiohttp import web

from skycap.http.errors import NO_SCOPE, ApiError, Handler
from skycap.http.scopes import Scope
from skycap.http.web_pages import WebPages

_H = TypeVar("_H", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who asks: the name of a token, or of nobody in particular."""

    name: str
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes


LOCAL = "local"
"""The name of whoever is let in without a token: anybody on this machine."""

CALLER = web.RequestKey("caller", Caller)


class Guard(Protocol):
    """Lets requests in."""

    is_for_others: bool
    """Whether other machines reach the server, so that what they may see of it takes a token."""

    def admit(self, request: web.Request) -> Caller:
        """Who sent it. Raises ApiError for one that must not be answered."""
        ...


@dataclass(frozen=True, kw_only=True)
class _Need:
    """What a handler needs of its caller: any of the scopes."""

    scopes: tuple[Scope, ...]
    is_only_for_others: bool


def needs(*scopes: Scope) -> Callable[[_H], _H]:
    """Marks a handler as one for callers with any of these scopes."""
    return _marker(_Need(scopes=scopes, is_only_for_others=False))


def needs_elsewhere(*scopes: Scope) -> Callable[[_H], _H]:
    """As ``needs``, but everybody on this machine may ask while other machines cannot."""
    return _marker(_Need(scopes=scopes, is_only_for_others=True))


def _marker(need: _Need) -> Callable[[_H], _H]:
    def mark(handler: _H) -> _H:
        handler.__dict__["need"] = need
        return handler

    return mark


class Access:
    """Asks the guard before a handler is called that needs a scope; where none is needed, keeps foreign pages out."""

    def __init__(self, guard: Guard, pages: WebPages) -> None:
        self._guard = guard
        self._pages = pages

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        request[_ACCESS] = self
        need: _Need | None = getattr(request.match_info.handler, "need", None)
        if need is None:
            return await handler(request)
        if need.is_only_for_others and not self._guard.is_for_others:
            self._pages.refuse_foreign(request)
            return await handler(request)
        caller = request[CALLER] = self._guard.admit(request)
        if not any(map(caller.may, need.scopes)):
            raise ApiError(
                NO_SCOPE,
                f"the token {caller.name!r} lacks the scope {' or '.join(need.scopes)}; an admin can add it to "
                "the tokens file",
            )
        self._pages.refuse_forged(request)
        return await handler(request)

    def caller(self, request: web.Request) -> Caller:
        """Raises ApiError for one that the guard does not know."""
        return self._guard.admit(request)


_ACCESS = web.RequestKey("access", Access)


def known_caller(request: web.Request) -> Caller | None:
    """Who asks for what everybody may see, if the guard knows them and they may read; for what only they may see."""
    try:
        caller = request[_ACCESS].caller(request)
    except ApiError:
        return None
    return caller if caller.may(Scope.READ) else None
