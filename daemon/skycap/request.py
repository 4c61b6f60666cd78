"""Request: what a caller asks for, one job; the same for Python, HTTP, SQL and a bridge from another system.

As JSON (only ``kind`` is required; the units are in the names, the fields of the payload are the kind's):

    {"kind": "send-welcome-email", "payload": {"userEmail": "…", "userName": "…"}, "id": "0192…", "version": 1,
     "delaySeconds": 5, "at": "2026-11-24T08:00:00+03:00", "deadlineSeconds": 3600, "deadline": "…", "priority": 10,
     "tags": ["…"], "labels": {"traceparent": "…"},
     "unique": {"key": "…", "by": ["userEmail"], "withinSeconds": 60, "onConflict": "keep"}}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from skycap.admission import checked_priority, checked_time
from skycap.errors import Refused
from skycap.unique import Unique


@dataclass(slots=True, kw_only=True)
class Request:
    """One job that somebody wants; whether its kind takes the payload is not known yet.

    ``payload`` has the fields as on the wire. What is None is the kind's own. ``id`` makes it repeatable: however often
    a request with the same id is sent, it is one job. Not frozen, which is dearer to make.
    """

    kind: str
    payload: Mapping[str, Any]
    id: str
    version: int | None = None
    delay: timedelta | None = None
    at: datetime | None = None
    deadline: timedelta | datetime | None = None
    priority: int | None = None
    unique: Unique | None = None
    tags: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict[str, str])

    def check(self) -> None:
        """Raises Refused for whatever is wrong with it for every kind."""
        if self.delay is not None and self.at is not None:
            raise Refused("give either a delay or a time (at), not both")
        if self.priority is not None:
            checked_priority(self.priority)
        for when, what in ((self.delay, "the delay"), (self.at, "the time to run at"), (self.deadline, "the deadline")):
            if when is not None:
                checked_time(when, what=what)

    def document(self) -> dict[str, Any]:
        """As JSON values, without what is not said."""
        document: dict[str, Any] = {"kind": self.kind, "payload": dict(self.payload), "id": self.id}
        document |= self.options()
        return document

    def options(self) -> dict[str, Any]:
        """The document without kind, payload and id."""
        said: dict[str, Any] = {
            "version": self.version,
            "delaySeconds": None if self.delay is None else self.delay.total_seconds(),
            "at": None if self.at is None else self.at.isoformat(),
            "priority": self.priority,
            "tags": list(self.tags) or None,
            "labels": dict(self.labels) or None,
            "unique": None if self.unique is None else _unique_document(self.unique),
        }
        if isinstance(self.deadline, datetime):
            said["deadline"] = self.deadline.isoformat()
        elif self.deadline is not None:
            said["deadlineSeconds"] = self.deadline.total_seconds()
        return {name: value for name, value in said.items() if value is not None}


def _unique_document(unique: Unique) -> dict[str, Any]:
    document: dict[str, Any] = {"onConflict": unique.on_conflict}
    if unique.by:
        document["by"] = list(unique.by)
    if unique.key is not None:
        document["key"] = unique.key
    if unique.within is not None:
        document["withinSeconds"] = unique.within.total_seconds()
    return document
