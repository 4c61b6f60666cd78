"""The documents of status and history as models, for the API's description; answers are made without them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

_ANSWER = ConfigDict(alias_generator=to_camel, extra="forbid")


class WaitsDocument(BaseModel):
    """How long jobs waited from when they were added, or due, until they started: right to a sixteenth."""

    model_config = _ANSWER

    mean: float | None
    p50: float | None
    p95: float | None
    longest: float | None


class HappenedDocument(BaseModel):
    """How many jobs of the whole fleet."""

    model_config = _ANSWER

    added: int
    started: int
    completed: int
    retried: int
    discarded: int
    cancelled: int
    snoozed: int
    reclaimed: int = Field(description="Taken back from workers that were lost.")
    wait_seconds: WaitsDocument


class MinuteDocument(HappenedDocument):
    """One minute, by the clock of Redis; the last one is not over."""

    at: AwareDatetime


class LatelyDocument(HappenedDocument):
    """The last minutes together, the present one among them."""

    minutes: int


class HistoryDocument(BaseModel):
    """Minute by minute, the oldest first."""

    model_config = _ANSWER

    minutes: int
    queues: dict[str, list[MinuteDocument]]


class SlotsDocument(BaseModel):
    """Jobs that run, of so many at a time."""

    model_config = _ANSWER

    running: int
    concurrency: int


class ServingDocument(SlotsDocument):
    """All daemons that serve a queue, as they said at most 20 s ago."""

    daemons: int


class TotalsDocument(BaseModel):
    """Since Redis has the queue's data."""

    model_config = _ANSWER

    completed: int
    retried: int
    discarded: int


class QueueDocument(BaseModel):
    """A queue, first in the dashboards' words. What Redis did not say in time is null."""

    model_config = _ANSWER

    waiting: int | None
    active: int | None
    delayed: int | None
    failed: int | None = Field(description="In the dead-letter queue.")
    paused: bool | None
    paused_because: str | None
    waiting_at_limits: int | None
    oldest_waiting_seconds: float | None
    totals: TotalsDocument | None
    lately: LatelyDocument | None
    fleet: ServingDocument | None
    worker: SlotsDocument | None = Field(description="Of the daemon that answers.")
    history: list[MinuteDocument] | None = Field(default=None, description="Where `minutes` was asked for.")


class DaemonDocument(BaseModel):
    """One daemon, as it last said it is."""

    model_config = _ANSWER

    id: str
    host: str
    process: int
    version: str
    python: str
    started_at: AwareDatetime
    draining: bool
    memory_bytes: int
    queues: dict[str, SlotsDocument]


class OwnDocument(DaemonDocument):
    """The daemon that answers."""

    uptime_seconds: float


class BreakerDocument(BaseModel):
    """A circuit breaker, of the whole fleet."""

    model_config = _ANSWER

    state: Literal["CLOSED", "OPEN", "HALF_OPEN"]
    failure_rate: float = Field(description="From 0 to 1, of the last five minutes.")
    calls: int
    failed_calls: int
    since: AwareDatetime | None
    tries_again_in_seconds: float | None
    forced: bool


class AlarmDocument(BaseModel):
    """An alarm that fires, or has of late."""

    model_config = _ANSWER

    alarm: str
    state: Literal["pending", "firing", "recovered"]
    rule: str | None
    subject: str | None
    severity: str | None
    value: float | None
    summary: str | None
    since: AwareDatetime
    fired_at: AwareDatetime | None
    recovered_at: AwareDatetime | None


class DependencyDocument(BaseModel):
    """A server that is needed."""

    model_config = _ANSWER

    connected: bool
    response_ms: float | None
    problem: str | None


class StatusDocument(BaseModel):
    """The whole fleet. What Redis did not say within 1.5 s is null."""

    model_config = _ANSWER

    status: Literal["ok", "degraded", "down"] = Field(description="down: no job runs; degraded: worth a look.")
    at: AwareDatetime | None = Field(description="By the clock of Redis.")
    version: str
    worker: OwnDocument
    queues: dict[str, QueueDocument]
    daemons: list[DaemonDocument] | None
    circuit_breakers: dict[str, BreakerDocument] | None
    schedules: list[dict[str, Any]] | None = Field(description="As `skycap schedules list --json` has them.")
    cache: dict[str, Any] = Field(description="As /api/system/cache-stats has it.")
    alarms: list[AlarmDocument] | None
    dependencies: dict[str, DependencyDocument | None] = Field(description="null: this installation has none.")


STATUS_ANSWERS: tuple[type[BaseModel], ...] = (StatusDocument, HistoryDocument)
