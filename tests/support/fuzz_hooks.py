"""What schemathesis does to each request that it makes up, in its own process: some are to meet what is there.

Which ones depends on nothing but themselves, so that a run can be repeated. What is invalid stays so.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import Any, cast

import schemathesis

ENDED = ("ended-1", "ended-2")
KNOWN = ("waiting-1", "waiting-2", "waiting-3", *ENDED)
"""The ids of jobs that the test adds."""

_NAMES = {"queue": "tests", "kind": "take-note", "schedule": "nightly", "breaker": "partner"}
"""Of what there is, by the parameter that names it. Nothing but a dead letter is ever deleted, and there is none."""

_ID = re.compile(r"[A-Za-z0-9._:-]{1,200}")
_KIND = re.compile(r"(?=.{1,100}\Z)[a-z0-9]+(-[a-z0-9]+)*")
_PROBLEM = "application/problem+json"


def map_case(context: schemathesis.HookContext, case: Any) -> Any:
    """Without this nearly all would be about a kind or a job that does not exist, and in one shape of answers."""
    number = zlib.crc32(repr((case.path_parameters, case.body)).encode(errors="replace"))
    if number % 3 == 0:
        case.headers["Accept"] = _PROBLEM
    if number % 11 == 0:
        case.headers["Content-Encoding"] = ("gzip", "deflate", "br", "identity")[number % 4]
    parameters: dict[str, Any] = case.path_parameters or {}
    query: dict[str, Any] = case.query or {}
    for name, value in query.items():
        if isinstance(value, str):  # the head of a request may have 8 KiB: more is refused before it is a request
            query[name] = value[:500]
    for name, known in _NAMES.items():
        if _ID.fullmatch(str(parameters.get(name, ""))) and number % 4:
            parameters[name] = known
    if _ID.fullmatch(str(parameters.get("id", ""))):
        parameters["id"] = _met(str(parameters["id"]), number, follows=case.path.endswith("/events"))
    for place, request in enumerate(_requests(case.body)):
        _let_meet(request, number + place)
    return case


def _met(job_id: str, number: int, *, follows: bool) -> str:
    if follows:
        # The events of a job that has not ended would not end either.
        return ENDED[0] if number % 3 else "not-a-job"
    return KNOWN[number % len(KNOWN)] if number % 4 else job_id


def _let_meet(request: dict[str, Any], number: int) -> None:
    kind, payload = request.get("kind"), request.get("payload")
    if number % 4 and isinstance(kind, str) and _KIND.fullmatch(kind):
        request["kind"] = "take-note"
    if number % 5 and isinstance(payload, dict):
        request["payload"] = {"text": "hello"}


def _requests(body: Any) -> Iterator[dict[str, Any]]:
    if isinstance(body, dict):
        document = cast("dict[str, Any]", body)
        yield document
        members = document.get("jobs")
        if isinstance(members, list):
            for each in cast("list[object]", members):
                if isinstance(each, dict):
                    yield cast("dict[str, Any]", each)


cast("Any", schemathesis).hook(map_case)  # its own type is open in places
