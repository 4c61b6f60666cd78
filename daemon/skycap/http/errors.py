"""Every error answer has the shape that the travel company's dashboards know, whatever went wrong."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from aiohttp import web

from skycap.errors import InvalidPayload, Refused, Unavailable

_log = structlog.get_logger("skycap.http")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

REQUEST_ID = web.RequestKey("request_id", str)

_ACCEPTED_ID = re.compile(r"[\w-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class ErrorType:
    """``name`` as the dashboards know it; ``status`` is what it is answered with."""

    name: str
    status: int

    @property
    def code(self) -> str:
        return f"{self.name.removesuffix('_ERROR')}_001"


VALIDATION = ErrorType(name="VALIDATION_ERROR", status=400)
BAD_REQUEST = ErrorType(name="BAD_REQUEST", status=400)
NOT_FOUND = ErrorType(name="NOT_FOUND", status=404)
INTERNAL = ErrorType(name="INTERNAL_SERVER_ERROR", status=500)
EXTERNAL = ErrorType(name="EXTERNAL_SERVICE_ERROR", status=503)

_BY_STATUS = {
    400: BAD_REQUEST,
    401: ErrorType(name="AUTHENTICATION_ERROR", status=401),
    403: ErrorType(name="AUTHORIZATION_ERROR", status=403),
    404: NOT_FOUND,
    409: ErrorType(name="CONFLICT", status=409),
    429: ErrorType(name="RATE_LIMIT", status=429),
    503: EXTERNAL,
    504: ErrorType(name="TIMEOUT", status=504),
}


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request an id and turn whatever its handler raises into an error answer."""
    request[REQUEST_ID] = _request_id(request)
    try:
        response = await handler(request)
    except web.HTTPException as error:
        if error.status < 400:  # noqa: PLR2004 - a redirect is no error
            raise
        kind = _BY_STATUS.get(error.status, ErrorType(name=BAD_REQUEST.name, status=error.status))
        response = error_answer(request, kind, _sentence(request, error), headers=_kept(error))
    except InvalidPayload as error:
        response = error_answer(request, VALIDATION, str(error))
    except Refused as error:
        response = error_answer(request, BAD_REQUEST, str(error))
    except Unavailable as error:
        response = error_answer(request, EXTERNAL, str(error))
    except Exception:  # noqa: BLE001 - whatever a handler raises, the asker gets an answer and the log the traceback
        _log.exception("request failed", path=request.path, request_id=request[REQUEST_ID])
        response = error_answer(request, INTERNAL, "internal error; the log has it under this requestId")
    response.headers["X-Request-Id"] = request[REQUEST_ID]
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "no-store"
    return response


def error_answer(
    request: web.Request, kind: ErrorType, message: str, *, headers: dict[str, str] | None = None
) -> web.Response:
    body = {
        "success": False,
        "error": kind.name,
        "message": message,
        "statusCode": kind.status,
        "code": kind.code,
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "path": request.path,
        "requestId": request[REQUEST_ID],
    }
    return web.json_response(
        body, status=kind.status, headers=headers, dumps=lambda o: json.dumps(o, ensure_ascii=False)
    )


def _request_id(request: web.Request) -> str:
    given = request.headers.get("X-Request-Id", "")
    return given if _ACCEPTED_ID.fullmatch(given) else uuid.uuid4().hex


def _sentence(request: web.Request, error: web.HTTPException) -> str:
    match error:
        case web.HTTPNotFound():
            return f"there is nothing at {request.path}"
        case web.HTTPMethodNotAllowed():
            return f"{request.method} is not possible here; allowed: {', '.join(sorted(error.allowed_methods))}"
        case _:
            return error.text or error.reason


def _kept(error: web.HTTPException) -> dict[str, str]:
    return {name: error.headers[name] for name in ("Allow", "Retry-After") if name in error.headers}
