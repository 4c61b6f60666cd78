"""Every error answer has the shape that the travel company's dashboards know, whatever went wrong."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from aiohttp import web
from pydantic_core import to_json

from skycap.errors import (
    InvalidPayload,
    KeyReused,
    NewerPayload,
    PayloadTooLarge,
    QueueFull,
    Refused,
    Unavailable,
    UnknownKind,
)

_log = structlog.get_logger("skycap.http")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

REQUEST_ID = web.RequestKey("request_id", str)

_ACCEPTED_ID = re.compile(r"[\w-]{1,64}", re.ASCII)
_PROBLEM = "application/problem+json"
_RETRY_SECONDS = "1"


@dataclass(frozen=True, kw_only=True)
class ErrorType:
    """``name`` as the dashboards know it, ``status`` as it is answered, ``code`` for programs, ``title`` for people."""

    name: str
    status: int
    code: str
    title: str


def _types(name: str, status: int, *titles: str, first: int = 1) -> list[ErrorType]:
    stem = name.removesuffix("_ERROR")
    return [
        ErrorType(name=name, status=status, code=f"{stem}_{number:03}", title=title)
        for number, title in enumerate(titles, first)
    ]


INVALID_PAYLOAD, UNKNOWN_KIND, NEWER_PAYLOAD, INVALID_REQUEST = _types(
    "VALIDATION_ERROR",
    400,
    "The payload does not fit its kind",
    "No plugin handles this kind",
    "The payload has a newer version than the daemon knows",
    "The request around the payload is not understood",
)
BAD_REQUEST, NOT_JSON, TOO_INTRICATE, BAD_HEADER = _types(
    "BAD_REQUEST",
    400,
    "The request cannot be taken",
    "The body is no JSON object",
    "The body is nested too deep or has too many values",
    "A header is not understood",
)
(TOO_SLOW,) = _types("BAD_REQUEST", 408, "The body did not arrive in time", first=5)
(TOO_LARGE,) = _types("BAD_REQUEST", 413, "The body or the job is too large", first=6)
(UNSUPPORTED,) = _types("BAD_REQUEST", 415, "The body has a type or an encoding that is not read", first=7)
(NOT_ALLOWED,) = _types("BAD_REQUEST", 405, "The method is not possible here", first=8)
NO_TOKEN, WRONG_TOKEN = _types(
    "AUTHENTICATION_ERROR", 401, "A token is needed", "The token is not known, or has expired"
)
NO_SCOPE, FOREIGN = _types(
    "AUTHORIZATION_ERROR", 403, "The token lacks the scope", "A web page of somebody else sent the request"
)
(NOT_FOUND,) = _types("NOT_FOUND", 404, "There is no such thing")
KEY_REUSED, WRONG_STATE, UNFORESEEN = _types(
    "CONFLICT",
    409,
    "The idempotency key came with another request before",
    "The job's state does not allow it",
    "There are more or fewer than the asker expects",
)
(RATE_LIMIT,) = _types("RATE_LIMIT", 429, "The token's rate is used up")
(INTERNAL,) = _types("INTERNAL_SERVER_ERROR", 500, "A bug; the log has it under the requestId")
UNAVAILABLE, QUEUE_FULL, OUT_OF_MEMORY, BUSY = _types(
    "EXTERNAL_SERVICE_ERROR",
    503,
    "Something that is needed cannot be reached",
    "The queue is full",
    "Redis has no memory left",
    "The daemon is busy with other requests",
)
(TIMEOUT,) = _types("TIMEOUT", 504, "Something that is needed did not answer in time")

ERROR_TYPES: tuple[ErrorType, ...] = (
    *(INVALID_PAYLOAD, UNKNOWN_KIND, NEWER_PAYLOAD, INVALID_REQUEST),
    *(BAD_REQUEST, NOT_JSON, TOO_INTRICATE, BAD_HEADER, NOT_ALLOWED, TOO_SLOW, TOO_LARGE, UNSUPPORTED),
    *(NO_TOKEN, WRONG_TOKEN, NO_SCOPE, FOREIGN, NOT_FOUND, KEY_REUSED, WRONG_STATE, UNFORESEEN, RATE_LIMIT),
    *(INTERNAL, UNAVAILABLE, QUEUE_FULL, OUT_OF_MEMORY, BUSY, TIMEOUT),
)

_BY_STATUS = {
    400: BAD_REQUEST,
    401: NO_TOKEN,
    403: NO_SCOPE,
    404: NOT_FOUND,
    405: NOT_ALLOWED,
    408: TOO_SLOW,
    409: WRONG_STATE,
    413: TOO_LARGE,
    415: UNSUPPORTED,
    429: RATE_LIMIT,
    503: UNAVAILABLE,
    504: TIMEOUT,
}


_BY_ERROR: Mapping[type[Refused], ErrorType] = {
    InvalidPayload: INVALID_PAYLOAD,
    UnknownKind: UNKNOWN_KIND,
    NewerPayload: NEWER_PAYLOAD,
    PayloadTooLarge: TOO_LARGE,
    KeyReused: KEY_REUSED,
    QueueFull: QUEUE_FULL,
}


_BY_PROBLEM: Mapping[str, ErrorType] = {"OOM": OUT_OF_MEMORY, "no answer within": TIMEOUT}
"""How the problem of an Unavailable begins."""


class ApiError(Exception):
    """The answer to a request that cannot be granted. ``problems`` has one ``field: what is wrong`` each."""

    def __init__(
        self,
        error_type: ErrorType,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        problems: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.message = message
        self.headers = headers or {}
        self.problems = problems


class ErrorAnswers:
    """Gives each request an id and turns whatever its handler raises into an error answer.

    Only in ``development`` has that the ``details``: the fields that are wrong, one by one.
    """

    def __init__(self, *, development: bool = False) -> None:
        self._development = development

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        request_id = request[REQUEST_ID] = _request_id(request)
        try:
            response = await handler(request)
        except web.HTTPRedirection:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a handler raises, the asker gets an answer
            # In no variable of its own: what was read of a refused body would stay with its traceback.
            response = self._answer_to(request, error)
        if not request.content.is_eof():
            # The rest of the body is not read, so that no further request can follow it.
            response.force_close()
        if not response.prepared:
            response.headers["X-Request-Id"] = request_id
        return response

    def _answer_to(self, request: web.Request, error: Exception) -> web.Response:
        answer = api_error_of(request, error)
        if answer.error_type is INTERNAL:
            _log.error("request failed", path=request.path, request_id=request[REQUEST_ID], exc_info=error)
        return self._answer(request, answer)

    def _answer(self, request: web.Request, error: ApiError) -> web.Response:
        wants_problem = _PROBLEM in request.headers.get("Accept", "")
        body = _problem(request, error) if wants_problem else _document(request, error)
        if self._development and error.problems:
            body["details"] = [_detail(problem) for problem in error.problems]
        return web.Response(
            body=to_json(body),
            status=error.error_type.status,
            headers=error.headers,
            content_type=_PROBLEM if wants_problem else "application/json",
            charset=None if wants_problem else "utf-8",
        )


def api_error_of(request: web.Request, error: Exception) -> ApiError:
    """What the asker is told of whatever a handler raised."""
    match error:
        case ApiError():
            return error
        case web.HTTPException():
            return _of_http(request, error)
        case Refused() | Unavailable():
            return api_error(error)
        case _:
            return ApiError(INTERNAL, "internal error; the log has it under this requestId")


def api_error(error: Refused | Unavailable) -> ApiError:
    """What the asker is told of an error that is not HTTP's own."""
    problems = error.problems if isinstance(error, InvalidPayload) else ()
    headers = {"Retry-After": _RETRY_SECONDS} if isinstance(error, QueueFull | Unavailable) else None
    return ApiError(_type_of(error), "; ".join(problems) or str(error), headers=headers, problems=problems)


