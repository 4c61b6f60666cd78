"""``/api/alarms``: what the rules found wrong, for the whole fleet."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from skycap.engine.alarms import Alarm, alarms_now
from skycap.engine.link import Link
from skycap.http.access import needs
from skycap.http.answers import json_answer
from skycap.http.scopes import Scope


class AlarmRoutes:
    """The alarms that are not simply well."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/api/alarms", self.list)

    @needs(Scope.READ)
    async def list(self, _request: web.Request) -> web.Response:
        alarms, _ = await alarms_now(self._link)
        return json_answer({"alarms": list(map(_document, alarms))})


def _document(alarm: Alarm) -> dict[str, Any]:
    rule, _, subject = alarm.name.partition(" ")
    return {
        "rule": rule,
        "subject": subject or None,
        "state": alarm.state,
        "since": alarm.since,
        "firedAt": alarm.fired_at,
        "recoveredAt": alarm.recovered_at,
        "toldAt": alarm.told_at,
        "value": alarm.reading.get("value"),
        "summary": alarm.reading.get("text"),
    }
