"""Envelope: a job on the wire. Its JSON is the contract between every enqueuer and the workers.

    {"v": 1, "id": "0192…", "kind": "send-booking-confirmation", "version": 1, "queue": "email",
     "priority": 1, "enqueuedAt": "2026-11-23T06:00:00.000Z", "payload": {"bookingId": "…", …}}

Required: v, id, kind, payload. ``tags`` (strings) are for people to find jobs by; ``labels`` (string → string) carry
what taskiq middlewares add, such as a trace. A signed envelope has ``sig`` at its end: see ``skycap.signing``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeVar, cast

from pydantic_core import from_json, to_json

from skycap.errors import PayloadTooLarge, Undecodable
from skycap.payload import LARGEST_BYTES
from skycap.signing import Signer

_T = TypeVar("_T")

ENVELOPE_VERSION = 1

_UNKNOWN_TIME = "1970-01-01T00:00:00Z"


@dataclass(kw_only=True, slots=True)
class Envelope:
    """One job on the wire. Not frozen, which is dearer to make, and each job pays for that."""

    id: str
    kind: str
    payload: Mapping[str, Any]
    queue: str
    priority: int
    enqueued_at: datetime
    version: int = 1
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    tags: tuple[str, ...] = ()
    largest_bytes: int = field(default=LARGEST_BYTES, compare=False)
    """What its kind allows; not on the wire. What was accepted once can be written again."""
    signer: Signer | None = field(default=None, compare=False, repr=False)
    """Who vouches for it; without, it is written unsigned."""

    def to_json(self) -> bytes:
        """Raises PayloadTooLarge over ``largest_bytes``."""
        document: dict[str, Any] = {
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
        if self.tags:
            document["tags"] = self.tags
        data = _encoded(document)
        if self.signer is not None:
            data = self.signer.sign(data)
        if len(data) > self.largest_bytes:
            raise PayloadTooLarge(
                f"{self.kind}: the job is {len(data):,} bytes, the limit is {self.largest_bytes:,}; "
                "store large data elsewhere and send its id"
            )
        return data

    @classmethod
    def from_json(cls, data: bytes) -> Envelope:
        """Raises Undecodable, saying which part is wrong."""
        document = _object(data)
        if document.get("v") != ENVELOPE_VERSION:
            raise Undecodable(f"envelope version is {document.get('v')!r}, this worker reads {ENVELOPE_VERSION}")
        read = document.get
        try:
            labels, tags = read("labels"), read("tags")
            return cls(
                id=_typed("id", read("id"), str),
                kind=_typed("kind", read("kind"), str),
                payload=_object_in("payload", read("payload")),
                queue=_typed("queue", read("queue", ""), str),
                priority=_typed("priority", read("priority", 10), int),
                enqueued_at=_from_iso(_typed("enqueuedAt", read("enqueuedAt", _UNKNOWN_TIME), str)),
                version=_typed("version", read("version", 1), int),
                labels={name: str(value) for name, value in _object_in("labels", labels).items()} if labels else {},
                tags=tuple(map(str, cast("list[object]", _typed("tags", tags, list)))) if tags else (),
                largest_bytes=max(LARGEST_BYTES, len(data)),
            )
        except (TypeError, ValueError) as error:
            raise Undecodable(f"envelope: {error}") from error


def _encoded(document: dict[str, Any]) -> bytes:
    data = to_json(document)
    if b"NaN" in data or b"Infinity" in data:
        # pydantic writes what no JSON is; the strict encoder raises ValueError, unless the words are in a text.
        data = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    return data


def _object(data: bytes) -> dict[str, Any]:
    try:
        document = from_json(data, allow_inf_nan=False)
    except (ValueError, RecursionError) as error:
        raise Undecodable(f"not JSON: {error}") from error
    if not isinstance(document, dict):
        raise Undecodable(f"a {type(document).__name__} is no envelope: a JSON object is expected")
    return cast("dict[str, Any]", document)


def _typed(name: str, value: Any, kind: type[_T]) -> _T:
    if not isinstance(value, kind):
        raise TypeError(f"{name} is {_shown(value)}, expected {kind.__name__}")
    return value


def _object_in(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{name} is {_shown(value)}, expected an object")
    return cast("dict[str, Any]", value)


def _shown(value: Any) -> str:
    return "missing" if value is None else repr(value)[:40]


@lru_cache(maxsize=1)  # jobs that are enqueued together have the same time
def _to_iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _from_iso(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"enqueuedAt {text!r} has no time zone")
    return moment
