"""Audit: which handlers are actions of an admin, and the one place that writes down what became of each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from aiohttp import web

from skycap.engine.audit import Action, Asked, AuditLog, Outcome
from skycap.http.access import CALLER, LOCAL
from skycap.http.allowance import Allowance
from skycap.http.errors import INTERNAL, REQUEST_ID, Handler, api_error_of
from skycap.http.peers import peer_user

_H = TypeVar("_H", bound=Callable[..., Any])

_ASKED = web.RequestKey("asked", dict[str, Any])
_TARGET = web.RequestKey("target", str)

STRANGER = "unknown"
"""Whoever showed no token, or none that is known."""

_STRANGERS_PER_SECOND, _STRANGERS_AT_ONCE = 1.0, 100.0
"""How many attempts of strangers are written down: nobody fills the log who is not let in."""


@dataclass(frozen=True, kw_only=True)
class _Act:
    name: str
    target: str


def acts(name: str, *, target: str = "") -> Callable[[_H], _H]:
    """Marks a handler as an action, such as ``queue.pause``; ``target`` is the part of the path that names of what."""

    def mark(handler: _H) -> _H:
        handler.__dict__["act"] = _Act(name=name, target=target)
        return handler

    return mark


def note_asked(request: web.Request, *, target: str | None = None, **asked: str | float | None) -> None:
    """What the action is asked to do, for the audit log; never a payload."""
    request[_ASKED] = {name: value for name, value in asked.items() if value is not None}
    if target is not None:
        request[_TARGET] = target


class Auditor:
    """Notes each action when it is over, before it is answered: done, or refused and why."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log
        self._strangers = Allowance(_STRANGERS_PER_SECOND, burst=_STRANGERS_AT_ONCE)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        act: _Act | None = getattr(request.match_info.handler, "act", None)
        if act is None:
            return await handler(request)
        try:
            response = await handler(request)
        except Exception as error:
            why = api_error_of(request, error).error_type
            await self._note(request, act, "refused" if why.status < INTERNAL.status else "failed", why.code)
            raise
        except asyncio.CancelledError:
            await self._note(request, act, "failed", "CUT_OFF")
            raise
        await self._note(request, act, "done", None)
        return response

    async def _note(self, request: web.Request, act: _Act, outcome: Outcome, code: str | None) -> None:
        who = _who(request)
        if who == STRANGER and self._strangers.take():
            return
        asked: Asked = request.get(_ASKED, {})
        await self._log.note(
            Action(
                action=act.name,
                target=request.get(_TARGET) or request.match_info.get(act.target, ""),
                who=who,
                via="http",
                outcome=outcome,
                code=code,
                request_id=request[REQUEST_ID],
                asked=asked,
            )
        )


def _who(request: web.Request) -> str:
    """Over a unix socket without tokens, the user of the system: a token has no colon in its name."""
    caller = request.get(CALLER)
    if caller is None:
        return STRANGER
    user = peer_user(request) if caller.name == LOCAL else None
    return caller.name if user is None else f"{LOCAL}:{user}"
