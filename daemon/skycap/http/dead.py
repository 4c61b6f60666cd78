"""``/api/dead``: start dead letters over, or delete them; one, or exactly so many as the asker expects."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, TypeAlias

from aiohttp import web
from pydantic import BaseModel, Field, model_validator

from skycap.engine.queue import Queue
from skycap.engine.search import Search
from skycap.http.access import needs
from skycap.http.answers import json_answer
from skycap.http.audit import acts, note_asked
from skycap.http.bodies import Bodies, wait_for_body
from skycap.http.errors import UNFORESEEN, WRONG_STATE, ApiError
from skycap.http.job_list import chosen
from skycap.http.job_search import find_job
from skycap.http.questions import BODY, body_of
from skycap.http.scopes import Scope
from skycap.job import JobState
from skycap.outcome import DeadReason
from skycap.request_document import JobId, Kind, ShortText

MOST_AT_ONCE = 10_000
_IN_FLIGHT = 100

_Letters: TypeAlias = Sequence[tuple[Queue, str]]
_Act: TypeAlias = Callable[[Queue, str], Awaitable[bool]]


class DeadChoice(BaseModel):
    """One dead letter, or all that fit, if these are as many as ``expect`` says."""

    model_config = BODY

    id: JobId | None = Field(default=None, description="This one; or give `expect`.")
    queue: ShortText | None = Field(default=None, description="Only of this queue.")
    kind: Kind | None = Field(default=None, description="Only of this kind.")
    tag: ShortText | None = Field(default=None, description="Only with this tag.")
    reason: Annotated[DeadReason, Field(strict=False)] | None = Field(
        default=None, description="Only those given up for this."
    )
    expect: Annotated[int, Field(ge=0, le=MOST_AT_ONCE)] | None = Field(
        default=None,
        description="How many fit; if it is another number by then, nothing is touched.",
    )

    @model_validator(mode="after")
    def _one_or_counted(self) -> DeadChoice:
        is_filtered = any(value is not None for value in (self.queue, self.kind, self.tag, self.reason, self.expect))
        if self.id is not None and is_filtered:
            raise ValueError("give either id, or expect with queue, kind, tag and reason as you like")
        if self.id is None and self.expect is None:
            raise ValueError("give the id of one dead letter, or with expect how many of them fit")
        return self

    @property
    def search(self) -> Search:
        return Search(kind=self.kind, tag=self.tag, reason=self.reason)


class DeadRoutes:
    """What can be done with dead letters; GET /api/dead lists them."""

    def __init__(self, queues: Mapping[str, Queue], bodies: Bodies) -> None:
        self._queues = queues
        self._bodies = bodies

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_post("/api/dead/redrive", self.redrive, expect_handler=wait_for_body)
        router.add_post("/api/dead/discard", self.discard, expect_handler=wait_for_body)

    @needs(Scope.ADMIN)
    @acts("dead.redrive")
    async def redrive(self, request: web.Request) -> web.Response:
        """They start over, the oldest first, with all their attempts."""
        return await self._change(request, _redriven)

    @needs(Scope.ADMIN)
    @acts("dead.discard")
    async def discard(self, request: web.Request) -> web.Response:
        """They are deleted for good."""
        return await self._change(request, _discarded)

    async def _change(self, request: web.Request, act: _Act) -> web.Response:
        choice = await body_of(request, self._bodies, DeadChoice)
        note_asked(request, target=choice.id or "", **choice.model_dump(mode="json", exclude={"id"}))
        queues = chosen(self._queues, choice.queue)
        letters = await (self._one(choice.id) if choice.id else _expected(choice, queues))
        changed = 0
        for begin in range(0, len(letters), _IN_FLIGHT):
            changed += sum(await asyncio.gather(*(act(*each) for each in letters[begin : begin + _IN_FLIGHT])))
        counts = await asyncio.gather(*(queue.counts() for queue in queues))
        left = {queue.name: count.discarded for queue, count in zip(queues, counts, strict=True)}
        return json_answer({"changed": changed, "left": left})

    async def _one(self, job_id: str) -> _Letters:
        queue, job = await find_job(self._queues, job_id)
        if job.state is not JobState.DISCARDED:
            raise ApiError(WRONG_STATE, f"the job is {job.state}, and no dead letter")
        return [(queue, job_id)]


async def _expected(choice: DeadChoice, queues: Sequence[Queue]) -> _Letters:
    letters = (await choice.search.every(queues, JobState.DISCARDED))[::-1]
    if len(letters) != choice.expect:
        raise ApiError(
            UNFORESEEN,
            f"{len(letters):,} dead letters fit, and not {choice.expect:,}; nothing was touched: look again, and "
            f"expect as many as there are, {MOST_AT_ONCE:,} at most",
        )
    return letters


async def _redriven(queue: Queue, job_id: str) -> bool:
    return await queue.retry(job_id) is not None


async def _discarded(queue: Queue, job_id: str) -> bool:
    return await queue.remove(job_id)
