"""Health as draft-inadarei-api-health-check-06 has it: ``application/health+json``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal

from aiohttp import web
from pydantic_core import to_json

from skycap.http.access import known_caller

HEALTH_JSON = "application/health+json"

Verdict = Literal["pass", "warn", "fail"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line. ``name`` is COMPONENT:MEASUREMENT; ``output`` says what is wrong, to callers who are known."""

    name: str
    component: Literal["system", "datastore", "component"]
    verdict: Verdict
    value: float | str | None = None
    unit: str = ""
    output: str = ""

    def document(self, *, with_output: bool) -> dict[str, Any]:
        found: dict[str, Any] = {"componentType": self.component, "status": self.verdict}
        if self.value is not None:
            found["observedValue"] = self.value
        if self.unit:
            found["observedUnit"] = self.unit
        if with_output and self.output:
            found["output"] = self.output
        return found


def verdict_of(checks: Sequence[Check]) -> Verdict:
    """The gravest."""
    found = {check.verdict for check in checks}
    if "fail" in found:
        return "fail"
    return "warn" if "warn" in found else "pass"


def wants_health(request: web.Request) -> bool:
    return HEALTH_JSON in request.headers.get("Accept", "")


def health_answer(request: web.Request, checks: Sequence[Check]) -> web.Response:
    """503 for what fails, else 200."""
    verdict = verdict_of(checks)
    with_output = known_caller(request) is not None
    document = {
        "status": verdict,
        "version": "1",
        "releaseId": metadata.version("skycap"),
        "checks": {check.name: [check.document(with_output=with_output)] for check in checks},
    }
    return web.Response(
        body=to_json(document), status=503 if verdict == "fail" else 200, headers={"Content-Type": HEALTH_JSON}
    )
