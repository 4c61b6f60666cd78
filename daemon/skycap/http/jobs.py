"""``/api/jobs``: enqueue jobs, and look at one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from skycap.engine.adding import add_all
from skycap.engine.queue import NewJob, Queue
from skycap.errors import InvalidPayload, Refused
from skycap.http.access import CALLER, needs
from skycap.http.answers import json_answer
from skycap.http.bodies import Bodies, Bounds, wait_for_body
from skycap.http.errors import INVALID_REQUEST, ApiError, api_error
from skycap.http.idempotency import IdempotencyKey, idempotency_key
from skycap.http.job_document import enqueued_document, job_document
from skycap.http.job_search import find_job
from skycap.http.joining import Joiner
from skycap.http.scopes import Scope
from skycap.http.traces import CARRIED
from skycap.intake import Intake
from skycap.job import Enqueued
from skycap.payload import LARGEST_BYTES
from skycap.request import Request
from skycap.request_document import RequestDocument

MOST_JOBS = 1000
"""In one batch."""

_SLACK_BYTES = 64 * 1024
"""What a request may have beyond the job that it makes: escapes, white space, options."""
_BATCH_BYTES = 24 * 1024 * 1024
_JOB_VALUES = 10_000
_BATCH_VALUES = 200_000
_JOBS_PER_TURN = 50


class JobsRoutes:
    """What becomes of a request is known when it is answered: the job is in Redis, or nothing is."""

    def __init__(
        self, intake: Intake, queues: Mapping[str, Queue], bodies: Bodies, *, largest_job_bytes: int = LARGEST_BYTES
    ) -> None:
        """``largest_job_bytes``: the most that any kind allows."""
        self._intake = intake
        self._queues = queues
        self._bodies = bodies
        self._joiners = {name: Joiner(queue) for name, queue in queues.items()}
        self._job_bounds = Bounds(largest_bytes=largest_job_bytes + _SLACK_BYTES, most_values=_JOB_VALUES)
        self._batch_bounds = Bounds(largest_bytes=_BATCH_BYTES, most_values=_BATCH_VALUES)

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_post("/api/jobs", self.enqueue, expect_handler=wait_for_body)
        router.add_post("/api/jobs/batch", self.enqueue_batch, expect_handler=wait_for_body)
        router.add_get("/api/jobs/{id}", self.show)

    @needs(Scope.ENQUEUE)
    async def enqueue(self, request: web.Request) -> web.Response:
        """202 for a new job, 200 when the request was there before."""
        document = await self._bodies.json_object(request, self._job_bounds)
        key = idempotency_key(request, request[CALLER].name, document)
        carried = request[CARRIED]
        job = self._job(document, key, datetime.now(UTC), carried)
        added = await self._joiners[job.envelope.queue].add(job)
        return json_answer(
            enqueued_document(added),
            status=200 if added.duplicate else 202,
            headers={"Location": f"/api/jobs/{added.job_id}"},
        )

    @needs(Scope.ENQUEUE)
    async def enqueue_batch(self, request: web.Request) -> web.Response:
        """All or none; the answers are in the order of the jobs."""
        document = await self._bodies.json_object(request, self._batch_bounds)
        members = _members(document)
        key = idempotency_key(request, request[CALLER].name, document)
        carried = request[CARRIED]
        added = await self._add_batch(await self._jobs(members, key, carried))
        duplicates = all(enqueued.duplicate for enqueued in added)
        documents = [enqueued_document(enqueued) for enqueued in added]
        return json_answer({"jobs": documents}, status=200 if duplicates else 202)

    @needs(Scope.READ)
    async def show(self, request: web.Request) -> web.Response:
        _, job = await find_job(self._queues, request.match_info["id"])
        with_payload = request[CALLER].may(Scope.ADMIN)
        return json_answer(job_document(job, with_payload=with_payload))

    def _job(
        self,
        document: Mapping[str, Any],
        key: IdempotencyKey | None,
        now: datetime,
        carried: Mapping[str, str],
        place: int | None = None,
    ) -> NewJob:
        try:
            request = _read(document)
            if "traceparent" not in request.labels:
                request.labels = {**request.labels, **carried}
            return self._intake.job_of(request, enqueued_at=now, repeat=key.repeat(place) if key else None)
        except InvalidPayload as error:
            problems = [_in_payload(problem) for problem in error.problems]
            raise api_error(InvalidPayload(error.kind, problems)) from None

    async def _jobs(
        self, members: list[Mapping[str, Any]], key: IdempotencyKey | None, carried: Mapping[str, str]
    ) -> list[NewJob]:
        jobs: list[NewJob] = []
        now = datetime.now(UTC)
        for place, member in enumerate(members):
            if place % _JOBS_PER_TURN == _JOBS_PER_TURN - 1:
                await asyncio.sleep(0)  # others are served in between
            try:
                jobs.append(self._job(member, key, now, carried, place))
            except Refused as error:
                raise _at(place, api_error(error)) from None
            except ApiError as error:
                raise _at(place, error) from None
        return jobs

    async def _add_batch(self, jobs: list[NewJob]) -> list[Enqueued]:
        by_queue: dict[Queue, list[NewJob]] = {}
        places: list[tuple[str, int]] = []
        for job in jobs:
            of_queue = by_queue.setdefault(self._queues[job.envelope.queue], [])
            places.append((job.envelope.queue, len(of_queue)))
            of_queue.append(job)
        added = await add_all(by_queue)
        return [added[queue][place] for queue, place in places]


def _read(document: Mapping[str, Any]) -> Request:
    try:
        return RequestDocument.read(document).request()
    except InvalidPayload as error:
        raise ApiError(INVALID_REQUEST, "; ".join(error.problems), problems=error.problems) from None
    except Refused as error:
        raise ApiError(INVALID_REQUEST, str(error)) from None


def _members(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if len(document) != 1 or not isinstance(document.get("jobs"), list):
        raise ApiError(INVALID_REQUEST, 'a batch is {"jobs": [REQUEST, …]} and nothing else')
    found: list[Any] = document["jobs"]
    if not 1 <= len(found) <= MOST_JOBS:
        raise ApiError(INVALID_REQUEST, f"jobs: a batch has 1 to {MOST_JOBS:,} jobs, this one {len(found):,}")
    for place, member in enumerate(found):
        if not isinstance(member, dict):
            raise ApiError(INVALID_REQUEST, f"jobs.{place}: must be an object")
    return found


def _at(place: int, error: ApiError) -> ApiError:
    if not error.problems:
        return ApiError(error.error_type, f"jobs.{place}: {error.message}", headers=error.headers)
    problems = [_placed(place, problem) for problem in error.problems]
    return ApiError(error.error_type, "; ".join(problems), headers=error.headers, problems=problems)


def _placed(place: int, problem: str) -> str:
    of_whole = problem.removeprefix("request: ")
    return f"jobs.{place}.{problem}" if of_whole == problem else f"jobs.{place}: {of_whole}"


def _in_payload(problem: str) -> str:
    return problem if problem.startswith("payload: ") else f"payload.{problem}"
