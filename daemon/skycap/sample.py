"""Sample: a job as it might come, with what its handler would find in the database; for ``skycap mail preview``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from skycap.payload import Payload

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A job of one kind, told apart by ``name`` (``hotel-confirmed``).

    ``rows`` are what each query that the handler asks brings, by the query's text; what it executes changes nothing.
    ``settings`` are its plugin's, where the installation sets none. ``now`` is what ``ctx.now()`` says, so that a
    preview is the same every day.
    """

    name: str
    payload: Payload
    rows: Mapping[str, Rows] = field(default_factory=dict[str, Rows])
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    now: datetime = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)

    @property
    def kind(self) -> str:
        return self.payload.payload_spec.kind
