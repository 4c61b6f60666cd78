"""The HTTP API in this process, on real queues, with kinds of the tests' own."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import ClientResponse, ClientSession

from skycap import Plugin
from skycap.breaker import BreakerSpec
from skycap.engine.audit import AuditLog
from skycap.engine.link import Link
from skycap.engine.policy import QueuePolicy
from skycap.engine.queue import Queue
from skycap.http.access import Guard
from skycap.http.admin import admin_routes
from skycap.http.bodies import Bodies
from skycap.http.description import DescriptionRoutes
from skycap.http.job_events import JobEventsRoutes
from skycap.http.jobs import JobsRoutes
from skycap.http.kinds import KindsRoutes
from skycap.http.server import HttpServer, Routes
from skycap.http.system_status import StatusRoutes
from skycap.intake import Intake
from skycap.maintenance.clock import Clock
from skycap.maintenance.schedules import Schedules
from skycap.payload import Payload
from skycap.published_kinds import published
from skycap.registry import Registry
from skycap.schedule import Schedule
from tests.support.status import status_sources
from tests.support.workers import Note


class Memo(Payload, kind="take-memo", queue="others"):
    """A job of another queue."""


BREAKERS = {"partner": BreakerSpec(name="partner")}
SCHEDULES = [Schedule(name="nightly", payload=Note(text="private"), crontab="0 2 * * *", plugin="tests")]


@dataclass(frozen=True, kw_only=True)
class Api:
    """A running server, a session to ask it with, and its first queue."""

    url: str
    session: ClientSession
    queue: Queue

    async def post(self, path: str, document: Any, *, headers: Mapping[str, str] | None = None) -> ClientResponse:
        """The answer, read whole; None is no body."""
        body = b"" if document is None else json.dumps(document).encode()
        return await self.post_text(path, body, headers=headers)

    async def post_text(self, path: str, body: bytes, *, headers: Mapping[str, str] | None = None) -> ClientResponse:
        given = {"Content-Type": "application/json", **(headers or {})}
        async with self.session.post(self.url + path, data=body, headers=given) as response:
            await response.read()
            return response

    async def get_json(self, path: str) -> Any:
        async with self.session.get(self.url + path) as response:
            assert response.status == 200, await response.text()
            return await response.json()


@asynccontextmanager
async def api(
    redis_url: str,
    *,
    policy: QueuePolicy | None = None,
    development: bool = True,
    guard: Guard | None = None,
    hosts: Sequence[str] = (),
    bodies: Bodies | None = None,
    path: Path | None = None,
    further_routes: Sequence[Routes] = (),
    **of_events: Any,
) -> AsyncGenerator[Api]:
    """A server on a free port of this machine, or on a unix socket at ``path``."""
    plugin = Plugin("tests")

    @plugin.job()
    async def take_note(ctx: Any, payload: Note) -> None: ...

    @plugin.job()
    async def take_memo(ctx: Any, payload: Memo) -> None: ...

    registry = Registry()
    registry.add(plugin, name="tests", origin="the test")
    link = Link.to(redis_url)
    queues = {"tests": Queue("tests", link, policy=policy), "others": Queue("others", link)}
    for queue in queues.values():
        await queue.configure()
    events = JobEventsRoutes(queues, **of_events)
    bodies = bodies or Bodies()
    async with status_sources(link, queues) as sources:
        server = HttpServer(
            [
                JobsRoutes(Intake(registry), queues, bodies),
                *admin_routes(
                    link,
                    queues,
                    registry,
                    breakers=BREAKERS,
                    schedules=Schedules(Clock(SCHEDULES, queues)),
                    bodies=bodies,
                ),
                events,
                KindsRoutes(published(registry.job_types)),
                DescriptionRoutes(version="0"),
                StatusRoutes(sources),
                *further_routes,
            ],
            host="127.0.0.1",
            port=0,
            path=path,
            guard=guard,
            hosts=hosts,
            audit=AuditLog(link),
            development=development,
            at_stop=[events.stop],
        )
        await server.start()
        try:
            async with ClientSession() as session:
                yield Api(url=server.url, session=session, queue=queues["tests"])
        finally:
            await server.stop()
            await link.close()
