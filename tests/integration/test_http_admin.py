"""What admins see and do over HTTP: lists, actions, what is refused, and what the audit log has of it."""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, UnixConnector
from structlog.testing import capture_logs

from skycap.engine.audit import Action, AuditLog, Wanted
from skycap.engine.pages import page
from skycap.engine.queue import Settlement
from skycap.engine.search import Search
from skycap.http.bodies import Bodies
from skycap.http.guards import NobodyGuard, TokenGuard
from skycap.http.tokens import TokenFile, digest_of, new_token
from skycap.job import JobState
from skycap.outcome import DeadReason, Discarded
from tests.support.api import Api, api
from tests.support.redis import redis_at
from tests.support.redis_servers import proxy

ADMIN, READER = new_token(), new_token()
AS_ADMIN, AS_READER = {"Authorization": f"Bearer {ADMIN}"}, {"Authorization": f"Bearer {READER}"}


@pytest.fixture
def guard(tmp_path: Path) -> TokenGuard:
    tables = [
        f'[{name}]\nsha256 = "{digest_of(token)}"\nscopes = ["{scope}"]\n'
        for name, token, scope in (("ops", ADMIN, "admin"), ("dashboard", READER, "read"))
    ]
    file = tmp_path / "tokens.toml"
    file.write_text("\n".join(tables))
    return TokenGuard(TokenFile(file), token_rate="1000/1s", is_for_others=True)


@pytest.fixture
async def site(redis_url: str, guard: TokenGuard) -> AsyncGenerator[Api]:
    async with api(redis_url, guard=guard) as running:
        yield running


async def enqueue(site: Api, *ids: str, **options: Any) -> None:
    for job_id in ids:
        request = {"kind": "take-note", "id": job_id, "payload": {"text": "private"}, **options}
        assert (await site.post("/api/jobs", request, headers=AS_ADMIN)).status == 202


async def give_up(site: Api, *ids: str, reason: DeadReason = DeadReason.PERMANENT) -> None:
    """Dead letters of these ids."""
    await enqueue(site, *ids)
    step = await site.queue.step([], slots=len(ids), worker="w", lease=timedelta(seconds=30), poison_after=3)
    settlements = [Settlement(claim=claim, outcome=Discarded(reason=reason, error="no")) for claim in step.claims]
    await site.queue.step(settlements, slots=0, worker="w", lease=timedelta(seconds=30), poison_after=3)


async def get(site: Api, path: str, headers: Mapping[str, str] = AS_READER) -> Any:
    async with site.session.get(site.url + path, headers=headers) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def act(site: Api, path: str, document: Any = None) -> Any:
    response = await site.post(path, document, headers=AS_ADMIN)
    assert response.status in {200, 202}, await response.text()
    return await response.json()


async def audited(site: Api) -> list[dict[str, Any]]:
    actions: list[dict[str, Any]] = (await get(site, "/api/audit", AS_ADMIN))["actions"]
    return actions


async def everything(redis_url: str) -> dict[bytes, bytes]:
    """All that Redis holds but the audit log."""
    async with redis_at(redis_url) as redis:
        return {key: await redis.dump(key) for key in await redis.keys("*") if not key.startswith(b"skycap:{audit}:")}


# --- lists ---


async def test_queues_are_listed_as_they_stand(site: Api) -> None:
    await enqueue(site, "a", "b")
    await give_up(site, "c", "d", "e")
    await act(site, "/api/queues/others/pause")
    tests, others = (await get(site, "/api/queues"))["queues"]
    assert (tests["queue"], tests["available"], tests["discarded"], tests["paused"]) == ("tests", 2, 3, False)
    assert tests["oldestWaitingSeconds"] >= 0
    assert (others["queue"], others["paused"], others["pausedBecause"]) == ("others", True, None)
    assert await get(site, "/api/queues/others") == others


