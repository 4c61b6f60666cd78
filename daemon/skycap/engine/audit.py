"""The audit log: who did what to the fleet, from where, and what came of it; in Redis and as lines of the log."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

import structlog

from skycap.engine.link import Link
from skycap.engine.stored import fields_of, moment, text
from skycap.errors import Unavailable
from skycap.redaction import without_addresses

_log = structlog.get_logger("skycap.audit")

Via: TypeAlias = Literal["http", "cli"]
Outcome: TypeAlias = Literal["done", "refused", "failed"]
Asked: TypeAlias = Mapping[str, str | int | float | bool | None]

_PREFIX = "skycap:{audit}:"
_STREAMS = ("done", "refused")
_LIMIT_SECONDS = 1.0
"""How long whoever acted waits for the entry to be stored."""
_LONGEST_TEXT = 300
_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True)
class Action:
    """What somebody did, or was refused.

    ``who`` is the name of a token or a user of the system, ``code`` why it was not done: an error's of the HTTP API,
    or ``EXIT_64``. ``asked`` is what it was to be done with, such as for how long: never a payload.
    """

    action: str
    target: str
    who: str
    via: Via
    outcome: Outcome
    code: str | None = None
    request_id: str | None = None
    asked: Asked = field(default_factory=dict[str, Any])


@dataclass(frozen=True, kw_only=True)
class Audited:
    """An action as it was stored: when, by Redis' clock, and on which host."""

    at: datetime
    number: int
    """Of all that were ever stored."""
    host: str
    action: Action

    def document(self) -> dict[str, Any]:
        action = self.action
        return {
            "at": self.at,
            "who": action.who,
            "via": action.via,
            "host": self.host,
            "requestId": action.request_id,
            "action": action.action,
            "target": action.target,
            "asked": dict(action.asked),
            "outcome": action.outcome,
            "code": action.code,
        }


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which actions; None: whichever. ``action`` may be the beginning of several: ``queue``."""

    action: str | None = None
    who: str | None = None
    since: datetime | None = None

    def fits(self, found: Action) -> bool:
        return self.who in {None, found.who} and (
            self.action is None or found.action == self.action or found.action.startswith(f"{self.action}.")
        )


class AuditLog:
    """At least the newest 10,000 actions are kept, and as many that were refused."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def note(self, action: Action) -> None:
        """Write it down. Never fails: where Redis does not take it within a second, the log says so."""
        tell(action)
        clean = _clean(action)
        try:
            async with asyncio.timeout(_LIMIT_SECONDS):
                await self._link.call("audit", _PREFIX, _stream_of(clean), _stored(clean))
        except (Unavailable, TimeoutError) as error:
            # Of what was refused, nothing was done that anybody could miss.
            _log.log(
                logging.DEBUG if action.outcome == "refused" else logging.WARNING,
                "an admin action is in the log only, and not in Redis",
                **_fields(clean),
                problem=str(error) or f"no answer within {_LIMIT_SECONDS:g} s",
            )

    async def newest(self, wanted: Wanted, *, limit: int) -> list[Audited]:
        """What fits, the newest first. Raises Unavailable."""
        found = [each for stream in _STREAMS for each in await self._newest_of(stream, wanted, limit)]
        return sorted(found, key=lambda each: each.number, reverse=True)[:limit]

    async def _newest_of(self, stream: str, wanted: Wanted, limit: int) -> list[Audited]:
        oldest = "-" if wanted.since is None else str(max(0, round(wanted.since.timestamp() * 1000)))
        newest = "+"
        found: list[Audited] = []
        while len(found) < limit:
            entries = await self._link.command("XREVRANGE", f"{_PREFIX}{stream}", newest, oldest, "COUNT", _AT_ONCE)
            found += [each for each in map(_audited, entries) if each is not None and wanted.fits(each.action)]
            if len(entries) < _AT_ONCE:
                break
            newest = f"({text(entries[-1][0])}"
        return found[:limit]


def tell(action: Action) -> None:
    """The line of the log alone: where there is no Redis, or it is known to be away."""
    _log.info("admin action", **_fields(_clean(action)))


def _fields(action: Action) -> dict[str, Any]:
    return {name: value for name, value in asdict(action).items() if value not in (None, {})}


def _stream_of(action: Action) -> str:
    return "refused" if action.outcome == "refused" else "done"


def _stored(action: Action) -> str:
    return json.dumps({"host": socket.gethostname(), **asdict(action)})


def _audited(entry: tuple[bytes, list[bytes]]) -> Audited | None:
    """None for what no daemon of this version writes."""
    entry_id, fields = entry
    try:
        stored = fields_of(fields)
        document: dict[str, Any] = json.loads(stored["entry"])
        host = document.pop("host")
        return Audited(
            at=moment(entry_id.partition(b"-")[0]),
            number=int(stored["number"]),
            host=host,
            action=Action(**document),
        )
    except (ValueError, KeyError, TypeError):
        return None


def _clean(action: Action) -> Action:
    """Without addresses and without what is longer than one would read; a caller chooses the target's name."""
    document = asdict(action)
    asked = {_short(name): _short(value) for name, value in action.asked.items() if value is not None}
    return Action(**{name: _short(value) for name, value in document.items() if name != "asked"}, asked=asked)


def _short(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    plain = without_addresses(value)
    # What is no text in UTF-8 came from a URL, and could be stored nowhere.
    plain = plain.encode(errors="backslashreplace").decode()
    return plain if len(plain) <= _LONGEST_TEXT else f"{plain[: _LONGEST_TEXT - 1]}…"
