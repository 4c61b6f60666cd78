"""The tables of schedules: those of plugins changed, and others added."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import Field, field_serializer, field_validator

from skycap.settings.masking import masked_table, quoted
from skycap.settings.section import DAY_SECONDS, YEAR_SECONDS, Name, Section


class ScheduleSettings(Section):
    """Under the name of a plugin's schedule, each key that is set wins over the plugin. Under another name it is a
    schedule of its own, with kind and one of crontab, every_seconds and at. `skycap schedules list` shows what holds.
    """

    kind: Name | None = Field(
        default=None, description="The kind of job that is enqueued at each tick.", examples=["check-price-alerts"]
    )
    payload: dict[str, Any] | None = Field(
        default=None,
        repr=False,
        description="Its payload, as on the wire; if not set, that of the plugin, or an empty one.",
        examples=[{"dryRun": True}],
    )
    crontab: str | None = Field(
        default=None,
        description="When: minute, hour, day of the month, month, day of the week.",
        examples=["0 */6 * * *"],
    )
    every_seconds: float | None = Field(
        default=None,
        ge=1,
        le=YEAR_SECONDS,
        description="When, instead: so often, counted from 1970-01-01 00:00 UTC.",
        examples=[900],
    )
    at: datetime | None = Field(
        default=None,
        description="When, instead: once, with a zone of its own, or in zone.",
        examples=["2026-12-24T08:00+03:00"],
    )
    zone: str | None = Field(
        default=None,
        description="The IANA time zone in which crontab and at are read; if not set, UTC. A tick in an hour that "
        "summer time skips comes right after it, one in an hour that is repeated only in the first.",
        examples=["Europe/Istanbul"],
    )
    jitter_seconds: float | None = Field(
        default=None,
        ge=0,
        le=DAY_SECONDS,
        description="Each job starts up to so much after its tick, by chance; if not set, at its tick.",
        examples=[300],
    )
    catch_up: Literal["skip", "latest", "all"] | None = Field(
        default=None,
        description="What was missed while no daemon ran: skip = it is not run when it is over a minute late, latest = "
        "one job stands for all, all = each is a job, up to the newest 1,000 of 31 days; if not set, latest.",
        examples=["latest"],
    )
    overlap: Literal["skip", "allow"] | None = Field(
        default=None,
        description="While the job of an earlier tick has not ended, a tick is skipped (skip) or one more job (allow); "
        "if not set, skip.",
        examples=["skip"],
    )
    enabled: bool | None = Field(
        default=None,
        description="Whether the daemons tick it; `skycap schedules run` works also if not. If not set, true.",
        examples=[False],
    )

    @field_validator("at", mode="before")
    @classmethod
    def _moment(cls, at: object) -> object:
        if not isinstance(at, str):
            return at
        try:
            return datetime.fromisoformat(at)
        except ValueError:
            raise ValueError(f"{quoted(at)} is no time; write it as 2026-12-24T08:00+03:00") from None

    @field_serializer("payload")
    def _masked_payload(self, payload: Mapping[str, Any] | None) -> dict[str, Any] | None:
        return None if payload is None else masked_table(payload)
