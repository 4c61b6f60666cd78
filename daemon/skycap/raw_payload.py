"""RawPayload: the payload of a kind whose class an application does not have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class RawPayload:
    """``RawPayload(kind="send-email", fields={"to": …})``; the fields as on the wire, in camelCase.

    Over HTTP and PostgreSQL the daemon checks it. Over Redis nobody does before it runs, and ``queue`` must be given.
    Options that are None are the kind's own; over Redis, where the kind is not known, priority is then 10.
    """

    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    queue: str | None = None
    priority: int | None = None
    version: int | None = None
