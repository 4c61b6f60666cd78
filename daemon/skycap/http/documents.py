"""The documents of the API as models: what its OpenAPI description says of them. Answers are made without them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from skycap.job import JobState
from skycap.request_document import RequestDocument

_ANSWER = ConfigDict(alias_generator=to_camel, extra="forbid")


class Batch(BaseModel):
    """Jobs to enqueue, all or none."""

    model_config = _ANSWER

    jobs: list[RequestDocument] = Field(min_length=1, max_length=1000)


class EnqueuedDocument(BaseModel):
    """What became of a request."""

    model_config = _ANSWER

    job_id: str
    state: JobState
    duplicate: bool = Field(description="Whether the job was there already, and nothing was added.")


class BatchAnswer(BaseModel):
    """What became of each, in the order of the batch."""

    model_config = _ANSWER

    jobs: list[EnqueuedDocument]


class StateDocument(BaseModel):
    """Where a job stands after it was changed."""

    model_config = _ANSWER

    job_id: str
    state: JobState


class ProgressDocument(BaseModel):
    """How far a running job has come."""

    model_config = _ANSWER

    fraction: float
    note: str
    at: AwareDatetime


class LogLineDocument(BaseModel):
    """One line that the handler wrote."""

    model_config = _ANSWER

    number: int
    at: AwareDatetime
    text: str


class AttemptErrorDocument(BaseModel):
    """Why one attempt failed."""

    model_config = _ANSWER

    attempt: int
    at: AwareDatetime
    error: str


class JobDocument(BaseModel):
    """One job. What is not so (yet) is null."""

    model_config = _ANSWER

    id: str
    kind: str
    queue: str
    state: JobState
    attempt: int = Field(description="How many attempts have begun.")
    priority: int
    enqueued_at: AwareDatetime
    due_at: AwareDatetime | None = Field(description="When a scheduled or retryable job runs.")
    started_at: AwareDatetime | None
    finished_at: AwareDatetime | None
    deadline: AwareDatetime | None
    tags: list[str]
    waits_at: str | None = Field(description="The limit at which it waits until others have passed.")
    progress: ProgressDocument | None
    log: list[LogLineDocument]
    errors: list[AttemptErrorDocument]
    reason: str | None = Field(description="Why it was cancelled or discarded, or waits.")
    result: Any = Field(description="What its handler returned.")
    payload: dict[str, Any] = Field(default={}, description="Only for callers with the scope admin.")


class KindDocument(BaseModel):
    """What can be enqueued."""

    model_config = ConfigDict(alias_generator=to_camel, extra="allow")

    kind: str
    queue: str
    priority: int
    version: int
    plugin: str
    largest_bytes: int
    payload_schema: dict[str, Any] = Field(alias="schema", description="Its payload, as JSON Schema.")


class KindsDocument(BaseModel):
    """All kinds that the daemon's plugins handle."""

    model_config = _ANSWER

    kinds: list[KindDocument]


class DetailDocument(BaseModel):
    """One field that is wrong."""

    model_config = _ANSWER

    field: str
    message: str


class ErrorDocument(BaseModel):
    """Why a request was not granted. ``code`` is for programs, ``message`` for people."""

    model_config = _ANSWER

    success: Literal[False]
    error: str
    message: str
    status_code: int
    code: str
    timestamp: AwareDatetime
    path: str
    request_id: str
    details: list[DetailDocument] = Field(default=[], description="In development only.")


class ProblemDocument(BaseModel):
    """The same as RFC 9457 has it, for whoever accepts application/problem+json."""

    model_config = _ANSWER

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    details: list[DetailDocument] = Field(default=[], description="In development only.")


ANSWERS: tuple[type[BaseModel], ...] = (
    EnqueuedDocument,
    BatchAnswer,
    StateDocument,
    JobDocument,
    KindsDocument,
    ErrorDocument,
    ProblemDocument,
)
QUESTIONS: tuple[type[BaseModel], ...] = (RequestDocument, Batch)