async def test_jobs_are_found_by_what_they_are_and_payloads_are_for_admins(site: Api) -> None:
    await enqueue(site, "a", tags=["checkout"])
    await enqueue(site, "b", delaySeconds=60)
    await give_up(site, "c")

    async def ids(query: str) -> list[str]:
        return [job["id"] for job in (await get(site, f"/api/jobs{query}"))["jobs"]]

    assert set(await ids("")) == {"a", "b", "c"}
    assert await ids("?tag=checkout") == ["a"]
    assert await ids("?state=scheduled&kind=take-note&queue=tests") == ["b"]
    assert await ids("?queue=others") == []
    assert "payload" not in (await get(site, "/api/jobs"))["jobs"][0]
    assert (await get(site, "/api/jobs", AS_ADMIN))["jobs"][0]["payload"] == {"text": "private"}


async def test_dead_letters_are_found_by_their_reason(site: Api) -> None:
    await give_up(site, "a")
    await give_up(site, "b", reason=DeadReason.ATTEMPTS_USED_UP)
    found = await get(site, f"/api/dead?reason={DeadReason.ATTEMPTS_USED_UP.value}")
    assert [(job["id"], job["reason"]) for job in found["jobs"]] == [("b", DeadReason.ATTEMPTS_USED_UP.value)]
    assert found["next"] is None


async def test_pages_skip_nothing_that_stays_while_others_leave(site: Api) -> None:
    names = [f"n{number:02}" for number in range(12)]
    await enqueue(site, *names)
    seen: list[str] = []
    cursor = ""
    while True:
        found = await get(site, f"/api/jobs?state=available&limit=5{cursor}")
        seen += [job["id"] for job in found["jobs"]]
        if found["next"] is None:
            break
        # What was seen, and the last of it, runs before the next page is asked for.
        await site.queue.step([], slots=5, worker="w", lease=timedelta(seconds=30), poison_after=3)
        cursor = f"&cursor={found['next']}"
    assert seen == names


async def test_a_page_goes_on_among_those_that_wait_at_limits(site: Api) -> None:
    await enqueue(site, *(f"n{number}" for number in range(5)))
    await act(site, "/api/kinds/take-note/pause")
    await site.queue.step([], slots=5, worker="w", lease=timedelta(seconds=30), poison_after=3)
    assert (await get(site, "/api/queues/tests"))["waitingAtLimits"] == 5
    first = await get(site, "/api/jobs?limit=3")
    rest = await get(site, f"/api/jobs?limit=3&cursor={first['next']}")
    assert [job["id"] for job in first["jobs"] + rest["jobs"]] == [f"n{number}" for number in range(5)]


