"""``/api/jobs`` and ``/api/dead``: jobs by what they are, a page at a time."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from aiohttp import web
from pydantic import BaseModel, Field, StringConstraints

from skycap.engine.pages import Place, page
from skycap.engine.queue import Queue
from skycap.engine.search import Search
from skycap.http.access import CALLER, needs
from skycap.http.answers import json_answer
from skycap.http.job_document import job_document
from skycap.http.questions import PARAMETERS, invalid, parameters_of
from skycap.http.scopes import Scope
from skycap.job import JobState
from skycap.outcome import DeadReason
from skycap.request_document import Kind, ShortText

MOST_ON_A_PAGE = 200


class _Parameters(BaseModel):
    model_config = PARAMETERS

    queue: ShortText | None = Field(default=None, description="Only of this queue.")
    kind: Kind | None = Field(default=None, description="Only of this kind.")
    tag: ShortText | None = Field(default=None, description="Only with this tag.")
    limit: Annotated[int, Field(ge=1, le=MOST_ON_A_PAGE)] = Field(default=50, description="At most so many.")
    cursor: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,1500}$")] | None = Field(
        default=None, description="The `next` of the page before, asked for with the same filters."
    )


class JobFilter(_Parameters):
    """Which jobs."""

    state: JobState | None = Field(default=None, description="Only in this state.")


class DeadFilter(_Parameters):
    """Which dead letters."""

    reason: DeadReason | None = Field(default=None, description="Only those given up for this.")


class JobListRoutes:
    """Waiting jobs in the order in which they will run, those that have ended newest first; queue by queue."""

    def __init__(self, queues: Mapping[str, Queue]) -> None:
        self._queues = queues

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/api/jobs", self.jobs)
        router.add_get("/api/dead", self.dead)

    @needs(Scope.READ)
    async def jobs(self, request: web.Request) -> web.Response:
        asked = parameters_of(request, JobFilter)
        states = list(JobState) if asked.state is None else [asked.state]
        return await self._answer(request, asked, Search(kind=asked.kind, tag=asked.tag), states)

    @needs(Scope.READ)
    async def dead(self, request: web.Request) -> web.Response:
        asked = parameters_of(request, DeadFilter)
        search = Search(kind=asked.kind, tag=asked.tag, reason=asked.reason)
        return await self._answer(request, asked, search, [JobState.DISCARDED])

    async def _answer(
        self, request: web.Request, asked: _Parameters, search: Search, states: Sequence[JobState]
    ) -> web.Response:
        queues = chosen(self._queues, asked.queue)
        after = None if asked.cursor is None else _place_of(asked.cursor, queues, states)
        found = await page(search, queues, states, limit=asked.limit, after=after)
        with_payload = request[CALLER].may(Scope.ADMIN)
        return json_answer(
            {
                "jobs": [job_document(job, with_payload=with_payload) for job in found.jobs],
                "next": None if found.ended_at is None else _cursor_of(found.ended_at),
            },
        )


def chosen(queues: Mapping[str, Queue], name: str | None) -> list[Queue]:
    """The queue of this name, or all. Raises ApiError when there is none of this name."""
    if name is None:
        return list(queues.values())
    if name not in queues:
        raise invalid(f"queue: there is none of this name; give one of {', '.join(queues)}")
    return [queues[name]]


def _cursor_of(place: Place) -> str:
    document = [place.queue, place.state, place.gate, place.score, place.job_id]
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")


def _place_of(cursor: str, queues: Sequence[Queue], states: Sequence[JobState]) -> Place:
    place = _decoded(cursor)
    if place is None or place.queue not in {queue.name for queue in queues} or place.state not in states:
        raise invalid("cursor: is none of this list; give the `next` of the page before, with the same filters")
    return place


def _decoded(cursor: str) -> Place | None:
    """None for what no page has ended at: anybody can send anything."""
    try:
        document: Any = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        queue, state, gate, score, job_id = document
        place = Place(queue=str(queue), state=JobState(state), gate=str(gate), score=float(score), job_id=str(job_id))
    except (ValueError, TypeError, OverflowError):
        return None
    return place if math.isfinite(place.score) else None
