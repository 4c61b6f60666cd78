"""Every error that the API documents can be met, in either shape, with its status, its code and its own words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from pydantic import TypeAdapter

from skycap.engine.policy import QueuePolicy
from skycap.http.bodies import Bodies
from skycap.http.documents import ErrorDocument, ProblemDocument
from skycap.http.errors import ERROR_TYPES, ErrorType
from skycap.http.guards import TokenGuard
from skycap.http.tokens import TokenFile, digest_of, new_token
from tests.support.api import Api, api
from tests.support.redis import redis_at
from tests.support.redis_servers import proxy, redis_server

NOTE: dict[str, Any] = {"kind": "take-note", "payload": {"text": "hello"}}
TOKEN = new_token()


@dataclass(kw_only=True)
class Scene:
    """Where an error is brought about; what it opens ends with the test."""

    redis_url: str
    folder: Path
    headers: Mapping[str, str]
    """Which shape the error is to have."""
    closing: AsyncExitStack

    async def site(self, url: str = "", **options: Any) -> Api:
        return await self.closing.enter_async_context(api(url or self.redis_url, **options))

    async def ask(self, site: Api, document: Any = NOTE, path: str = "/api/jobs", **headers: str) -> ClientResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await site.post(path, document, headers={**self.headers, **named})

    async def send(self, site: Api, body: bytes | AsyncIterator[bytes], **headers: str) -> ClientResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        given = {"Content-Type": "application/json", **self.headers, **named}
        async with site.session.post(f"{site.url}/api/jobs", data=body, headers=given) as response:
            await response.read()
            return response

    async def guarded(self, scope: str, rate: str = "1000/1s") -> Api:
        file = self.folder / "tokens.toml"
        file.write_text(f'[someone]\nsha256 = "{digest_of(TOKEN)}"\nscopes = ["{scope}"]\n')
        return await self.site(guard=TokenGuard(TokenFile(file), token_rate=rate, is_for_others=False))


async def _invalid_payload(scene: Scene) -> ClientResponse:
    return await scene.ask(await scene.site(), {"kind": "take-note", "payload": {"text": 5}})


async def _unknown_kind(scene: Scene) -> ClientResponse:
    return await scene.ask(await scene.site(), {"kind": "take-nothing"})


async def _newer_payload(scene: Scene) -> ClientResponse:
    return await scene.ask(await scene.site(), {**NOTE, "version": 2})


async def _invalid_request(scene: Scene) -> ClientResponse:
    return await scene.ask(await scene.site(), {**NOTE, "wish": 1})


async def _broken_gzip(scene: Scene) -> ClientResponse:
    return await scene.send(await scene.site(), b"{}", Content_Encoding="gzip")


async def _no_json(scene: Scene) -> ClientResponse:
    return await scene.send(await scene.site(), b"[]")


async def _too_deep(scene: Scene) -> ClientResponse:
    return await scene.send(await scene.site(), b'{"a":' * 33 + b"1" + b"}" * 33)


async def _bad_header(scene: Scene) -> ClientResponse:
    return await scene.ask(await scene.site(), Idempotency_Key="with a blank")


async def _wrong_method(scene: Scene) -> ClientResponse:
    site = await scene.site()
    async with site.session.delete(f"{site.url}/api/jobs", headers=scene.headers) as response:
        await response.read()
        assert response.headers["Allow"] == "GET,HEAD,POST"
        return response


async def _too_slow(scene: Scene) -> ClientResponse:
    answered = asyncio.Event()

    async def body() -> AsyncGenerator[bytes]:
        yield b"{"
        await answered.wait()

    try:
        return await scene.send(await scene.site(bodies=Bodies(limit_seconds=0.05)), body())
    finally:
        answered.set()


async def _too_large(scene: Scene) -> ClientResponse:
    return await scene.ask(await scene.site(), {"kind": "take-note", "payload": {"text": "x" * 400_000}})


async def _wrong_type(scene: Scene) -> ClientResponse:
    return await scene.ask(await scene.site(), Content_Type="text/plain")


async def _no_token(scene: Scene) -> ClientResponse:
    return await scene.ask(await scene.guarded("enqueue"))


async def _wrong_token(scene: Scene) -> ClientResponse:
    return await scene.ask(await scene.guarded("enqueue"), Authorization="Bearer sc_another")


async def _lacking_scope(scene: Scene) -> ClientResponse:
    return await scene.ask(await scene.guarded("read"), Authorization=f"Bearer {TOKEN}")


async def _web_page_of_another(scene: Scene) -> ClientResponse:
    return await scene.ask(await scene.site(), Host="another.example.com")


async def _unknown_job(scene: Scene) -> ClientResponse:
    site = await scene.site()
    async with site.session.get(f"{site.url}/api/jobs/nobody-knows", headers=scene.headers) as response:
        await response.read()
        return response


async def _key_again_with_another_request(scene: Scene) -> ClientResponse:
    site = await scene.site()
    await scene.ask(site, Idempotency_Key="k")
    return await scene.ask(site, {**NOTE, "priority": 7}, Idempotency_Key="k")


async def _cancelled_twice(scene: Scene) -> ClientResponse:
    site = await scene.site()
    await scene.ask(site, {**NOTE, "id": "once"})
    await scene.ask(site, {}, "/api/jobs/once/cancel")
    return await scene.ask(site, {}, "/api/jobs/once/cancel")


async def _other_dead_letters_than_expected(scene: Scene) -> ClientResponse:
    return await scene.ask(await scene.site(), {"expect": 3}, "/api/dead/discard")


async def _too_often(scene: Scene) -> ClientResponse:
    site = await scene.guarded("enqueue", rate="1/60s")
    await scene.ask(site, Authorization=f"Bearer {TOKEN}")
    response = await scene.ask(site, Authorization=f"Bearer {TOKEN}")
    assert 1 <= int(response.headers["Retry-After"]) <= 60
    return response


class _Bug:
    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_post("/api/bug", self.fail)

    async def fail(self, _request: web.Request) -> web.Response:
        raise ZeroDivisionError("ada@example.com")


async def _bug(scene: Scene) -> ClientResponse:
    response = await scene.ask(await scene.site(further_routes=[_Bug()]), path="/api/bug")
    assert "ada@" not in await response.text()
    return response


async def _redis_away(scene: Scene) -> ClientResponse:
    async with proxy(scene.redis_url) as between:
        site = await scene.site(between.url)
        await between.close()
        return await scene.ask(site)


async def _redis_silent(scene: Scene) -> ClientResponse:
    async with proxy(scene.redis_url) as between:
        site = await scene.site(between.url)
        between.go_silent()
        return await scene.ask(site)


async def _queue_full(scene: Scene) -> ClientResponse:
    site = await scene.site(policy=QueuePolicy(max_waiting=1))
    await scene.ask(site)
    response = await scene.ask(site)
    assert response.headers["Retry-After"]
    return response


async def _redis_full(scene: Scene) -> ClientResponse:
    server = await scene.closing.enter_async_context(redis_server(scene.folder / "redis"))
    site = await scene.site(server.url)
    async with redis_at(server.url) as admin:
        await admin.config_set("maxmemory", 1)
        response = await scene.ask(site, {**NOTE, "id": "none"})
        await admin.config_set("maxmemory", 0)
    assert await site.queue.get("none") is None
    return response


async def _too_many_bytes_at_once(scene: Scene) -> ClientResponse:
    return await scene.ask(await scene.site(bodies=Bodies(most_bytes_at_once=10)))


SCENES: Mapping[str, Callable[[Scene], Awaitable[ClientResponse]]] = {
    "VALIDATION_001": _invalid_payload,
    "VALIDATION_002": _unknown_kind,
    "VALIDATION_003": _newer_payload,
    "VALIDATION_004": _invalid_request,
    "BAD_REQUEST_001": _broken_gzip,
    "BAD_REQUEST_002": _no_json,
    "BAD_REQUEST_003": _too_deep,
    "BAD_REQUEST_004": _bad_header,
    "BAD_REQUEST_005": _too_slow,
    "BAD_REQUEST_006": _too_large,
    "BAD_REQUEST_007": _wrong_type,
    "BAD_REQUEST_008": _wrong_method,
    "AUTHENTICATION_001": _no_token,
    "AUTHENTICATION_002": _wrong_token,
    "AUTHORIZATION_001": _lacking_scope,
    "AUTHORIZATION_002": _web_page_of_another,
    "NOT_FOUND_001": _unknown_job,
    "CONFLICT_001": _key_again_with_another_request,
    "CONFLICT_002": _cancelled_twice,
    "CONFLICT_003": _other_dead_letters_than_expected,
    "RATE_LIMIT_001": _too_often,
    "INTERNAL_SERVER_001": _bug,
    "EXTERNAL_SERVICE_001": _redis_away,
    "EXTERNAL_SERVICE_002": _queue_full,
    "EXTERNAL_SERVICE_003": _redis_full,
    "EXTERNAL_SERVICE_004": _too_many_bytes_at_once,
    "TIMEOUT_001": _redis_silent,
}


@pytest.mark.parametrize("error_type", ERROR_TYPES, ids=lambda each: each.code)
@pytest.mark.parametrize("accepted", ["application/json", "application/problem+json"])
async def test_each_error_is_met_and_has_its_documented_shape(
    error_type: ErrorType, accepted: str, redis_url: str, tmp_path: Path
) -> None:
    async with AsyncExitStack() as closing:
        scene = Scene(redis_url=redis_url, folder=tmp_path, headers={"Accept": accepted}, closing=closing)
        response = await SCENES[error_type.code](scene)
        document = json.loads(await response.text())
    assert (response.status, response.content_type, document["code"]) == (error_type.status, accepted, error_type.code)
    model = ErrorDocument if accepted == "application/json" else ProblemDocument
    TypeAdapter(model).validate_python(document, by_alias=True)
    assert document["requestId"] == response.headers["X-Request-Id"]
    message = document["message"] if model is ErrorDocument else document["detail"]
    assert len(message) > len("internal error")


def test_no_code_stands_for_two_errors() -> None:
    assert len({each.code for each in ERROR_TYPES}) == len(ERROR_TYPES) == len(SCENES)


async def test_the_page_of_the_api_names_every_call_and_error_and_runs_nothing(redis_url: str) -> None:
    async with api(redis_url) as site:
        document = await site.get_json("/api/openapi.json")
        async with site.session.get(f"{site.url}/api/docs") as response:
            page = await response.text()
    for path in document["paths"]:
        assert f"<code>{path}</code>" in page
    for each in ERROR_TYPES:
        assert f"id={each.code}" in page
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