async def test_a_search_for_what_is_rare_gives_a_short_page_and_goes_on(
    site: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skycap.engine.pages.MOST_LOOKED_AT", 3)
    await enqueue(site, "a", "b", "c", "d")
    await enqueue(site, "rare", tags=["rare"])
    search, queues, states = Search(tag="rare"), [site.queue], [JobState.AVAILABLE]
    first = await page(search, queues, states, limit=10)
    assert (first.jobs, first.ended_at is None) == ([], False)
    then = await page(search, queues, states, limit=10, after=first.ended_at)
    assert [job.id for job in then.jobs] == ["rare"]


async def test_schedules_breakers_alarms_and_plugins_are_listed(site: Api) -> None:
    (nightly,) = (await get(site, "/api/schedules"))["schedules"]
    assert (nightly["schedule"], nightly["crontab"], nightly["standing"]) == ("nightly", "0 2 * * *", "on")
    assert await get(site, "/api/schedules/nightly") == nightly
    (breaker,) = (await get(site, "/api/breakers"))["breakers"]
    assert (breaker["breaker"], breaker["state"]) == ("partner", "closed")
    assert await get(site, "/api/alarms") == {"alarms": []}
    (plugin,) = (await get(site, "/api/plugins"))["plugins"]
    assert (plugin["plugin"], plugin["kinds"]) == ("tests", ["take-note", "take-memo"])


# --- actions ---


@dataclass(frozen=True, kw_only=True)
class Done:
    """An action, what the audit log is to have of it, and some of how things stand then."""

    path: str
    action: str
    target: str
    body: Any = None
    asked: Mapping[str, Any] = field(default_factory=dict[str, Any])
    then: Mapping[str, Any]


MINUTE = {"forSeconds": 60}
ACTIONS = (
    Done(path="/api/queues/tests/pause", action="queue.pause", target="tests", then={"paused": True}),
    Done(path="/api/queues/tests/resume", action="queue.resume", target="tests", then={"paused": False}),
    Done(
        path="/api/kinds/take-note/pause",
        action="kind.pause",
        target="take-note",
        body=MINUTE,
        asked=MINUTE,
        then={"paused": True},
    ),
    Done(
        path="/api/kinds/take-note/resume",
        action="kind.resume",
        target="take-note",
        body={},
        then={"paused": False, "pausedUntil": None},
    ),
    Done(path="/api/schedules/nightly/pause", action="schedule.pause", target="nightly", then={"standing": "paused"}),
    Done(path="/api/schedules/nightly/resume", action="schedule.resume", target="nightly", then={"standing": "on"}),
    Done(
        path="/api/schedules/nightly/run",
        action="schedule.run",
        target="nightly",
        then={"lastRunState": "available"},
    ),
    Done(
        path="/api/breakers/partner/open",
        action="breaker.open",
        target="partner",
        body=MINUTE,
        asked=MINUTE,
        then={"state": "open", "forced": True},
    ),
    Done(
        path="/api/breakers/partner/close",
        action="breaker.close",
        target="partner",
        then={"state": "closed", "forced": True},
    ),
    Done(
        path="/api/breakers/partner/reset",
        action="breaker.reset",
        target="partner",
        then={"state": "closed", "forced": False},
    ),
    Done(path="/api/jobs/waiting/cancel", action="job.cancel", target="waiting", then={"state": "cancelled"}),
    Done(path="/api/jobs/later/retry", action="job.retry", target="later", then={"state": "available"}),
    Done(path="/api/jobs/dead/redrive", action="job.redrive", target="dead", then={"state": "available"}),
    Done(path="/api/jobs/dead/discard", action="job.discard", target="dead", then={"deleted": True}),
    Done(
        path="/api/dead/redrive",
        action="dead.redrive",
        target="dead",
        body={"id": "dead"},
        then={"changed": 1, "left": {"tests": 0, "others": 0}},
    ),
    Done(
        path="/api/dead/discard",
        action="dead.discard",
        target="",
        body={"expect": 1, "queue": "tests"},
        asked={"expect": 1, "queue": "tests"},
        then={"changed": 1, "left": {"tests": 0}},
    ),
)


@pytest.mark.parametrize("done", ACTIONS, ids=lambda each: each.path)
async def test_an_action_answers_how_it_stands_then_and_is_written_down(site: Api, done: Done) -> None:
    await give_up(site, "dead")
    await enqueue(site, "waiting")
    await enqueue(site, "later", delaySeconds=60)
    with capture_logs() as logs:
        answer = await act(site, done.path, done.body)
    assert {name: answer[name] for name in done.then} == done.then
    (entry,) = await audited(site)
    assert (entry["action"], entry["target"], entry["asked"]) == (done.action, done.target, done.asked)
    assert (entry["who"], entry["via"], entry["outcome"], entry["code"]) == ("ops", "http", "done", None)
    (line,) = [log for log in logs if log["event"] == "admin action"]
    assert (line["who"], line["action"], line["request_id"]) == ("ops", done.action, entry["requestId"])
    assert "private" not in str(logs) + str(entry)


async def test_most_actions_may_be_sent_twice(site: Api) -> None:
    for path in [each.path for each in ACTIONS if "/jobs/" not in each.path and "/dead/" not in each.path]:
        await act(site, path)
        await act(site, path)


async def test_dead_letters_are_changed_only_if_they_are_as_many_as_expected(site: Api, redis_url: str) -> None:
    await give_up(site, "a", "b", "c")
    before = await everything(redis_url)
    refused = await site.post("/api/dead/redrive", {"expect": 2, "kind": "take-note"}, headers=AS_ADMIN)
    assert (refused.status, (await refused.json())["code"]) == (409, "CONFLICT_003")
    assert "3 dead letters fit, and not 2" in (await refused.json())["message"]
    assert await everything(redis_url) == before
    assert await act(site, "/api/dead/redrive", {"expect": 3, "kind": "take-note"}) == {
        "changed": 3,
        "left": {"tests": 0, "others": 0},
    }
    assert [job.id for job in await site.queue.jobs(JobState.AVAILABLE)] == ["a", "b", "c"]


# --- what is refused ---

REFUSED: Mapping[str, tuple[str, Any, Mapping[str, str], int, str]] = {
    "no token": ("/api/queues/tests/pause", None, {}, 401, "AUTHENTICATION_001"),
    "wrong token": ("/api/queues/tests/pause", None, {"Authorization": "Bearer sc_x"}, 401, "AUTHENTICATION_002"),
    "wrong scope": ("/api/queues/tests/pause", None, AS_READER, 403, "AUTHORIZATION_001"),
    "unknown queue": ("/api/queues/none/pause", None, AS_ADMIN, 404, "NOT_FOUND_001"),
    "unknown kind": ("/api/kinds/none/pause", None, AS_ADMIN, 404, "NOT_FOUND_001"),
    "unknown schedule": ("/api/schedules/none/run", None, AS_ADMIN, 404, "NOT_FOUND_001"),
    "unknown breaker": ("/api/breakers/none/open", None, AS_ADMIN, 404, "NOT_FOUND_001"),
    "unknown job": ("/api/jobs/none/redrive", None, AS_ADMIN, 404, "NOT_FOUND_001"),
    "unknown dead letter": ("/api/dead/discard", {"id": "none"}, AS_ADMIN, 404, "NOT_FOUND_001"),
    "redrive of one that waits": ("/api/jobs/waiting/redrive", None, AS_ADMIN, 409, "CONFLICT_002"),
    "discard of one that waits": ("/api/jobs/waiting/discard", None, AS_ADMIN, 409, "CONFLICT_002"),
    "discard of one that was cancelled": ("/api/jobs/cancelled/discard", None, AS_ADMIN, 409, "CONFLICT_002"),
    "cancel of one that has ended": ("/api/jobs/cancelled/cancel", None, AS_ADMIN, 409, "CONFLICT_002"),
    "dead letter that is none": ("/api/dead/redrive", {"id": "waiting"}, AS_ADMIN, 409, "CONFLICT_002"),
    "no choice": ("/api/dead/discard", {}, AS_ADMIN, 400, "VALIDATION_004"),
    "two choices": ("/api/dead/discard", {"id": "a", "expect": 1}, AS_ADMIN, 400, "VALIDATION_004"),
    "unknown queue in a filter": ("/api/dead/discard", {"expect": 0, "queue": "x"}, AS_ADMIN, 400, "VALIDATION_004"),
    "unknown reason": ("/api/dead/discard", {"expect": 0, "reason": "mood"}, AS_ADMIN, 400, "VALIDATION_004"),
    "too many": ("/api/dead/discard", {"expect": 10_001}, AS_ADMIN, 400, "VALIDATION_004"),
    "no time at all": ("/api/breakers/partner/open", {"forSeconds": 0}, AS_ADMIN, 400, "VALIDATION_004"),
    "a time that is text": ("/api/kinds/take-note/pause", {"forSeconds": "60"}, AS_ADMIN, 400, "VALIDATION_004"),
    "a time where none is taken": ("/api/queues/tests/pause", {"forSeconds": 60}, AS_ADMIN, 400, "VALIDATION_004"),
    "a list": ("/api/queues/tests/pause", [], AS_ADMIN, 400, "BAD_REQUEST_002"),
    "a form": (
        *("/api/queues/tests/pause", {}, {**AS_ADMIN, "Content-Type": "application/x-www-form-urlencoded"}),
        *(415, "BAD_REQUEST_007"),
    ),
    "a huge body": ("/api/dead/redrive", {"id": "x" * 20_000}, AS_ADMIN, 413, "BAD_REQUEST_006"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_refused_changes_nothing_and_is_written_down(site: Api, redis_url: str, name: str) -> None:
    path, document, headers, status, code = REFUSED[name]
    await enqueue(site, "waiting", "cancelled")
    await site.queue.cancel("cancelled")
    before = await everything(redis_url)
    response = await site.post(path, document, headers=headers)
    body = await response.json()
    assert (response.status, body["code"]) == (status, code)
    as_problem = await site.post(path, document, headers={**headers, "Accept": "application/problem+json"})
    assert (as_problem.content_type, (await as_problem.json())["code"]) == ("application/problem+json", code)
    assert await everything(redis_url) == before
    entry = (await audited(site))[1]
    assert (entry["outcome"], entry["code"], entry["requestId"]) == ("refused", code, body["requestId"])
    who = {401: "unknown", 403: "dashboard"}.get(status, "ops")
    assert entry["who"] == who
    assert entry["action"].partition(".")[2] == path.rpartition("/")[2]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("/api/jobs?state=waiting", "state"),
        ("/api/jobs?limit=0", "limit"),
        ("/api/jobs?limit=many", "limit"),
        ("/api/jobs?limit=201", "limit"),
        ("/api/jobs?queue=none", "queue"),
        ("/api/jobs?queue=tests&queue=others", "queue"),
        ("/api/jobs?kind=Take%20Note", "kind"),
        ("/api/jobs?cursor=AAAA", "cursor"),
        ("/api/jobs?wish=1", "wish"),
        ("/api/dead?reason=mood", "reason"),
        ("/api/audit?since=yesterday", "since"),
    ],
)
async def test_a_malformed_filter_is_named(site: Api, query: str, field: str) -> None:
    async with site.session.get(site.url + query, headers=AS_ADMIN) as response:
        body = await response.json()
    assert (response.status, body["code"]) == (400, "VALIDATION_004")
    assert [each["field"] for each in body["details"]] == [field]


async def test_a_cursor_of_another_list_is_refused(site: Api) -> None:
    await enqueue(site, "a", "b")
    cursor = (await get(site, "/api/jobs?limit=1"))["next"]
    async with site.session.get(f"{site.url}/api/dead?cursor={cursor}", headers=AS_ADMIN) as response:
        assert (response.status, (await response.json())["code"]) == (400, "VALIDATION_004")


async def test_a_slow_body_is_given_up_and_written_down(redis_url: str, guard: TokenGuard) -> None:
    answered = asyncio.Event()

    async def body() -> AsyncGenerator[bytes]:
        yield b"{"
        await answered.wait()

    async with api(redis_url, guard=guard, bodies=Bodies(limit_seconds=0.05)) as site:
        headers = {**AS_ADMIN, "Content-Type": "application/json"}
        async with site.session.post(f"{site.url}/api/dead/discard", data=body(), headers=headers) as response:
            assert response.status == 408
            answered.set()
        (entry,) = await audited(site)
    assert (entry["outcome"], entry["code"]) == ("refused", "BAD_REQUEST_005")


async def test_only_admins_read_the_audit_log_and_reading_is_not_written_down(site: Api) -> None:
    async with site.session.get(f"{site.url}/api/audit", headers=AS_READER) as response:
        assert response.status == 403
    assert await audited(site) == []


async def test_the_audit_log_is_filtered(site: Api) -> None:
    await act(site, "/api/queues/tests/pause")
    await act(site, "/api/breakers/partner/open")
    await site.post("/api/queues/tests/pause", None, headers=AS_READER)

    async def actions(query: str) -> list[tuple[str, str]]:
        found = await get(site, f"/api/audit{query}", AS_ADMIN)
        return [(each["who"], each["action"]) for each in found["actions"]]

    assert await actions("") == [("dashboard", "queue.pause"), ("ops", "breaker.open"), ("ops", "queue.pause")]
    assert await actions("?limit=1") == [("dashboard", "queue.pause")]
    assert await actions("?action=queue") == [("dashboard", "queue.pause"), ("ops", "queue.pause")]
    assert await actions("?who=ops&action=queue.pause") == [("ops", "queue.pause")]
    assert await actions("?since=2999-01-01T00:00:00Z") == []


async def test_where_redis_is_away_the_line_is_still_written(redis_url: str, guard: TokenGuard) -> None:
    async with proxy(redis_url) as between, api(between.url, guard=guard) as site:
        await between.close()
        with capture_logs() as logs:
            response = await site.post("/api/queues/tests/pause", None, headers=AS_ADMIN)
        assert response.status == 503
    told = [(log["event"], log["log_level"], log["outcome"]) for log in logs if log.get("action") == "queue.pause"]
    assert told == [
        ("admin action", "info", "failed"),
        ("an admin action is in the log only, and not in Redis", "warning", "failed"),
    ]


async def test_whoever_is_not_let_in_cannot_fill_the_log(site: Api) -> None:
    await act(site, "/api/queues/tests/pause")
    with capture_logs() as logs:
        for _ in range(120):
            await site.post("/api/queues/tests/pause", None)
    assert 100 <= len([log for log in logs if log["event"] == "admin action"]) < 110


async def test_refusals_push_out_no_action(site: Api, redis_url: str) -> None:
    await act(site, "/api/queues/tests/pause")
    log = AuditLog(site.queue.link)
    attempt = Action(action="queue.pause", target="x", who="dashboard", via="http", outcome="refused")
    await log.note(attempt)
    async with redis_at(redis_url) as redis:
        stored = (await redis.xrevrange("skycap:{audit}:refused", count=1))[0][1]
        for _ in range(12_000 // 1000):
            async with redis.pipeline(transaction=False) as pipeline:
                for _ in range(1000):
                    pipeline.xadd("skycap:{audit}:refused", stored)
                await pipeline.execute()
    await log.note(attempt)
    async with redis_at(redis_url) as redis:
        assert await redis.xlen("skycap:{audit}:refused") < 10_200
    assert [each.action.who for each in await log.newest(Wanted(who="ops"), limit=10)] == ["ops"]


async def test_texts_of_the_asker_are_short_and_without_addresses(site: Api) -> None:
    await site.post(f"/api/queues/ada@example.com{'x' * 1000}/pause", None, headers=AS_ADMIN)
    (entry,) = await audited(site)
    assert entry["target"].startswith("[address]")
    assert len(entry["target"]) <= 300


async def test_in_production_without_tokens_nobody_acts_and_nobody_lists(redis_url: str) -> None:
    async with api(redis_url, guard=NobodyGuard()) as site:
        before = await everything(redis_url)
        assert (await site.post("/api/queues/tests/pause", None)).status == 401
        async with site.session.get(f"{site.url}/api/queues") as response:
            assert response.status == 401
        assert await everything(redis_url) == before


async def test_over_a_unix_socket_the_kernel_says_who_acts(redis_url: str, tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    async with (
        api(redis_url, path=path) as site,
        ClientSession(connector=UnixConnector(str(path))) as session,
    ):
        async with session.post("http://any/api/queues/tests/pause") as response:
            assert response.status == 200
        (entry,) = await AuditLog(site.queue.link).newest(Wanted(), limit=10)
    assert entry.action.who == f"local:{pwd.getpwuid(os.getuid()).pw_name}"


# --- web pages of others ---

FOREIGN: Mapping[str, Mapping[str, str]] = {
    "a rebound name": {"Host": "rebound.example.com"},
    "a form of another site": {"Origin": "https://evil.example.com"},
    "an old browser's redirect": {"Origin": "null"},
    "another port of this machine": {"Origin": "http://127.0.0.1:1"},
    "a fetch from another site": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    "a form in a frame": {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    "a form that opens a page": {
        "Sec-Fetch-Site": "cross-site",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "document",
        "Origin": "https://evil.example.com",
    },
}


@pytest.mark.parametrize("name", FOREIGN)
async def test_without_tokens_no_page_of_another_acts(redis_url: str, name: str) -> None:
    async with api(redis_url) as site:
        before = await everything(redis_url)
        for path, document in [("/api/jobs", {"kind": "take-note"}), *((each.path, each.body) for each in ACTIONS)]:
            response = await site.post(path, document, headers=FOREIGN[name])
            assert (path, response.status, (await response.json())["code"]) == (path, 403, "AUTHORIZATION_002")
        assert await everything(redis_url) == before
        assert {each.action.who for each in await AuditLog(site.queue.link).newest(Wanted(), limit=99)} == {"unknown"}


READS = ("/api/queues", "/api/jobs", "/api/schedules", "/api/breakers", "/api/alarms", "/api/plugins", "/api/kinds")


@pytest.mark.parametrize("path", READS)
async def test_no_rebound_name_reads(redis_url: str, path: str) -> None:
    async with (
        api(redis_url) as site,
        site.session.get(site.url + path, headers={"Host": "rebound.example.com"}) as response,
    ):
        assert response.status == 403


async def test_a_name_of_a_proxy_is_taken_when_it_is_configured(redis_url: str) -> None:
    async with api(redis_url, hosts=["jobs.example.com"]) as site:
        for headers in (
            {"Host": "jobs.example.com"},
            {"Host": "JOBS.example.com:8443", "Origin": "https://jobs.example.com:8443"},
            {"Host": "127.0.0.1:8600", "Origin": "https://jobs.example.com", "Sec-Fetch-Site": "same-origin"},
        ):
            assert (await site.post("/api/queues/tests/pause", None, headers=headers)).status == 200
        wrong = {"Host": "127.0.0.1:8600", "X-Forwarded-Host": "jobs.example.com", "Origin": "https://evil.example.com"}
        assert (await site.post("/api/queues/tests/pause", None, headers=wrong)).status == 403


async def test_a_link_from_elsewhere_can_be_followed(redis_url: str) -> None:
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    async with api(redis_url) as site, site.session.get(f"{site.url}/api/queues", headers=followed) as response:
        assert response.status == 200


@pytest.mark.parametrize("name", [name for name in FOREIGN if name != "a rebound name"])
async def test_where_a_proxy_adds_the_token_no_page_of_another_acts(site: Api, redis_url: str, name: str) -> None:
    before = await everything(redis_url)
    response = await site.post("/api/queues/tests/pause", None, headers={**AS_ADMIN, **FOREIGN[name]})
    assert (response.status, (await response.json())["code"]) == (403, "AUTHORIZATION_002")
    assert await everything(redis_url) == before
    own = {**AS_ADMIN, "Origin": "https://jobs.example.com", "Sec-Fetch-Site": "same-origin"}
    assert (await site.post("/api/queues/tests/pause", None, headers=own)).status == 200


async def test_with_a_token_any_name_will_do(site: Api) -> None:
    headers = {**AS_ADMIN, "Host": "skycap.internal"}
    assert (await site.post("/api/queues/tests/pause", None, headers=headers)).status == 200


@pytest.mark.parametrize(
    "path", ["/api/queues", "/api/docs", "/api/openapi.json", "/nowhere", "/api/jobs/ended/events", "/api/jobs?limit=0"]
)
async def test_every_answer_is_kept_from_browsers_that_would_do_more_than_show_it(site: Api, path: str) -> None:
    await enqueue(site, "ended")
    await site.queue.cancel("ended")
    async with site.session.get(site.url + path, headers={**AS_ADMIN, "Origin": "https://a.example"}) as response:
        headers = response.headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] in {"no-store", "no-cache"}
    assert headers["X-Request-Id"]
    assert not [name for name in headers if name.lower().startswith("access-control-")]
