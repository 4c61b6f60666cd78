"""The tables of kinds of jobs: what an admin decides over a plugin and a queue."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, Self

from pydantic import Field, model_validator

from skycap.backoff import Backoff
from skycap.settings.limits import FleetConcurrency, Rate, RateMax, RateSeconds, rate_of
from skycap.settings.retries import Retrying, Seconds, Shape, Waits
from skycap.settings.section import DAY_SECONDS, YEAR_SECONDS, Name

_SHAPES: dict[Shape, dict[str, Any]] = {
    "exponential": {"factor": 2.0, "linear": False, "later": ()},
    "fixed": {"factor": 1.0, "linear": False, "later": ()},
    "linear": {"factor": 1.0, "linear": True, "later": ()},
    "list": {"factor": 1.0, "linear": False},
}


class JobSettings(Retrying):
    """Of one kind of job: what is set here wins over the plugin and over the queue."""

    attempts: int | None = Field(
        default=None, ge=1, le=1000, description="How many times such a job is tried in all.", examples=[5]
    )
    backoff: Shape | None = Field(
        default=None,
        description="As of a queue; list needs a list of its own in backoff_seconds.",
        examples=["list"],
    )
    backoff_seconds: Waits | None = Field(
        default=None,
        validate_default=True,
        description="As of a queue; one number without backoff takes the place also of a list of the plugin or queue.",
        examples=[[60, 300, 3600]],
    )
    backoff_longest_seconds: Seconds | None = Field(
        default=None, description="No wait is longer, also none of the plugin or queue.", examples=[3600]
    )
    jitter: float | None = Field(default=None, ge=0, le=1, description="As of a queue.", examples=[0.5])
    timeout_seconds: float | None = Field(
        default=None, ge=0.1, le=7 * DAY_SECONDS, description="An attempt that takes longer has failed.", examples=[30]
    )
    keep_finished_seconds: float | None = Field(
        default=None, ge=0, le=YEAR_SECONDS, description="How long finished ones can be looked up.", examples=[86400]
    )
    keep_discarded_seconds: float | None = Field(
        default=None, ge=0, le=YEAR_SECONDS, description="How long failed ones can be redriven.", examples=[604800]
    )
    fleet_concurrency: FleetConcurrency | None = Field(
        default=None, description="At most so many jobs of this kind run at a time, over all daemons.", examples=[2]
    )
    rate_max: RateMax | None = Field(
        default=None,
        description="At most so many jobs of this kind start in any time of rate_seconds, over all daemons; "
        "the limits of its queue hold too.",
        examples=[5],
    )
    rate_seconds: RateSeconds | None = Field(
        default=None, description="The time that rate_max is for; if not set, one second.", examples=[60]
    )
    limits: list[Name] | None = Field(
        default=None,
        description="Names of [limits.NAME] that hold for this kind beside those of its queue.",
        examples=[["recipient-domain"]],
    )

    @property
    def rate(self) -> Rate | None:
        return rate_of(self.rate_max, self.rate_seconds)

    def applied_to(self, retry: Backoff) -> Backoff:
        """``retry``, which a plugin or a queue gives, with what is set here in its place."""
        changes: dict[str, Any] = {} if self.backoff is None else dict(_SHAPES[self.backoff])
        if self.backoff_seconds is not None:
            changes |= _waits(self.backoff_seconds)
        if self.attempts is not None:
            changes["attempts"] = self.attempts
        if self.jitter is not None:
            changes["jitter"] = self.jitter
        return self._within_longest(retry, changes)

    def _within_longest(self, retry: Backoff, changes: dict[str, Any]) -> Backoff:
        """A limit that is set here shortens the waits; one that is not gives way to waits that are set here."""
        waits: list[timedelta] = [changes.get("first", retry.first), *changes.get("later", retry.later)]
        if self.backoff_longest_seconds is None:
            longest = max(retry.longest, *waits)
        else:
            longest = timedelta(seconds=self.backoff_longest_seconds)
        first, *later = (min(wait, longest) for wait in waits)
        return replace(retry, **changes | {"first": first, "later": tuple(later), "longest": longest})

    @model_validator(mode="after")
    def _rate_is_whole(self) -> Self:
        if self.rate_seconds is not None and self.rate_max is None:
            raise ValueError("has rate_seconds and no rate_max; give both")
        return self


def _waits(waits: Waits) -> dict[str, Any]:
    first, *later = waits if isinstance(waits, list) else [waits]
    return {"first": timedelta(seconds=first), "later": tuple(timedelta(seconds=wait) for wait in later)}
