"""The HTTP API in a thread, and requests made of its own description."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import requests
import schemathesis
from anyio.from_thread import start_blocking_portal
from schemathesis.config import SchemathesisConfig

from skycap.http.guards import LocalGuard, TokenGuard
from skycap.http.tokens import TokenFile, digest_of, new_token
from tests.support.api import Api, api
import tempfile

@dataclass
class Fuzzed:
    url: str
    headers: dict[str, str]

    def schema(self, *, max_examples, seed):
        config = SchemathesisConfig.from_dict({
            **({} if seed is None else {"seed": seed}),
            "generation": {"max-examples": max_examples, "deterministic": seed is None},
            "request-timeout": 10,
            "headers": self.headers,
            "checks": {"positive_data_acceptance": {"enabled": False}},
        })
        loaded = schemathesis.openapi.from_url(f"{self.url}/api/openapi.json", config=config)
        loaded.config.update(base_url=self.url)
        loaded.hook(map_case)
        return loaded

    def check(self, case):
        case.call_and_validate(session=self.session, timeout=10)

ENDED = ["ended-1", "ended-2"]
KNOWN = ["waiting-1", "waiting-2", "waiting-3", *ENDED]
_KIND = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")

def map_case(context, case):
    ident = case.path_parameters.get("id") if isinstance(case.path_parameters, dict) else None
    if isinstance(ident, str):
        if context.operation.path.endswith("/events"):
            case.path_parameters["id"] = ENDED[0] if len(ident) % 3 else "no-" + ident
        elif len(ident) % 3 and re.fullmatch("[A-Za-z0-9._:-]{1,200}", ident):
            case.path_parameters["id"] = KNOWN[len(ident) % len(KNOWN)]
    for body in _bodies(case.body):
        if isinstance(body.get("kind"), str) and _KIND.fullmatch(body["kind"]) and len(body["kind"]) % 4:
            body["kind"] = "take-note"
        if isinstance(body.get("payload"), dict) and len(body["payload"]) % 4:
            body["payload"] = {"text": "x"}
    return case

def _bodies(body):
    if isinstance(body, dict):
        yield body
        jobs = body.get("jobs")
        if isinstance(jobs, list):
            yield from (each for each in jobs if isinstance(each, dict))

@contextmanager
def fuzzed(redis_url: str, *, caller: str) -> Iterator[Fuzzed]:
    with tempfile.TemporaryDirectory() as folder, start_blocking_portal() as portal:
        token = new_token()
        file = Path(folder, "tokens.toml")
        file.write_text(f'[t]\nsha256 = "{digest_of(token)}"\nscopes = ["{"read" if caller == "reader" else "admin"}"]\nrate="100000/1s"\n')
        file.chmod(0o600)
        guard = LocalGuard("127.0.0.1") if caller == "open" else TokenGuard(TokenFile(file), token_rate="100000/1s", is_for_others=False)
        headers = {} if caller in ("open", "nobody") else {"Authorization": f"Bearer {token}"}
        with portal.wrap_async_context_manager(api(redis_url, guard=guard)) as site:
            admin = {"Authorization": f"Bearer {token}"}
            with requests.Session() as session:
                for name in KNOWN:
                    assert session.post(site.url + "/api/jobs", json={"kind": "take-note", "id": name, "delaySeconds": 60}, headers=admin).status_code == 202
                for name in ENDED:
                    assert session.post(site.url + f"/api/jobs/{name}/cancel", headers=admin).status_code == 200
                found = Fuzzed(url=site.url, headers=headers)
                found.session = session
                yield found