def _type_of(error: Refused | Unavailable) -> ErrorType:
    if isinstance(error, Unavailable):
        return next((found for start, found in _BY_PROBLEM.items() if error.problem.startswith(start)), UNAVAILABLE)
    return next((found for raised, found in _BY_ERROR.items() if isinstance(error, raised)), BAD_REQUEST)


def _document(request: web.Request, error: ApiError) -> dict[str, Any]:
    kind = error.error_type
    return {
        "success": False,
        "error": kind.name,
        "message": error.message,
        "statusCode": kind.status,
        "code": kind.code,
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "path": request.path,
        "requestId": request[REQUEST_ID],
    }


def _problem(request: web.Request, error: ApiError) -> dict[str, Any]:
    """As RFC 9457 has it."""
    kind = error.error_type
    return {
        "type": f"/api/docs#{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": error.message,
        "instance": request.rel_url.raw_path,
        "code": kind.code,
        "requestId": request[REQUEST_ID],
    }


def _detail(problem: str) -> dict[str, str]:
    field, _, message = problem.partition(": ")
    return {"field": field, "message": message}


def _request_id(request: web.Request) -> str:
    given = request.headers.get("X-Request-Id")
    return given if given is not None and _ACCEPTED_ID.fullmatch(given) else os.urandom(16).hex()


def _of_http(request: web.Request, error: web.HTTPException) -> ApiError:
    default = ErrorType(name=BAD_REQUEST.name, status=error.status, code=BAD_REQUEST.code, title=error.reason)
    headers = {name: error.headers[name] for name in ("Allow", "Retry-After") if name in error.headers}
    return ApiError(_BY_STATUS.get(error.status, default), _sentence(request, error), headers=headers)


def _sentence(request: web.Request, error: web.HTTPException) -> str:
    match error:
        case web.HTTPNotFound():
            return f"there is nothing at {request.path}"
        case web.HTTPMethodNotAllowed():
            return f"{request.method} is not possible here; allowed: {', '.join(sorted(error.allowed_methods))}"
        case _:
            return error.text or error.reason
