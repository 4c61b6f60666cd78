"""``/api/jobs/ID/…``: what an admin does with one job."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from skycap.engine.queue import Queue
from skycap.http.access import needs
from skycap.http.answers import json_answer
from skycap.http.audit import acts
from skycap.http.bodies import Bodies, wait_for_body
from skycap.http.errors import NOT_FOUND, WRONG_STATE, ApiError
from skycap.http.job_search import find_job
from skycap.http.questions import Nothing, body_of
from skycap.http.scopes import Scope
from skycap.job import Job, JobState

_RETRIED = frozenset({JobState.DISCARDED, JobState.SCHEDULED, JobState.RETRYABLE, JobState.AVAILABLE})


class JobActions:
    """Each is refused for a job whose state does not allow it, and then changes nothing."""

    def __init__(self, queues: Mapping[str, Queue], bodies: Bodies) -> None:
        self._queues = queues
        self._bodies = bodies

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_post("/api/jobs/{id}/cancel", self.cancel, expect_handler=wait_for_body)
        router.add_post("/api/jobs/{id}/retry", self.retry, expect_handler=wait_for_body)
        router.add_post("/api/jobs/{id}/redrive", self.redrive, expect_handler=wait_for_body)
        router.add_post("/api/jobs/{id}/discard", self.discard, expect_handler=wait_for_body)

    @needs(Scope.ADMIN)
    @acts("job.cancel", target="id")
    async def cancel(self, request: web.Request) -> web.Response:
        """A running job is told at its next heartbeat, and is answered as running."""
        queue, job = await self._job(request)
        if job.state.is_final:
            raise ApiError(WRONG_STATE, f"the job is {job.state} and cannot be cancelled any more")
        return _answer(job, await queue.cancel(job.id))

    @needs(Scope.ADMIN)
    @acts("job.retry", target="id")
    async def retry(self, request: web.Request) -> web.Response:
        """A discarded job starts over; one that waits for a time or another attempt runs now."""
        queue, job = await self._job(request)
        if job.state not in _RETRIED:
            raise ApiError(
                WRONG_STATE, f"the job is {job.state}; only one that was discarded, or waits, can be retried"
            )
        return _answer(job, await queue.retry(job.id))

    @needs(Scope.ADMIN)
    @acts("job.redrive", target="id")
    async def redrive(self, request: web.Request) -> web.Response:
        """As ``retry``, for dead letters alone."""
        queue, job = await self._job(request)
        if job.state is not JobState.DISCARDED:
            raise ApiError(WRONG_STATE, f"the job is {job.state}; only a dead letter can be redriven")
        return _answer(job, await queue.retry(job.id))

    @needs(Scope.ADMIN)
    @acts("job.discard", target="id")
    async def discard(self, request: web.Request) -> web.Response:
        """Delete a dead letter for good."""
        queue, job = await self._job(request)
        if job.state is not JobState.DISCARDED or not await queue.remove(job.id):
            raise ApiError(WRONG_STATE, f"the job is {job.state}; only a dead letter can be deleted, cancel it first")
        return json_answer({"jobId": job.id, "deleted": True})

    async def _job(self, request: web.Request) -> tuple[Queue, Job]:
        await body_of(request, self._bodies, Nothing)
        return await find_job(self._queues, request.match_info["id"])


def _answer(job: Job, state: JobState | None) -> web.Response:
    if state is None:
        raise ApiError(NOT_FOUND, "the job is forgotten by now")
    return json_answer({"jobId": job.id, "state": state.value})
