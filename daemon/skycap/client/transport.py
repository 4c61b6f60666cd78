"""Transport: how what a client wants reaches skycap."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from skycap.client.base import Order
from skycap.job import Enqueued, Job, JobState


class Transport(Protocol):
    """Every method raises Unavailable when what it needs cannot be reached, and may then be called again.

    ``queue`` is where a job is, if the caller knows; without it, all queues are looked at.
    """

    async def add(self, orders: Sequence[Order]) -> list[Enqueued]:
        """Store all or none, each once however often it is called with the same. Raises Refused."""
        ...

    async def get(self, job_id: str, *, queue: str | None) -> Job | None:
        """None when it is unknown, or was forgotten."""
        ...

    async def wait(self, job_id: str, *, queue: str | None, timeout: timedelta) -> Job | None:
        """As ``get``, once it has reached a final state, or after ``timeout``."""
        ...

    async def cancel(self, job_id: str, *, queue: str | None) -> JobState | None:
        """The state afterwards; a running job is told at its next heartbeat."""
        ...

    async def retry(self, job_id: str, *, queue: str | None) -> JobState | None:
        """A discarded job starts over, a waiting one runs now. The state afterwards."""
        ...

    async def close(self) -> None: ...
