"""A real receiver of webhooks, which keeps what it is sent and answers as it is told."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.support.workers import eventually


@dataclass(kw_only=True)
class Posted:
    """One request that was taken or refused."""

    path: str
    headers: dict[str, str]
    body: bytes
    document: dict[str, Any]


@dataclass(kw_only=True)
class Hook:
    """``answers`` are given one by one, then 204 for ever. ``taken`` are the documents that got 2xx."""

    url: str = ""
    answers: list[web.Response] = field(default_factory=list[web.Response])
    posted: list[Posted] = field(default_factory=list[Posted])
    taken: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    @property
    def events(self) -> list[str]:
        return [document["event"] for document in self.taken]

    async def has(self, *events: str) -> None:
        """Return once exactly these have been taken, in this order."""

        async def have() -> bool:
            return self.events == [*events]

        await eventually(have)

    async def receive(self, request: web.Request) -> web.Response:
        posted = Posted(
            path=request.path,
            headers=dict(request.headers),
            body=await request.read(),
            document=await request.json(),
        )
        self.posted.append(posted)
        answer = self.answers.pop(0) if self.answers else web.Response(status=204)
        if answer.status < 300:
            self.taken.append(posted.document)
        return answer


@asynccontextmanager
async def hook() -> AsyncGenerator[Hook]:
    received = Hook()
    app = web.Application()
    app.router.add_post("/{rest:.*}", received.receive)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    received.url = f"http://{host}:{port}/skycap"
    try:
        yield received
    finally:
        await runner.cleanup()
