"""Limits by name: so many starts in a time, or so many jobs at once, which queues and kinds of jobs refer to."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from datetime import timedelta
from typing import Annotated, Self, TypeAlias

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from skycap.settings.masking import quoted
from skycap.settings.section import MONTH_SECONDS, Section

RateMax: TypeAlias = Annotated[int, Field(ge=1, le=1_000_000)]
RateSeconds: TypeAlias = Annotated[float, Field(ge=0.01, le=MONTH_SECONDS)]
FleetConcurrency: TypeAlias = Annotated[int, Field(ge=1, le=100_000)]

Rate: TypeAlias = tuple[int, timedelta]
"""At most so many starts in any window of that length."""

_PATH = re.compile(r"[a-z][A-Za-z0-9]*(\.[a-z][A-Za-z0-9]*)*")


class KeyLimitSettings(Section):
    """Other figures for the jobs with one value of the key; what is not set is as for all other values."""

    rate_max: RateMax | None = Field(default=None, description="As of the limit.", examples=[20])
    rate_seconds: RateSeconds | None = Field(default=None, description="As of the limit.", examples=[1])
    concurrency: FleetConcurrency | None = Field(default=None, description="As of the limit.", examples=[2])

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.rate_max is None and self.rate_seconds is None and self.concurrency is None:
            raise ValueError("gives no figure; give rate_max, rate_seconds or concurrency")
        return self


class LimitSettings(Section):
    """A limit over all daemons, for the jobs of every queue and kind with its name in limits, counted together."""

    key: str | None = Field(
        default=None,
        description="Which value of the payload it counts by, as it is written on the wire: userEmail, or "
        "guest.address.country. |domain after it takes what is after the @ of a mail address, |lower makes it lower "
        "case. If not set, all jobs are counted as one.",
        examples=["userEmail|domain"],
    )
    rate_max: RateMax | None = Field(
        default=None,
        description="At most so many jobs with the same key start in any time of rate_seconds.",
        examples=[100],
    )
    rate_seconds: RateSeconds = Field(default=1.0, description="The time that rate_max is for.", examples=[1])
    concurrency: FleetConcurrency | None = Field(
        default=None,
        description="At most so many jobs with the same key run at a time.",
        examples=[10],
    )
    keys: dict[str, KeyLimitSettings] = Field(
        default={}, repr=False, description="Other figures for single values of the key."
    )

    @property
    def rate(self) -> Rate | None:
        return rate_of(self.rate_max, self.rate_seconds)

    def for_key(self, value: str) -> LimitSettings:
        """The limit with the figures that hold for one value of the key, and no ``keys``."""
        other = self.keys.get(value)
        figures = {} if other is None else other.model_dump(exclude_none=True)
        return self.model_copy(update={**figures, "keys": {}})

    @field_validator("key")
    @classmethod
    def _expression(cls, expression: str | None) -> str | None:
        if expression is None:
            return None
        path, bar, transform = expression.partition("|")
        if bar and transform not in {"domain", "lower"}:
            raise ValueError(
                f"{quoted(expression)} ends with no transform that there is; write {path}|domain or {path}|lower"
            )
        if not _PATH.fullmatch(path):
            raise ValueError(
                f"{quoted(expression)} leads to no value of a payload; "
                "write it as on the wire, like userEmail or guest.address.country"
            )
        return expression

    @field_validator("keys")
    @classmethod
    def _values_that_occur(cls, keys: dict[str, KeyLimitSettings], info: ValidationInfo) -> dict[str, KeyLimitSettings]:
        if not keys or "key" not in info.data:  # a key that is wrong says so itself
            return keys
        expression: str | None = info.data["key"]
        if expression is None:
            raise ValueError('holds only beside key; give key = "userEmail|domain" or so, or leave keys out')
        _, _, transform = expression.partition("|")
        for value in keys:
            occurs = value.rpartition("@")[2] if transform == "domain" else value
            occurs = occurs.lower() if transform else occurs
            if occurs != value:
                raise ValueError(
                    f"{quoted(value)} never occurs, since |{transform} makes it {quoted(occurs)}; write that"
                )
        return keys

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.rate_max is None and self.concurrency is None:
            raise ValueError("limits nothing; give rate_max, concurrency or both")
        for value, other in self.keys.items():
            if self.rate_max is None and other.rate_max is None and other.rate_seconds is not None:
                raise ValueError(f"keys.{quoted(value)}.rate_seconds is for no rate_max; give that too")
        return self


def rate_of(rate_max: int | None, seconds: float | None) -> Rate | None:
    """None without ``rate_max``; a rate without ``seconds`` is one for each second."""
    return None if rate_max is None else (rate_max, timedelta(seconds=1.0 if seconds is None else seconds))


def unknown_limit(key: tuple[str, ...], limit: str, known: Collection[str]) -> InitErrorDetails:
    """What is wrong with the list of limits at ``key``, as pydantic wants to be told it."""
    near = difflib.get_close_matches(limit, sorted(known), n=1)
    fix = f"did you mean {near[0]}?" if near else f"add a table [limits.{limit}], or take it out of the list"
    problem = PydanticCustomError("value_error", "{problem}", {"problem": f"{quoted(limit)} is no limit; {fix}"})
    return InitErrorDetails(type=problem, loc=key, input=limit)
