"""What the API describes of enqueueing jobs and looking at one."""

from __future__ import annotations

from skycap.http.documents import Batch, BatchAnswer, EnqueuedDocument, JobDocument, KindsDocument
from skycap.http.errors import (
    BAD_HEADER,
    BUSY,
    INVALID_PAYLOAD,
    KEY_REUSED,
    NEWER_PAYLOAD,
    NOT_FOUND,
    OUT_OF_MEMORY,
    QUEUE_FULL,
    UNKNOWN_KIND,
)
from skycap.http.operation import WITH_BODY, WITH_REDIS, Operation, path_parameter
from skycap.http.scopes import Scope
from skycap.request_document import RequestDocument

_ENQUEUEING = (
    *(BAD_HEADER, INVALID_PAYLOAD, UNKNOWN_KIND, NEWER_PAYLOAD, KEY_REUSED, QUEUE_FULL, OUT_OF_MEMORY),
    *WITH_BODY,
    *WITH_REDIS,
)
JOB_ID = path_parameter("id", "The job's id.", pattern="^[A-Za-z0-9._:-]{1,200}$")
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": "^[!#-~][!-~]{0,199}$"},
    "description": "The same request with the same key is answered as the first time, for 24 hours.",
}
_ETAG = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "The ETag of the list that the caller has. Anything else is ignored.",
}
_LAST_EVENT = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "The id of the last event that the caller heard of: those since come first. Else it is ignored.",
}


JOB_OPERATIONS = (
    Operation(
        method="post",
        path="/api/jobs",
        name="enqueue",
        summary="Enqueue a job",
        scopes=(Scope.ENQUEUE,),
        body=RequestDocument,
        parameters=(_KEY,),
        answers={
            202: ("Accepted: the job is stored, and runs when it is its turn.", EnqueuedDocument),
            200: ("The job was there already.", EnqueuedDocument),
        },
        errors=_ENQUEUEING,
    ),
    Operation(
        method="post",
        path="/api/jobs/batch",
        name="enqueueBatch",
        summary="Enqueue up to 1,000 jobs, all or none",
        scopes=(Scope.ENQUEUE,),
        body=Batch,
        parameters=(_KEY,),
        answers={
            202: ("Accepted: all jobs are stored.", BatchAnswer),
            200: ("All of the jobs were there already.", BatchAnswer),
        },
        errors=_ENQUEUEING,
    ),
    Operation(
        method="get",
        path="/api/jobs/{id}",
        name="getJob",
        summary="Look at a job",
        scopes=(Scope.READ,),
        parameters=(JOB_ID,),
        answers={200: ("The job as it stands.", JobDocument)},
        errors=(NOT_FOUND, *WITH_REDIS),
    ),
    Operation(
        method="get",
        path="/api/jobs/{id}/events",
        name="followJob",
        summary="Follow a job until it has ended",
        scopes=(Scope.READ,),
        parameters=(JOB_ID, _LAST_EVENT),
        answers={
            200: (
                (
                    "Server-sent events: first the state that the job is in, then each state that it comes to, and "
                    "`progress`. The stream ends with the job. An event may come twice."
                ),
                None,
            )
        },
        errors=(NOT_FOUND, BUSY, *WITH_REDIS),
        streams=True,
    ),
    Operation(
        method="get",
        path="/api/kinds",
        name="listKinds",
        summary="List what can be enqueued, with the JSON Schema of each payload",
        scopes=(Scope.ENQUEUE, Scope.READ),
        parameters=(_ETAG,),
        answers={200: ("The kinds.", KindsDocument), 304: ("The caller has this list.", None)},
    ),
)
