"""The HTTP API against requests that nobody thought of: it never fails, and each answer is as it says of itself."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from pydantic import TypeAdapter

from skycap.http.documents import ErrorDocument, ProblemDocument
from skycap.http.guards import LocalGuard, TokenGuard
from skycap.http.tokens import TokenFile, digest_of, new_token
from tests.support.api import Api, api
from tests.support.bare_http import bare_answer
from tests.support.daemons import CLEAN
from tests.support.fuzz_hooks import ENDED, KNOWN
from tests.support.workers import PATIENCE

ROOT = Path(__file__).resolve().parents[2]

TOKENS = {"admin": new_token(), "read": new_token()}
CALLERS = ("local", "admin", "read", "nobody")
"""On this machine without tokens; with a token and its scope; without the token that is needed."""

CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance"),
    *("response_headers_conformance", "negative_data_rejection", "missing_required_header", "unsupported_method"),
    "ignored_auth",
)
"""Of schemathesis'. Left out are

- positive_data_acceptance: what fits the schema may still be refused, such as an unknown kind;
- allow_header_conformance: /api/jobs/batch may also be asked for with GET, as the job whose id is "batch";
- use_after_free, ensure_resource_availability: no operation deletes, and the job of a repeated request may have any id;
- object_level_authorization: a job belongs to no token.
"""


@asynccontextmanager
async def site_for(caller: str, redis_url: str, folder: Path) -> AsyncGenerator[Api]:
    """The API as ``caller`` meets it, with jobs to be found and changed."""
    file = folder / "tokens.toml"
    tables = (
        f'[{scope}]\nsha256 = "{digest_of(token)}"\nscopes = ["{scope}"]\nrate = "1000000/1s"\n'
        for scope, token in TOKENS.items()
    )
    file.write_text("\n".join(tables))
    file.chmod(0o600)
    is_local = caller == "local"
    guard = LocalGuard("127.0.0.1") if is_local else TokenGuard(TokenFile(file), token_rate="1/1s", is_for_others=True)
    async with api(redis_url, guard=guard, development=is_local) as site:
        for job_id in KNOWN:
            request = {"kind": "take-note", "id": job_id, "delaySeconds": 3600}
            assert (await site.post("/api/jobs", request, headers=bearing("admin"))).status == 202
        for job_id in ENDED:
            assert (await site.post(f"/api/jobs/{job_id}/cancel", None, headers=bearing("admin"))).status == 200
        yield site


def bearing(scope: str) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {TOKENS[scope]}"}


async def schemathesis(site: Api, caller: str, folder: Path, *options: str) -> None:
    """Let it try; fails with its report, which has each request that was answered wrongly as a command."""
    arguments = ["--checks", ",".join(CHECKS), "--request-timeout", f"{PATIENCE.total_seconds():g}", *options]
    if caller in TOKENS:
        arguments += ["--header", f"Authorization: {bearing(caller)['Authorization']}"]
    elif caller == "local":  # nothing is to be sent instead of a token, and nothing needs one
        arguments += ["--generation-with-security-parameters", "false", "--exclude-checks", "ignored_auth"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{site.url}/api/openapi.json"),
        *("--url", site.url, "--no-color", "--warnings", "off", *arguments),
        cwd=folder,
        env={**CLEAN, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.support.fuzz_hooks"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    report, _ = await process.communicate()
    assert process.returncode == 0, report.decode(errors="replace")


@pytest.mark.timeout(180)  # thirty operations, each tried in all ways
@pytest.mark.parametrize("caller", CALLERS)
async def test_every_answer_is_as_described(caller: str, redis_url: str, tmp_path: Path) -> None:
    examples, phases = ("8", "examples,coverage,fuzzing,stateful") if caller == "admin" else ("5", "coverage,fuzzing")
    async with site_for(caller, redis_url, tmp_path) as site:
        await schemathesis(
            *(site, caller, tmp_path),
            *("--generation-deterministic", "--max-examples", examples, "--phases", phases),
        )


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("caller", CALLERS)
async def test_every_answer_is_as_described_for_minutes(caller: str, redis_url: str, tmp_path: Path) -> None:
    """Each time with other requests; the report ends with the seed."""
    seed = secrets.randbelow(2**32)
    async with site_for(caller, redis_url, tmp_path) as site:
        await schemathesis(site, caller, tmp_path, "--max-time", "60", "--seed", str(seed), "--continue-on-failure")


SHAPES: Mapping[str, TypeAdapter[Any]] = {
    "application/json": TypeAdapter(ErrorDocument),
    "application/problem+json": TypeAdapter(ProblemDocument),
}
HEADERS = (
    *("Idempotency_Key", "Content_Encoding", "Content_Type", "Last_Event_ID", "If_None_Match", "X_Request_Id"),
    *("Authorization", "Accept", "Accept_Encoding", "Origin", "Host", "Sec_Fetch_Site"),
)
# Other characters are refused by the parser of aiohttp, before there is a request.
values = st.binary(max_size=40).map(lambda value: bytes(byte for byte in value if byte >= 32 and byte != 127))
likely = st.sampled_from([b"gzip", b"deflate", b"br", b"application/json", b'"a b"', b"*", b"1-1", b"Bearer \xff", b""])
headers = st.dictionaries(st.sampled_from(HEADERS), values | likely, max_size=4)
jobs = [b"/api/jobs/" + job_id for job_id in (b"ended-1", b"waiting-1", b"%00", b"%ff", b"%2e%2e", b"a" * 300)]
paths = st.sampled_from(
    [
        *(b"/api/jobs", b"/api/jobs/batch", b"/api/jobs/ended-1/events", b"/api/jobs/not-a-job/events"),
        *(b"/api/kinds", b"/api/openapi.json", b"/api/docs", b"/", b"//", b"/api/jobs?x=%ff"),
        *(job + rest for job in jobs for rest in (b"", b"/cancel", b"/retry")),
    ]
)
bodies = (
    st.binary(max_size=60)
    | st.sampled_from(
        [b'{"kind":"take-note"}', b'{"jobs":[{"kind":"take-note"}]}', b"[" * 100_000, b'"\\ud800"', b"{}"]
    )
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=[])),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    ).map(lambda document: json.dumps({"kind": "take-note", "payload": document}).encode())
)


@pytest.mark.parametrize("caller", ["local", "nobody"])
async def test_whatever_bytes_come_the_answer_is_no_failure_and_has_its_shape(
    caller: str, redis_url: str, tmp_path: Path
) -> None:
    @settings(max_examples=300, derandomize=True, deadline=None, database=None)
    @given(
        method=st.sampled_from([b"GET", b"POST", b"HEAD", b"PUT", b"TRACE"]), path=paths, headers=headers, body=bodies
    )
    def ask(method: bytes, path: bytes, headers: dict[str, bytes], body: bytes) -> None:
        answer = bare_answer(site.url, path, body, method=method, **headers)
        assert answer.status < 500
        if answer.status >= 400 and method != b"HEAD":
            document = json.loads(answer.body)
            SHAPES[answer.content_type].validate_python(document, by_alias=True)
            assert document["status" if "status" in document else "statusCode"] == answer.status

    async with site_for(caller, redis_url, tmp_path) as site:
        await asyncio.to_thread(ask)
