"""What the API describes of the lists and actions of admins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from skycap.http.admin_documents import (
    AlarmsDocument,
    AuditDocument,
    BreakersDocument,
    BreakerStanding,
    ChangedLetters,
    DeletedDocument,
    JobPage,
    KindStanding,
    PluginsDocument,
    QueuesDocument,
    QueueStanding,
    SchedulesDocument,
    ScheduleStanding,
)
from skycap.http.audit_list import AuditFilter
from skycap.http.dead import DeadChoice
from skycap.http.documents import StateDocument
from skycap.http.errors import INVALID_REQUEST, NOT_FOUND, UNFORESEEN, WRONG_STATE, ErrorType
from skycap.http.job_list import DeadFilter, JobFilter
from skycap.http.job_operations import JOB_ID
from skycap.http.operation import WITH_BODY, WITH_REDIS, Operation, path_parameter, query_parameters
from skycap.http.questions import ForSomeTime
from skycap.http.scopes import Scope

_QUEUE = path_parameter("queue", "The queue's name.")
_KIND = path_parameter("kind", "The kind, or one of its earlier names.")
_SCHEDULE = path_parameter("schedule", "The schedule's name.")
_BREAKER = path_parameter("breaker", "The breaker's name.")


def _list(
    path: str,
    name: str,
    summary: str,
    answer: type[BaseModel],
    *,
    scope: Scope = Scope.READ,
    filters: type[BaseModel] | None = None,
    of: Mapping[str, Any] | None = None,
) -> Operation:
    return Operation(
        method="get",
        path=path,
        name=name,
        summary=summary,
        scopes=(scope,),
        parameters=(*((of,) if of else ()), *(query_parameters(filters) if filters else ())),
        answers={200: ("As it stands.", answer)},
        errors=(*((NOT_FOUND,) if of else ()), *((INVALID_REQUEST,) if filters else ()), *WITH_REDIS),
    )


def _action(
    path: str,
    name: str,
    summary: str,
    answer: type[BaseModel],
    *,
    of: Mapping[str, Any] | None = None,
    body: type[BaseModel] | None = None,
    needs_body: bool = False,
    errors: tuple[ErrorType, ...] = (),
    status: int = 200,
) -> Operation:
    return Operation(
        method="post",
        path=path,
        name=name,
        summary=summary,
        scopes=(Scope.ADMIN,),
        parameters=(of,) if of else (),
        body=body,
        needs_body=needs_body,
        answers={status: ("How it stands then.", answer)},
        errors=(NOT_FOUND, *errors, *WITH_BODY, *WITH_REDIS),
    )


_LISTS = (
    _list("/api/queues", "listQueues", "List the queues", QueuesDocument),
    _list("/api/queues/{queue}", "getQueue", "Look at a queue", QueueStanding, of=_QUEUE),
    _list("/api/jobs", "listJobs", "List jobs by what they are", JobPage, filters=JobFilter),
    _list("/api/dead", "listDeadLetters", "List dead letters, newest first", JobPage, filters=DeadFilter),
    _list("/api/schedules", "listSchedules", "List the schedules", SchedulesDocument),
    _list("/api/schedules/{schedule}", "getSchedule", "Look at a schedule", ScheduleStanding, of=_SCHEDULE),
    _list("/api/breakers", "listBreakers", "List the partners' breakers", BreakersDocument),
    _list("/api/alarms", "listAlarms", "List what is wrong", AlarmsDocument),
    _list("/api/plugins", "listPlugins", "List the plugins", PluginsDocument),
    _list(
        *("/api/audit", "listActions", "List who did what, newest first", AuditDocument),
        scope=Scope.ADMIN,
        filters=AuditFilter,
    ),
)

_ON_JOBS = (
    _action(
        *("/api/jobs/{id}/cancel", "cancelJob", "Cancel a job; one that runs is told at its next heartbeat"),
        StateDocument,
        of=JOB_ID,
        errors=(WRONG_STATE,),
    ),
    _action(
        *("/api/jobs/{id}/retry", "retryJob", "Let a discarded job start over, or one that waits run now"),
        StateDocument,
        of=JOB_ID,
        errors=(WRONG_STATE,),
    ),
    _action(
        *("/api/jobs/{id}/redrive", "redriveJob", "Let a dead letter start over", StateDocument),
        of=JOB_ID,
        errors=(WRONG_STATE,),
    ),
    _action(
        *("/api/jobs/{id}/discard", "discardJob", "Delete a dead letter for good", DeletedDocument),
        of=JOB_ID,
        errors=(WRONG_STATE,),
    ),
    _action(
        *("/api/dead/redrive", "redrive", "Let one dead letter start over, or all that fit", ChangedLetters),
        body=DeadChoice,
        needs_body=True,
        errors=(WRONG_STATE, UNFORESEEN),
    ),
    _action(
        *("/api/dead/discard", "discard", "Delete one dead letter for good, or all that fit", ChangedLetters),
        body=DeadChoice,
        needs_body=True,
        errors=(WRONG_STATE, UNFORESEEN),
    ),
)

_ON_THE_FLEET = (
    _action(
        *("/api/queues/{queue}/pause", "pauseQueue", "Let no worker take a job of a queue; running ones end"),
        QueueStanding,
        of=_QUEUE,
    ),
    _action(
        *("/api/queues/{queue}/resume", "resumeQueue", "Let workers take jobs of a queue again", QueueStanding),
        of=_QUEUE,
    ),
    _action(
        *("/api/kinds/{kind}/pause", "pauseKind", "Let no job of a kind start", KindStanding),
        of=_KIND,
        body=ForSomeTime,
    ),
    _action(
        *("/api/kinds/{kind}/resume", "resumeKind", "Let jobs of a kind start again", KindStanding),
        of=_KIND,
    ),
    _action(
        *("/api/schedules/{schedule}/pause", "pauseSchedule", "Let no tick become a job", ScheduleStanding),
        of=_SCHEDULE,
        body=ForSomeTime,
    ),
    _action(
        *("/api/schedules/{schedule}/resume", "resumeSchedule", "Let ticks become jobs again", ScheduleStanding),
        of=_SCHEDULE,
    ),
    _action(
        *("/api/schedules/{schedule}/run", "runSchedule", "Enqueue its job now; each call enqueues one"),
        ScheduleStanding,
        of=_SCHEDULE,
        status=202,
    ),
    _action(
        *("/api/breakers/{breaker}/open", "openBreaker", "Let no call to the partner pass", BreakerStanding),
        of=_BREAKER,
        body=ForSomeTime,
    ),
    _action(
        *("/api/breakers/{breaker}/close", "closeBreaker", "Let all calls pass until it is reset", BreakerStanding),
        of=_BREAKER,
    ),
    _action(
        *("/api/breakers/{breaker}/reset", "resetBreaker", "Let a breaker open and close by itself", BreakerStanding),
        of=_BREAKER,
    ),
)

ADMIN_OPERATIONS = (*_LISTS, *_ON_JOBS, *_ON_THE_FLEET)
ADMIN_QUESTIONS: tuple[type[BaseModel], ...] = (DeadChoice, ForSomeTime)
