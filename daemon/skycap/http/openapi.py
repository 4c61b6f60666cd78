"""The API's description as an OpenAPI 3.1 document, made of the models that requests are read with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from skycap.engine.minutes import MOST_MINUTES
from skycap.http.documents import (
    ANSWERS,
    QUESTIONS,
    Batch,
    BatchAnswer,
    EnqueuedDocument,
    JobDocument,
    KindsDocument,
    StateDocument,
)
from skycap.http.errors import (
    BAD_HEADER,
    BAD_REQUEST,
    BUSY,
    ERROR_TYPES,
    FOREIGN,
    INTERNAL,
    INVALID_PAYLOAD,
    INVALID_REQUEST,
    KEY_REUSED,
    NEWER_PAYLOAD,
    NO_SCOPE,
    NO_TOKEN,
    NOT_FOUND,
    NOT_JSON,
    OUT_OF_MEMORY,
    QUEUE_FULL,
    RATE_LIMIT,
    TIMEOUT,
    TOO_INTRICATE,
    TOO_LARGE,
    TOO_SLOW,
    UNAVAILABLE,
    UNKNOWN_KIND,
    UNSUPPORTED,
    WRONG_STATE,
    WRONG_TOKEN,
    ErrorType,
)
from skycap.http.scopes import Scope
from skycap.http.status_documents import STATUS_ANSWERS, HistoryDocument, StatusDocument
from skycap.request_document import RequestDocument

_ALWAYS = (NO_TOKEN, WRONG_TOKEN, NO_SCOPE, FOREIGN, RATE_LIMIT, INTERNAL)
_WITH_REDIS = (UNAVAILABLE, TIMEOUT)
_WITH_BODY = (
    *(BAD_REQUEST, NOT_JSON, TOO_INTRICATE, BAD_HEADER, INVALID_PAYLOAD, UNKNOWN_KIND, NEWER_PAYLOAD),
    *(INVALID_REQUEST, TOO_SLOW, TOO_LARGE, UNSUPPORTED, KEY_REUSED, QUEUE_FULL, OUT_OF_MEMORY, BUSY),
)
_REF = "#/components/schemas/{model}"
_JOB_ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,200}$"},
    "description": "The job's id.",
}
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": "^[!#-~][!-~]{0,199}$"},
    "description": "The same request with the same key is answered as the first time, for 24 hours.",
}
_ETAG = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "The ETag of the list that the caller has. Anything else is ignored.",
}
_LAST_EVENT = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "The id of the last event that the caller heard of: those since come first. Else it is ignored.",
}


_QUEUE = {
    "name": "queue",
    "in": "query",
    "required": False,
    "schema": {"type": "string"},
    "description": "This queue alone.",
}
_MINUTES = {
    "name": "minutes",
    "in": "query",
    "required": False,
    "schema": {"type": "integer", "minimum": 1, "maximum": MOST_MINUTES},
    "description": "So many of the last minutes; the history has 60 without it, and the status none.",
}


@dataclass(frozen=True, kw_only=True)
class _Operation:
    """One thing that can be asked for."""

    method: str
    path: str
    name: str
    summary: str
    scopes: tuple[Scope, ...]
    answers: Mapping[int, tuple[str, type[BaseModel] | None]]
    errors: tuple[ErrorType, ...] = ()
    parameters: tuple[Mapping[str, Any], ...] = ()
    body: type[BaseModel] | None = None
    streams: bool = False


_OPERATIONS = (
    _Operation(
        method="post",
        path="/api/jobs",
        name="enqueue",
        summary="Enqueue a job",
        scopes=(Scope.ENQUEUE,),
        body=RequestDocument,
        parameters=(_KEY,),
        answers={
            202: ("Accepted: the job is stored, and runs when it is its turn.", EnqueuedDocument),
            200: ("The job was there already.", EnqueuedDocument),
        },
        errors=(*_WITH_BODY, *_WITH_REDIS),
    ),
    _Operation(
        method="post",
        path="/api/jobs/batch",
        name="enqueueBatch",
        summary="Enqueue up to 1,000 jobs, all or none",
        scopes=(Scope.ENQUEUE,),
        body=Batch,
        parameters=(_KEY,),
        answers={
            202: ("Accepted: all jobs are stored.", BatchAnswer),
            200: ("All of the jobs were there already.", BatchAnswer),
        },
        errors=(*_WITH_BODY, *_WITH_REDIS),
    ),
    _Operation(
        method="get",
        path="/api/jobs/{id}",
        name="getJob",
        summary="Look at a job",
        scopes=(Scope.READ,),
        parameters=(_JOB_ID,),
        answers={200: ("The job as it stands.", JobDocument)},
        errors=(NOT_FOUND, *_WITH_REDIS),
    ),
    _Operation(
        method="post",
        path="/api/jobs/{id}/cancel",
        name="cancelJob",
        summary="Cancel a job; one that runs is told at its next heartbeat",
        scopes=(Scope.ADMIN,),
        parameters=(_JOB_ID,),
        answers={200: ("The state afterwards.", StateDocument)},
        errors=(NOT_FOUND, WRONG_STATE, *_WITH_REDIS),
    ),
    _Operation(
        method="post",
        path="/api/jobs/{id}/retry",
        name="retryJob",
        summary="Let a discarded job start over, or one that waits run now",
        scopes=(Scope.ADMIN,),
        parameters=(_JOB_ID,),
        answers={200: ("The state afterwards.", StateDocument)},
        errors=(NOT_FOUND, WRONG_STATE, *_WITH_REDIS),
    ),
    _Operation(
        method="get",
        path="/api/jobs/{id}/events",
        name="followJob",
        summary="Follow a job until it has ended",
        scopes=(Scope.READ,),
        parameters=(_JOB_ID, _LAST_EVENT),
        answers={
            200: (
                (
                    "Server-sent events: first the state that the job is in, then each state that it comes to, and "
                    "`progress`. The stream ends with the job. An event may come twice."
                ),
                None,
            )
        },
        errors=(NOT_FOUND, BUSY, *_WITH_REDIS),
        streams=True,
    ),
    _Operation(
        method="get",
        path="/api/kinds",
        name="listKinds",
        summary="List what can be enqueued, with the JSON Schema of each payload",
        scopes=(Scope.ENQUEUE, Scope.READ),
        parameters=(_ETAG,),
        answers={200: ("The kinds.", KindsDocument), 304: ("The caller has this list.", None)},
    ),
    _Operation(
        method="get",
        path="/api/system/status",
        name="status",
        summary="See how the whole fleet stands",
        scopes=(Scope.READ,),
        parameters=(_MINUTES,),
        answers={200: ("What is known within two seconds; the rest is null.", StatusDocument)},
        errors=(INVALID_REQUEST,),
    ),
    _Operation(
        method="get",
        path="/api/system/history",
        name="history",
        summary="See what happened in each of the last minutes",
        scopes=(Scope.READ,),
        parameters=(_QUEUE, _MINUTES),
        answers={200: ("Minute by minute, the oldest first.", HistoryDocument)},
        errors=(INVALID_REQUEST, NOT_FOUND, *_WITH_REDIS),
    ),
)


def openapi_document(*, version: str) -> dict[str, Any]:
    """``version`` is skycap's."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in _OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "skycap",
            "version": version,
            "description": "Enqueue background jobs, and see what becomes of them.\n\n" + _table_of_errors(),
        },
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Made by `skycap tokens new`. In development, none is needed on the same machine.",
                }
            },
        },
    }


