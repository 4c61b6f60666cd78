"""The jobs API over real HTTP, with real queues behind it."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse

from skycap.engine.policy import QueuePolicy
from skycap.http.guards import TokenGuard
from skycap.http.tokens import TokenFile, digest_of
from skycap.job import JobState
from tests.support.api import Api, api
from tests.support.bare_http import bare_answer
from tests.support.redis import redis_at

ASK = {"kind": "take-note", "payload": {"text": "hello"}}


@pytest.fixture
async def site(redis_url: str) -> AsyncGenerator[Api]:
    async with api(redis_url) as running:
        yield running


async def error_of(response: ClientResponse) -> tuple[int, str, str]:
    body = await response.json()
    assert body["success"] is False
    assert body["statusCode"] == response.status
    assert body["requestId"] == response.headers["X-Request-Id"]
    return response.status, body["code"], body["message"]


async def test_a_job_is_accepted_stored_and_found_where_the_answer_says(site: Api) -> None:
    response = await site.post("/api/jobs", {**ASK, "tags": ["spring"], "priority": 3})
    body = await response.json()
    assert (response.status, body["state"], body["duplicate"]) == (202, "available", False)
    assert response.headers["Location"] == f"/api/jobs/{body['jobId']}"
    job = await site.get_json(response.headers["Location"])
    assert (job["kind"], job["queue"], job["payload"], job["tags"], job["priority"]) == (
        "take-note",
        "tests",
        {"text": "hello"},
        ["spring"],
        3,
    )
    stored = await site.queue.get(body["jobId"])
    assert stored is not None
    assert stored.state is JobState.AVAILABLE


async def test_the_same_id_again_is_the_same_job(site: Api) -> None:
    first = await site.post("/api/jobs", {**ASK, "id": "booking-7"})
    again = await site.post("/api/jobs", {**ASK, "id": "booking-7"})
    assert (first.status, again.status) == (202, 200)
    assert await again.json() == {"jobId": "booking-7", "state": "available", "duplicate": True}
    assert (await site.queue.counts()).available == 1


@pytest.mark.parametrize("key", ["7f3c9e", '"7f3c 9e"'])
async def test_an_idempotency_key_makes_a_request_repeatable(site: Api, key: str) -> None:
    first = await site.post("/api/jobs", ASK, headers={"Idempotency-Key": key})
    again = await site.post("/api/jobs", ASK, headers={"Idempotency-Key": key})
    assert (first.status, again.status) == (202, 200)
    assert (await again.json())["jobId"] == (await first.json())["jobId"]
    assert (await site.queue.counts()).available == 1


async def test_a_quoted_key_is_the_same_key_as_the_plain_one(site: Api) -> None:
    await site.post("/api/jobs", ASK, headers={"Idempotency-Key": "7f3c9e"})
    assert (await site.post("/api/jobs", ASK, headers={"Idempotency-Key": '"7f3c9e"'})).status == 200


async def test_a_key_is_not_a_name_in_redis(site: Api, redis_url: str) -> None:
    await site.post("/api/jobs", ASK, headers={"Idempotency-Key": "ayse@example.com"})
    async with redis_at(redis_url) as redis:
        assert [key for key in await redis.keys() if b"ayse" in key] == []
        (remembered,) = await redis.keys("*request:*")
        assert timedelta(hours=23) < timedelta(seconds=await redis.ttl(remembered)) <= timedelta(hours=24)


async def test_a_key_that_came_with_another_request_is_a_conflict(site: Api) -> None:
    await site.post("/api/jobs", ASK, headers={"Idempotency-Key": "k"})
    other = await site.post("/api/jobs", {**ASK, "payload": {"text": "else"}}, headers={"Idempotency-Key": "k"})
    status, code, message = await error_of(other)
    assert (status, code) == (409, "CONFLICT_001")
    assert "key" in message
    assert (await site.queue.counts()).available == 1


@pytest.mark.parametrize("key", ["", "ü", "a" * 201, "two words", '"open'])
async def test_a_key_that_is_none_is_refused(site: Api, key: str) -> None:
    response = await site.post("/api/jobs", ASK, headers={"Idempotency-Key": key})
    assert (await error_of(response))[:2] == (400, "BAD_REQUEST_004")


@pytest.mark.parametrize(
    ("document", "code", "words"),
    [
        ({**ASK, "kind": "take-nots"}, "VALIDATION_002", "did you mean 'take-note'"),
        ({**ASK, "payload": {"text": 7}}, "VALIDATION_001", "payload.text: input should be a valid string"),
        ({**ASK, "payload": {"txt": "x"}}, "VALIDATION_001", "payload.txt: no field of take-note"),
        ({**ASK, "version": 9}, "VALIDATION_003", "version 9"),
        ({"payload": {}}, "VALIDATION_004", "kind: is missing"),
        ({**ASK, "delay": 5}, "VALIDATION_004", "delay: "),
        ({**ASK, "payload": []}, "VALIDATION_004", "payload: "),
        (
            {**ASK, "delaySeconds": 1, "at": "2030-01-01T00:00:00Z"},
            "VALIDATION_004",
            "give either delaySeconds or at, not both",
        ),
        ({**ASK, "at": "2099-01-01T00:00:00Z"}, "VALIDATION_004", "the time to run at"),
        ({**ASK, "unique": {"key": "k", "by": ["text"]}}, "VALIDATION_004", "give either key or by, not both"),
    ],
)
async def test_what_is_wrong_with_a_request_is_named(site: Api, document: Any, code: str, words: str) -> None:
    status, found, message = await error_of(await site.post("/api/jobs", document))
    assert (status, found) == (400, code)
    assert words in message
    assert (await site.queue.counts()).available == 0


async def test_an_error_never_repeats_a_value(site: Api) -> None:
    response = await site.post("/api/jobs", {**ASK, "payload": {"text": {"mail": "ayse@example.com"}}})
    assert "ayse" not in await response.text()


async def test_in_development_the_fields_are_listed(redis_url: str) -> None:
    wrong = {**ASK, "payload": {"text": 7}}
    async with api(redis_url, development=True) as site:
        body = await (await site.post("/api/jobs", wrong)).json()
        assert body["details"] == [{"field": "payload.text", "message": "input should be a valid string"}]
    async with api(redis_url, development=False) as site:
        assert "details" not in await (await site.post("/api/jobs", wrong)).json()


async def test_a_problem_document_for_whoever_asks_for_one(site: Api) -> None:
    response = await site.post("/api/jobs", {**ASK, "kind": "no-such"}, headers={"Accept": "application/problem+json"})
    body = await response.json(content_type="application/problem+json")
    assert (body["status"], body["code"], body["instance"]) == (400, "VALIDATION_002", "/api/jobs")
    assert body["type"] == "/api/docs#VALIDATION_002"
    assert body["title"]


async def test_a_batch_is_stored_as_a_whole_and_answered_in_order(site: Api) -> None:
    jobs = [{**ASK, "id": f"n-{i}"} if i % 2 else {"kind": "take-memo", "id": f"n-{i}"} for i in range(10)]
    response = await site.post("/api/jobs/batch", {"jobs": jobs})
    assert response.status == 202
    assert [job["jobId"] for job in (await response.json())["jobs"]] == [f"n-{i}" for i in range(10)]
    assert (await site.queue.counts()).available == 5
    again = await site.post("/api/jobs/batch", {"jobs": jobs})
    assert again.status == 200
    assert all(job["duplicate"] for job in (await again.json())["jobs"])


async def test_a_wrong_member_names_its_place_and_nothing_is_stored(site: Api) -> None:
    response = await site.post("/api/jobs/batch", {"jobs": [ASK, ASK, {**ASK, "payload": {"text": None}}]})
    status, code, message = await error_of(response)
    assert (status, code) == (400, "VALIDATION_001")
    assert message.startswith("jobs.2.payload.text: ")
    assert (await site.queue.counts()).available == 0


@pytest.mark.parametrize("jobs", [[], [ASK] * 1001, "no list", [ASK, 7]])
async def test_a_batch_has_one_to_a_thousand_jobs(site: Api, jobs: Any) -> None:
    assert (await error_of(await site.post("/api/jobs/batch", {"jobs": jobs})))[1] == "VALIDATION_004"


async def test_a_key_makes_a_batch_repeatable(site: Api) -> None:
    headers = {"Idempotency-Key": "nightly"}
    first = await site.post("/api/jobs/batch", {"jobs": [ASK, ASK]}, headers=headers)
    again = await site.post("/api/jobs/batch", {"jobs": [ASK, ASK]}, headers=headers)
    other = await site.post("/api/jobs/batch", {"jobs": [ASK]}, headers=headers)
    ids = [[job["jobId"] for job in (await each.json())["jobs"]] for each in (first, again)]
    assert (first.status, again.status, other.status) == (202, 200, 409)
    assert ids[0] == ids[1]
    assert ids[0][0] != ids[0][1]


async def test_a_full_queue_says_when_to_come_again(redis_url: str) -> None:
    async with api(redis_url, policy=QueuePolicy(max_waiting=2)) as site:
        responses = await asyncio.gather(*(site.post("/api/jobs", ASK) for _ in range(5)))
        full = [response for response in responses if response.status == 503]
        assert (len(full), (await site.queue.counts()).available) == (3, 2)
        assert full[0].headers["Retry-After"] == "1"
        assert (await error_of(full[0]))[1] == "EXTERNAL_SERVICE_002"


async def test_of_requests_that_come_together_each_has_its_own_answer(site: Api) -> None:
    """They go to Redis in one call, and one of them has a key that was used otherwise."""
    await site.post("/api/jobs", ASK, headers={"Idempotency-Key": "used"})
    other = {**ASK, "payload": {"text": "other"}}
    responses = await asyncio.gather(
        *(site.post("/api/jobs", {**other, "id": f"n-{i}"}) for i in range(40)),
        site.post("/api/jobs", other, headers={"Idempotency-Key": "used"}),
    )
    assert [response.status for response in responses] == [202] * 40 + [409]
    assert [(await response.json())["jobId"] for response in responses[:40]] == [f"n-{i}" for i in range(40)]


async def test_a_job_that_nobody_knows_is_not_found(site: Api) -> None:
    response = await site.session.get(f"{site.url}/api/jobs/nothing")
    assert (await error_of(response))[:2] == (404, "NOT_FOUND_001")


async def test_a_waiting_job_is_cancelled_once(site: Api) -> None:
    await site.post("/api/jobs", {**ASK, "id": "n", "delaySeconds": 60})
    first = await site.post("/api/jobs/n/cancel", None)
    assert (first.status, await first.json()) == (200, {"jobId": "n", "state": "cancelled"})
    status, code, message = await error_of(await site.post("/api/jobs/n/cancel", None))
    assert (status, code) == (409, "CONFLICT_002")
    assert "cancelled" in message
    assert (await site.post("/api/jobs/nothing/cancel", None)).status == 404


async def test_a_delayed_job_is_let_run_now(site: Api) -> None:
    await site.post("/api/jobs", {**ASK, "id": "n", "delaySeconds": 60})
    response = await site.post("/api/jobs/n/retry", None)
    assert await response.json() == {"jobId": "n", "state": "available"}
    await site.post("/api/jobs/n/cancel", None)
    assert (await site.post("/api/jobs/n/retry", None)).status == 409


async def test_a_compressed_body_is_read(site: Api) -> None:
    body = gzip.compress(json.dumps(ASK).encode())
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    async with site.session.post(f"{site.url}/api/jobs", data=body, headers=headers) as response:
        assert response.status == 202


async def test_a_key_of_no_duration_is_refused_however_short(site: Api) -> None:
    response = await site.post("/api/jobs", {**ASK, "unique": {"key": "k", "withinSeconds": 1e-9}})
    status, code, message = await error_of(response)
    assert (status, code) == (400, "VALIDATION_004")
    assert message.startswith("unique.withinSeconds: ")


@pytest.mark.parametrize(
    ("field", "value"),
    [("at", 4070908800), ("deadline", "4070908800"), ("priority", "3"), ("priority", True), ("delaySeconds", False)],
)
async def test_a_value_of_another_type_is_refused_and_not_converted(site: Api, field: str, value: Any) -> None:
    status, code, message = await error_of(await site.post("/api/jobs", {**ASK, field: value}))
    assert (status, code) == (400, "VALIDATION_004")
    assert message.startswith(f"{field}: ")


async def test_who_waits_to_send_a_body_is_told_to_once_and_only_if_it_is_read(site: Api) -> None:
    body = json.dumps(ASK).encode()
    read = await asyncio.to_thread(bare_answer, site.url, body=body, Expect=b"100-continue")
    assert (read.continued, read.status) == (1, 202)
    refused = await asyncio.to_thread(bare_answer, site.url, Content_Length=b"100000000", Expect=b"100-continue")
    assert (refused.continued, refused.status) == (0, 413)


async def test_the_kinds_are_listed_with_their_schemas_and_an_etag(site: Api) -> None:
    async with site.session.get(f"{site.url}/api/kinds") as response:
        kinds = {kind["kind"]: kind for kind in (await response.json())["kinds"]}
        assert kinds["take-note"]["schema"]["properties"].keys() == {"text"}
        assert kinds["take-note"]["queue"] == "tests"
        etag = response.headers["ETag"]
    async with site.session.get(f"{site.url}/api/kinds", headers={"If-None-Match": f'"x", W/{etag}'}) as response:
        assert (response.status, await response.read()) == (304, b"")
    async with site.session.get(f"{site.url}/api/kinds", headers={"If-None-Match": '"x"'}) as response:
        assert response.status == 200


async def test_a_token_of_bytes_that_are_no_text_is_only_a_wrong_one(redis_url: str, tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text(f'[someone]\nsha256 = "{digest_of("sc_x")}"\nscopes = ["enqueue"]\n')
    guard = TokenGuard(TokenFile(file), token_rate="1000/1s", is_for_others=False)
    async with api(redis_url, guard=guard) as site:
        answer = await asyncio.to_thread(bare_answer, site.url, body=b"{}", Authorization=b"Bearer \xff")
    assert (answer.status, json.loads(answer.body)["code"]) == (401, "AUTHENTICATION_002")
