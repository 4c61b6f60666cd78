"""What happens to a job, told over HTTP as it happens."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientResponse

from tests.support.api import Api, api
from tests.support.redis import redis_at
from tests.support.workers import PATIENCE, bench, eventually


@dataclass(frozen=True)
class Told:
    """One server-sent event; a comment has no name."""

    id: str
    name: str
    data: Any


async def told(response: ClientResponse) -> AsyncIterator[Told]:
    async with asyncio.timeout(PATIENCE.total_seconds()):
        block: dict[str, str] = {}
        async for line in response.content:
            text = line.decode().rstrip("\n")
            if text:
                field, _, value = text.partition(": ")
                block[field] = value
            else:
                yield Told(block.get("id", ""), block.get("event", ""), json.loads(block.get("data", "null")))
                block = {}


async def first(response: ClientResponse) -> Told:
    return await anext(told(response))


async def enqueued(site: Api, **options: Any) -> str:
    body = await (await site.post("/api/jobs", {"kind": "take-note", **options})).json()
    return str(body["jobId"])


async def test_a_listener_hears_of_a_job_from_its_state_to_its_end(redis_url: str) -> None:
    may_go_on = asyncio.Event()

    async def handle(ctx: Any, payload: Any) -> None:
        await ctx.progress(0.5, "half")
        await may_go_on.wait()

    async with api(redis_url) as site, bench(redis_url, handle) as work:
        job_id = await enqueued(site)
        heard: list[Told] = []
        async with site.session.get(f"{site.url}/api/jobs/{job_id}/events") as response:
            assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
            async with work.working():
                async for event in told(response):
                    heard.append(event)
                    if event.name == "progress":
                        may_go_on.set()
    assert [event.name for event in heard] == ["available", "running", "progress", "completed"]
    assert (heard[2].data["fraction"], heard[2].data["note"]) == (0.5, "half")
    assert {event.data["jobId"] for event in heard} == {job_id}


async def test_of_a_job_that_has_ended_only_that_is_told(redis_url: str) -> None:
    async with api(redis_url) as site:
        job_id = await enqueued(site, delaySeconds=60)
        await site.post(f"/api/jobs/{job_id}/cancel", None)
        async with site.session.get(f"{site.url}/api/jobs/{job_id}/events") as response:
            assert [event.name async for event in told(response)] == ["cancelled"]


async def test_who_comes_back_hears_what_happened_meanwhile(redis_url: str) -> None:
    async with api(redis_url) as site, bench(redis_url) as work:
        job_id = await enqueued(site, delaySeconds=60)
        async with site.session.get(f"{site.url}/api/jobs/{job_id}/events") as response:
            last = await first(response)
        await site.post(f"/api/jobs/{job_id}/retry", None)
        async with work.working():
            await work.finished(job_id)
        headers = {"Last-Event-ID": last.id}
        async with site.session.get(f"{site.url}/api/jobs/{job_id}/events", headers=headers) as response:
            names = [event.name async for event in told(response)]
    assert (last.name, names) == ("scheduled", ["available", "running", "completed"])


async def test_one_connection_to_redis_serves_all_who_listen(redis_url: str) -> None:
    async with api(redis_url) as site, redis_at(redis_url) as redis, AsyncExitStack() as open_ones:
        job_ids = [await enqueued(site, delaySeconds=60) for _ in range(20)]
        responses = [
            await open_ones.enter_async_context(site.session.get(f"{site.url}/api/jobs/{job_id}/events"))
            for job_id in job_ids
        ]
        assert {(await first(response)).name for response in responses} == {"scheduled"}
        clients = [client for client in await redis.client_list() if client["cmd"] == "xread"]
        assert len(clients) == 1
        await asyncio.gather(*(site.post(f"/api/jobs/{job_id}/cancel", None) for job_id in job_ids))
        assert [[event.name async for event in told(response)] for response in responses] == [["cancelled"]] * 20


async def test_more_than_so_many_listeners_are_put_off(redis_url: str) -> None:
    async with api(redis_url, most_listeners=1) as site:
        path = f"{site.url}/api/jobs/{await enqueued(site, delaySeconds=60)}/events"
        async with site.session.get(path), site.session.get(path) as second:
            assert second.status == 503
            assert (await second.json())["code"] == "EXTERNAL_SERVICE_004"
            assert second.headers["Retry-After"] == "5"


async def test_a_listener_who_has_gone_makes_room_for_another(redis_url: str) -> None:
    async with api(redis_url, most_listeners=1, heartbeat_seconds=0.05) as site:
        path = f"{site.url}/api/jobs/{await enqueued(site, delaySeconds=60)}/events"
        async with site.session.get(path) as response:
            await first(response)

        async def is_let_in() -> bool:
            async with site.session.get(path) as response:
                return response.status == 200

        await eventually(is_let_in)


async def test_silence_is_broken_by_comments(redis_url: str) -> None:
    async with api(redis_url, heartbeat_seconds=0.02) as site:
        job_id = await enqueued(site, delaySeconds=60)
        async with site.session.get(f"{site.url}/api/jobs/{job_id}/events") as response:
            stream = told(response)
            assert [(await anext(stream)).name for _ in range(3)] == ["scheduled", "", ""]


async def test_a_listener_does_not_hold_up_the_end_of_the_server(redis_url: str) -> None:
    async with AsyncExitStack() as site_closing:
        site = await site_closing.enter_async_context(api(redis_url))
        job_id = await enqueued(site, delaySeconds=60)
        async with site.session.get(f"{site.url}/api/jobs/{job_id}/events") as response:
            await first(response)
            began = time.monotonic()
            await site_closing.aclose()
            assert time.monotonic() - began < 1


async def test_who_does_not_read_is_let_go_and_holds_up_nobody(redis_url: str) -> None:
    async with api(redis_url, most_listeners=2, write_seconds=0.2) as site, bench(redis_url) as work:
        job_id = await enqueued(site)
        claims = (await work.queue.step([], slots=1, worker="w", lease=PATIENCE, poison_after=3)).claims
        host, _, port = site.url.removeprefix("http://").partition(":")
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect((host, int(port)))
            slow.sendall(f"GET /api/jobs/{job_id}/events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            async with site.session.get(f"{site.url}/api/jobs/{job_id}/events") as response:
                stream = told(response)
                assert (await anext(stream)).name == "running"
                note = json.dumps({"fraction": 0.5, "note": "x" * 50_000, "at": 0})
                for _ in range(240):  # more than the system holds for one who does not read
                    assert await work.queue.report(claims[0], "progress", note)
                    assert (await anext(stream)).name == "progress"

                async def has_made_room() -> bool:
                    async with site.session.get(f"{site.url}/api/jobs/{job_id}/events") as third:
                        return third.status == 200

                await eventually(has_made_room)


async def test_an_unknown_job_has_no_events(redis_url: str) -> None:
    async with api(redis_url) as site, site.session.get(f"{site.url}/api/jobs/nothing/events") as response:
        assert response.status == 404
