"""The documents of lists and actions as models, for the API's description."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from skycap.breaker import BreakerState
from skycap.http.documents import JobDocument
from skycap.job import JobState

_ANSWER = ConfigDict(alias_generator=to_camel, extra="forbid")


class HeldDocument(BaseModel):
    """A gate that is shut: of a kind (`kind:KIND`), of a limit, or of a breaker that is open."""

    model_config = _ANSWER

    gate: str
    until: AwareDatetime | None = Field(description="null: until somebody opens it.")


class QueueStanding(BaseModel):
    """One queue as it stands in the whole fleet."""

    model_config = _ANSWER

    queue: str
    available: int = Field(description="Jobs that wait for a worker, those at limits among them.")
    waiting_at_limits: int
    later: int = Field(description="Jobs that wait for a time, or for another attempt.")
    running: int
    discarded: int = Field(description="Dead letters.")
    paused: bool
    paused_because: str | None = Field(description="Why a worker paused it; null when somebody did.")
    oldest_waiting_seconds: float | None
    held: list[HeldDocument]


class QueuesDocument(BaseModel):
    """All queues that this daemon serves."""

    model_config = _ANSWER

    queues: list[QueueStanding]


class JobPage(BaseModel):
    """Some of the jobs that fit. It may be short or empty, and others follow all the same."""

    model_config = _ANSWER

    jobs: list[JobDocument]
    next: str | None = Field(description="The `cursor` of the next page; null when nothing follows.")


class DeletedDocument(BaseModel):
    """A job that is gone for good."""

    model_config = _ANSWER

    job_id: str
    deleted: Literal[True]


class ChangedLetters(BaseModel):
    """What became of dead letters."""

    model_config = _ANSWER

    changed: int
    left: dict[str, int] = Field(description="How many each queue has now.")


class KindStanding(BaseModel):
    """Whether jobs of a kind may start."""

    model_config = _ANSWER

    kind: str
    queue: str
    paused: bool
    paused_until: AwareDatetime | None


class ScheduleStanding(BaseModel):
    """One schedule as it stands. What is not so (yet) is null."""

    model_config = _ANSWER

    schedule: str
    kind: str
    queue: str
    plugin: str | None
    when: str
    crontab: str | None
    every_seconds: float | None
    at: AwareDatetime | None
    zone: str
    jitter_seconds: float
    catch_up: str
    overlap: str
    standing: Literal["on", "paused", "off"]
    paused_until: AwareDatetime | None
    last: AwareDatetime | None = Field(description="Its last tick.")
    outcome: str | None = Field(description="Of the last tick: the state of its job, or why it was none.")
    job_id: str | None
    job_state: JobState | None
    last_run: AwareDatetime | None = Field(description="When somebody last had it run.")
    last_run_job_id: str | None
    last_run_state: JobState | None
    next: AwareDatetime | None = Field(description="When it ticks next, if it is on.")


class SchedulesDocument(BaseModel):
    """All schedules of the fleet."""

    model_config = _ANSWER

    schedules: list[ScheduleStanding]


class BreakerStanding(BaseModel):
    """One breaker as it stands for the whole fleet. Calls are those of the last five minutes."""

    model_config = _ANSWER

    breaker: str
    state: BreakerState
    forced: bool = Field(description="Somebody has opened or closed it by hand.")
    failure_rate: float = Field(description="From 0 to 1.")
    calls: int
    failed_calls: int
    failures_in_a_row: int
    successes_in_a_row: int
    probes: int
    since: AwareDatetime | None
    tries_again_in_seconds: float | None
    opens_after: int
    closes_after: int
    tries_again_after_seconds: float
    timeout_seconds: float


class BreakersDocument(BaseModel):
    """All breakers."""

    model_config = _ANSWER

    breakers: list[BreakerStanding]


class AlarmStanding(BaseModel):
    """One alarm."""

    model_config = _ANSWER

    rule: str
    subject: str | None
    state: Literal["pending", "firing", "recovered"]
    since: AwareDatetime
    fired_at: AwareDatetime | None
    recovered_at: AwareDatetime | None
    told_at: AwareDatetime | None
    value: Any
    summary: str | None


class AlarmsDocument(BaseModel):
    """The alarms that are not simply well."""

    model_config = _ANSWER

    alarms: list[AlarmStanding]


class PluginDocument(BaseModel):
    """One plugin of this daemon."""

    model_config = _ANSWER

    plugin: str
    version: str | None
    origin: str
    kinds: list[str]
    error: str | None = Field(description="Why it is not loaded.")


class PluginsDocument(BaseModel):
    """All plugins of this daemon."""

    model_config = _ANSWER

    plugins: list[PluginDocument]


class AuditedDocument(BaseModel):
    """What somebody did, or was refused."""

    model_config = _ANSWER

    at: AwareDatetime = Field(description="By Redis' clock.")
    who: str = Field(description="A token's name, a user of the system, `local`, or `unknown` without a known token.")
    via: Literal["http", "cli"]
    host: str = Field(description="Where the daemon or the command ran.")
    request_id: str | None
    action: str
    target: str
    asked: dict[str, Any]
    outcome: Literal["done", "refused", "failed"]
    code: str | None = Field(description="Why it was not done: the code of an error, or EXIT_ and an exit code.")


class AuditDocument(BaseModel):
    """The newest actions first."""

    model_config = _ANSWER

    actions: list[AuditedDocument]


ADMIN_ANSWERS: tuple[type[BaseModel], ...] = (
    *(QueueStanding, QueuesDocument, JobPage, DeletedDocument, ChangedLetters, KindStanding),
    *(ScheduleStanding, SchedulesDocument, BreakerStanding, BreakersDocument, AlarmsDocument, PluginsDocument),
    AuditDocument,
)
