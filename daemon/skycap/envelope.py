"""Envelope: a job on the wire. Its JSON is the contract between every enqueuer and the workers.

    {"v": 1, "id": "0192…", "kind": "send-booking-confirmation", "version": 1, "queue": "email",
     "priority": 1, "enqueuedAt": "2026-11-23T06:00:00.000Z", "payload": {"bookingId": "…", …}}

Required: v, id, kind, payload. ``labels`` (string → string) carries what taskiq middlewares add, such as a trace.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeGuard, TypeVar, cast

from skycap.errors import PayloadTooLarge, Undecodable

_T = TypeVar("_T")

ENVELOPE_VERSION = 1

LARGEST_BYTES = 256 * 1024
"""An envelope larger than this is refused. Redis holds every waiting job in memory; large data belongs elsewhere."""


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """One job on the wire."""

    id: str
    kind: str
    payload: Mapping[str, Any]
    queue: str
    priority: int
    enqueued_at: datetime
    version: int = 1
    labels: Mapping[str, str] = field(default_factory=dict[str, str])

    def to_json(self) -> bytes:
        """Raises PayloadTooLarge over LARGEST_BYTES."""
        document = {
            "v": ENVELOPE_VERSION,
            "id": self.id,
            "kind": self.kind,
            "version": self.version,
            "queue": self.queue,
            "priority": self.priority,
            "enqueuedAt": _to_iso(self.enqueued_at),
            "payload": self.payload,
        }
        if self.labels:
            document["labels"] = self.labels
        data = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        if len(data) > LARGEST_BYTES:
            raise PayloadTooLarge(
                f"{self.kind}: the job is {len(data):,} bytes, the limit is {LARGEST_BYTES:,}; "
                "store large data elsewhere and send its id"
            )
        return data

    @classmethod
    def from_json(cls, data: bytes) -> Envelope:
        """Raises Undecodable, saying which part is wrong."""
        document = _object(data)
        if document.get("v") != ENVELOPE_VERSION:
            raise Undecodable(f"envelope version is {document.get('v')!r}, this worker reads {ENVELOPE_VERSION}")
        try:
            return cls(
                id=_typed(document, "id", str),
                kind=_typed(document, "kind", str),
                payload=_object_in(document, "payload"),
                queue=_typed(document, "queue", str, ""),
                priority=_typed(document, "priority", int, 10),
                enqueued_at=_from_iso(_typed(document, "enqueuedAt", str, "1970-01-01T00:00:00Z")),
                version=_typed(document, "version", int, 1),
                labels={name: str(value) for name, value in _object_in(document, "labels", {}).items()},
            )
        except (TypeError, ValueError) as error:
            raise Undecodable(f"envelope: {error}") from error


def _object(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Undecodable(f"not JSON: {error}") from error
    if not isinstance(document, dict):
        raise Undecodable(f"a {type(document).__name__} is no envelope: a JSON object is expected")
    return cast("dict[str, Any]", document)


def _typed(document: dict[str, Any], name: str, kind: type[_T], default: _T | None = None) -> _T:
    value = document.get(name, default)
    if not isinstance(value, kind):
        raise TypeError(f"{name} is {'missing' if value is None else repr(value)[:40]}, expected {kind.__name__}")
    return value


def _object_in(document: dict[str, Any], name: str, default: dict[str, Any] | None = None) -> dict[str, Any]:
    value = document.get(name, default)
    if not _is_object(value):
        raise TypeError(f"{name} is {'missing' if value is None else repr(value)[:40]}, expected an object")
    return value


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _to_iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _from_iso(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"enqueuedAt {text!r} has no time zone")
    return moment
