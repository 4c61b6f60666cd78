"""The API's description as an OpenAPI 3.1 document, made of the models that requests are read with."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from skycap.http.admin_documents import ADMIN_ANSWERS
from skycap.http.admin_operations import ADMIN_OPERATIONS, ADMIN_QUESTIONS
from skycap.http.documents import ANSWERS, QUESTIONS
from skycap.http.errors import (
    ERROR_TYPES,
    FOREIGN,
    INTERNAL,
    NO_SCOPE,
    NO_TOKEN,
    RATE_LIMIT,
    WRONG_TOKEN,
    ErrorType,
)
from skycap.http.job_operations import JOB_OPERATIONS
from skycap.http.operation import Operation
from skycap.http.status_documents import STATUS_ANSWERS
from skycap.http.status_operations import STATUS_OPERATIONS

_OPERATIONS = (*JOB_OPERATIONS, *ADMIN_OPERATIONS, *STATUS_OPERATIONS)
_ALWAYS = (NO_TOKEN, WRONG_TOKEN, NO_SCOPE, FOREIGN, RATE_LIMIT, INTERNAL)
_REF = "#/components/schemas/{model}"


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
            "description": "Enqueue background jobs, see what becomes of them, and steer the queues.\n\n"
            + _table_of_errors(),
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


def _operation(operation: Operation) -> dict[str, Any]:
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
        described["requestBody"] = {
            "required": operation.needs_body,
            "content": {"application/json": {"schema": _ref(operation.body)}},
        }
    return described


def _answer(operation: Operation, status: int) -> dict[str, Any]:
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
    schemas = _definitions((*QUESTIONS, *ADMIN_QUESTIONS), "validation")
    schemas |= _definitions((*ANSWERS, *STATUS_ANSWERS, *ADMIN_ANSWERS), "serialization")
    for optional in (
        "JobDocument.payload",
        "ErrorDocument.details",
        "ProblemDocument.details",
        "QueueDocument.history",
    ):
        model, _, field = optional.partition(".")
        schemas[model]["required"] = [name for name in schemas[model]["required"] if name != field]
    return schemas


def _definitions(models: Iterable[type[BaseModel]], mode: JsonSchemaMode) -> dict[str, Any]:
    _, found = models_json_schema([(model, mode) for model in models], ref_template=_REF)
    definitions: dict[str, Any] = found["$defs"]
    return definitions


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


def _table_of_errors() -> str:
    rows = [f"| {each.status} | {each.name} | {each.code} | {each.title} |" for each in (*ERROR_TYPES,)]
    return "\n".join(["| status | error | code | meaning |", "| --- | --- | --- | --- |", *rows])
