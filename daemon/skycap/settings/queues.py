"""The tables that a configuration has by name: of queues, with the backend's figures, and of kinds of job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal, cast

from pydantic import Field

from skycap.backoff import Backoff, exponential, fixed
from skycap.settings.section import DAY_SECONDS, YEAR_SECONDS, Section


class QueueSettings(Section):
    """One queue. The values of [queues.default] hold for a queue that is not named, and where a new one says none."""

    concurrency: int = Field(default=5, ge=1, le=1000, description="Jobs of this queue that one daemon runs at a time.")
    attempts: int = Field(
        default=3, ge=1, le=1000, description="How many times a job is tried in all, the first included."
    )
    backoff: Literal["exponential", "fixed"] = Field(
        default="exponential", description="Whether the wait between attempts doubles each time or stays the same."
    )
    backoff_seconds: float = Field(
        default=5.0, ge=0, le=DAY_SECONDS, description="The wait after the first failure; none is longer than a day."
    )
    timeout_seconds: float = Field(
        default=300.0, ge=0.1, le=7 * DAY_SECONDS, description="An attempt that takes longer is stopped and has failed."
    )
    keep_finished_seconds: float = Field(
        default=3600.0, ge=0, le=YEAR_SECONDS, description="How long finished jobs can be looked up."
    )
    keep_finished_count: int = Field(
        default=100, ge=0, le=1_000_000, description="How many finished jobs can be looked up, the newest; 0 = none."
    )
    keep_discarded_seconds: float = Field(
        default=2.0 * DAY_SECONDS,
        ge=0,
        le=YEAR_SECONDS,
        description="How long failed jobs stay in the dead-letter queue, where they can be redriven.",
    )

    @property
    def retry(self) -> Backoff:
        make = exponential if self.backoff == "exponential" else fixed
        return make(seconds=self.backoff_seconds, attempts=self.attempts)

    @property
    def timeout(self) -> timedelta:
        return timedelta(seconds=self.timeout_seconds)


class JobSettings(Section):
    """Of one kind of job: what is set here wins over the plugin and over the queue."""

    attempts: int | None = Field(default=None, ge=1, le=1000, description="As of a queue.", examples=[5])
    backoff: Literal["exponential", "fixed"] | None = Field(
        default=None, description="As of a queue.", examples=["fixed"]
    )
    backoff_seconds: float | None = Field(
        default=None, ge=0, le=DAY_SECONDS, description="As of a queue.", examples=[60]
    )
    timeout_seconds: float | None = Field(
        default=None, ge=0.1, le=7 * DAY_SECONDS, description="As of a queue.", examples=[30]
    )

    def applied_to(self, retry: Backoff) -> Backoff:
        """``retry``, which a plugin or a queue gives, with what is set here in its place."""
        changes: dict[str, Any] = {}
        if self.attempts is not None:
            changes["attempts"] = self.attempts
        if self.backoff is not None:
            changes["factor"] = 2.0 if self.backoff == "exponential" else 1.0
        if self.backoff_seconds is not None:
            changes["first"] = timedelta(seconds=self.backoff_seconds)
            changes["longest"] = max(retry.longest, changes["first"])
        return replace(retry, **changes)


BACKEND_QUEUES: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "email": {
        "concurrency": 3,
        "attempts": 3,
        "backoff": "exponential",
        "backoff_seconds": 5.0,
        "keep_finished_seconds": 3600.0,
        "keep_finished_count": 100,
        "keep_discarded_seconds": 1.0 * DAY_SECONDS,
    },
    "processing": {
        "concurrency": 5,
        "attempts": 5,
        "backoff": "exponential",
        "backoff_seconds": 10.0,
        "keep_finished_seconds": 3600.0,
        "keep_finished_count": 50,
        "keep_discarded_seconds": 2.0 * DAY_SECONDS,
    },
    "scheduled": {
        "concurrency": 2,
        "attempts": 3,
        "backoff": "fixed",
        "backoff_seconds": 60.0,
        "keep_finished_seconds": 7200.0,
        "keep_finished_count": 10,
    },
}
"""The queues that the travel backend has, with its figures; what it does not say is as in ``default``."""


def backend_queues() -> dict[str, QueueSettings]:
    return {name: QueueSettings(**figures) for name, figures in BACKEND_QUEUES.items()}


def merged_queues(queues: Mapping[str, Any]) -> dict[str, Any]:
    """Each queue over the backend's figures for it, and those over ``default`` as it is configured."""
    default = queues.get("default", {})
    merged: dict[str, Any] = {}
    for name in [*BACKEND_QUEUES, *(name for name in queues if name not in BACKEND_QUEUES)]:
        configured = queues.get(name, {})
        if isinstance(configured, Mapping) and isinstance(default, Mapping):
            base = cast("Mapping[str, Any]", default) if name not in BACKEND_QUEUES else BACKEND_QUEUES[name]
            configured = {**base, **cast("Mapping[str, Any]", configured)}
        merged[name] = configured
    return merged
