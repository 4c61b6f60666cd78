"""The tables of queues, with the backend's figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Literal, cast

from pydantic import Field

from skycap.backoff import Backoff, exponential, fixed, linear, waits
from skycap.settings.limits import FleetConcurrency, Rate, RateMax, RateSeconds, rate_of
from skycap.settings.retries import Retrying, Seconds, Shape, Waits
from skycap.settings.section import DAY_SECONDS, YEAR_SECONDS, Name

_BY_NUMBER: Mapping[str, Callable[..., Backoff]] = {"exponential": exponential, "fixed": fixed, "linear": linear}


class QueueSettings(Retrying):
    """One queue. The values of [queues.default] hold for a queue that is not named, and where a new one says none."""

    concurrency: int = Field(default=5, ge=1, le=1000, description="Jobs of this queue that one daemon runs at a time.")
    fleet_concurrency: FleetConcurrency | None = Field(
        default=None,
        description="At most so many jobs of this queue run at a time, over all daemons; if not set, each daemon's own "
        "concurrency is the limit.",
        examples=[10],
    )
    rate_max: RateMax | None = Field(
        default=None,
        description="At most so many jobs of this queue start in any time of rate_seconds, over all daemons; "
        "if not set, any number.",
        examples=[100],
    )
    rate_seconds: RateSeconds = Field(default=1.0, description="The time that rate_max is for.")
    limits: list[Name] = Field(
        default=[], description="Names of [limits.NAME] that hold for every job of this queue as well."
    )
    order: Literal["fifo", "lifo"] = Field(
        default="fifo",
        description="Which of the jobs with the same priority starts next: fifo = the oldest, lifo = the newest.",
    )
    max_waiting: int | None = Field(
        default=None,
        ge=1,
        le=100_000_000,
        description="When so many jobs wait, whoever enqueues another one is told to try again later; "
        "if not set, any number may wait.",
        examples=[100000],
    )
    attempts: int = Field(
        default=3, ge=1, le=1000, description="How many times a job is tried in all, the first included."
    )
    backoff: Shape = Field(
        default="exponential",
        description="How the wait between attempts grows: exponential = doubles each time, linear = grows by the "
        "first one each time, fixed = stays the same, list = as backoff_seconds lists.",
    )
    backoff_seconds: Waits = Field(
        default=5.0,
        validate_default=True,
        description="The wait after the first failure; where backoff is list, all of them, like [1, 5, 30], "
        "of which the last one repeats.",
    )
    backoff_longest_seconds: Seconds = Field(
        default=float(DAY_SECONDS), validate_default=True, description="No wait is longer."
    )
    jitter: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Up to this share of each wait is added to it by chance, "
        "so that jobs that failed together do not come back together.",
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
    keep_discarded_count: int = Field(
        default=10_000,
        ge=0,
        le=1_000_000,
        description="How many failed jobs stay in the dead-letter queue, the newest; 0 = none.",
    )

    @property
    def retry(self) -> Backoff:
        """When a failed job is tried again, where neither its plugin nor ``[jobs.KIND]`` says it."""
        seconds, longest = self.backoff_seconds, timedelta(seconds=self.backoff_longest_seconds)
        if isinstance(seconds, list):
            return waits(seconds, attempts=self.attempts, longest=longest, jitter=self.jitter)
        make = _BY_NUMBER[self.backoff]
        return make(seconds=seconds, attempts=self.attempts, longest=longest, jitter=self.jitter)

    @property
    def rate(self) -> Rate | None:
        return rate_of(self.rate_max, self.rate_seconds)

    @property
    def timeout(self) -> timedelta:
        return timedelta(seconds=self.timeout_seconds)


BACKEND_QUEUES: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "email": {
        "concurrency": 3,
        "rate_max": 10,
        "rate_seconds": 1.0,
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
