"""What the API describes of the whole fleet's standing."""

from __future__ import annotations

from skycap.engine.minutes import MOST_MINUTES
from skycap.http.errors import INVALID_REQUEST, NOT_FOUND
from skycap.http.operation import WITH_REDIS, Operation
from skycap.http.scopes import Scope
from skycap.http.status_documents import HistoryDocument, StatusDocument

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

STATUS_OPERATIONS = (
    Operation(
        method="get",
        path="/api/system/status",
        name="status",
        summary="See how the whole fleet stands",
        scopes=(Scope.READ,),
        parameters=(_MINUTES,),
        answers={200: ("What is known within two seconds; the rest is null.", StatusDocument)},
        errors=(INVALID_REQUEST,),
    ),
    Operation(
        method="get",
        path="/api/system/history",
        name="history",
        summary="See what happened in each of the last minutes",
        scopes=(Scope.READ,),
        parameters=(_QUEUE, _MINUTES),
        answers={200: ("Minute by minute, the oldest first.", HistoryDocument)},
        errors=(INVALID_REQUEST, NOT_FOUND, *WITH_REDIS),
    ),
)