def _operation(operation: _Operation) -> dict[str, Any]:
    scopes = " or ".join(operation.scopes)
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": f"Takes a token with the scope {scopes}.",
        "security": [{"token": []}],
        "parameters": list(operation.parameters),
        "responses": {
            **{str(status): _answer(operation, status) for status in sorted(operation.answers)},
            **_errors((*_ALWAYS, *operation.errors)),
        },
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(operation.body)}}}
    return described


def _answer(operation: _Operation, status: int) -> dict[str, Any]:
    description, model = operation.answers[status]
    if operation.streams:
        # Without a schema: before OpenAPI 3.2 it is not said whether one is for the whole stream or for each event.
        return {"description": description, "content": {"text/event-stream": {}}}
    if model is None:
        return {"description": description}
    return {"description": description, "content": {"application/json": {"schema": _ref(model)}}}


def _errors(types: Iterable[ErrorType]) -> dict[str, Any]:
    by_status = groupby(sorted(set(types), key=lambda each: (each.status, each.code)), key=lambda each: each.status)
    return {
        str(status): {
            "description": "; ".join(f"{each.code}: {each.title}" for each in its),
            "content": {
                "application/json": {"schema": {"$ref": _REF.format(model="ErrorDocument")}},
                "application/problem+json": {"schema": {"$ref": _REF.format(model="ProblemDocument")}},
            },
        }
        for status, its in by_status
    }


def _schemas() -> dict[str, Any]:
    questions = models_json_schema([(model, "validation") for model in QUESTIONS], ref_template=_REF)[1]["$defs"]
    answers = models_json_schema(
        [(model, "serialization") for model in (*ANSWERS, *STATUS_ANSWERS)], ref_template=_REF
    )[1]["$defs"]
    schemas = {**questions, **answers}
    for optional in (
        "JobDocument.payload",
        "ErrorDocument.details",
        "ProblemDocument.details",
        "QueueDocument.history",
    ):
        model, _, field = optional.partition(".")
        schemas[model]["required"] = [name for name in schemas[model]["required"] if name != field]
    return schemas


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


def _table_of_errors() -> str:
    rows = [f"| {each.status} | {each.name} | {each.code} | {each.title} |" for each in (*ERROR_TYPES,)]
    return "\n".join(["| status | error | code | meaning |", "| --- | --- | --- | --- |", *rows])
