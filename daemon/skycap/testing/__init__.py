"""For authors of plugins: run one attempt of a job as the daemon would, without any server.

from skycap.testing import perform

async def test_a_greeting_is_mailed_to_the_user():
    done = await perform(send_welcome_email, WelcomeEmail(user_email="ada@example.com", user_name="Ada"))
    assert done.state is JobState.COMPLETED
    assert done.mails[0].template == "welcome/greeting"
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast

import structlog

from skycap.backoff import Backoff
from skycap.cache import Cache
from skycap.client import BaseClient
from skycap.context import MAIL_MAX_AGE, Attachment, Database, Log, Mailer, OnUnknown, QueueCounts, RunningJob
from skycap.envelope import Envelope
from skycap.http_client import HttpClient
from skycap.job import Enqueued, JobState
from skycap.job_type import JobType
from skycap.outcome import Cancelled, Completed, Discarded, HandedBack, Held, Outcome, Retry, Snoozed, Stopped
from skycap.payload import Payload
from skycap.testing.stand_ins import ClosedBreakers, KeptForOneAttempt
from skycap.worker.threads import refuse_to_wait, runnable
from skycap.worker.verdict import Policy, verdict

P = TypeVar("P", bound=Payload)

_QUEUE_DEFAULT = Backoff(first=timedelta(seconds=5), factor=2, attempts=3)
_STATE_AFTER: dict[type[Outcome], JobState] = {
    Completed: JobState.COMPLETED,
    Cancelled: JobState.CANCELLED,
    Discarded: JobState.DISCARDED,
    Retry: JobState.RETRYABLE,
    Snoozed: JobState.SCHEDULED,
    Stopped: JobState.SCHEDULED,
    Held: JobState.AVAILABLE,
    HandedBack: JobState.AVAILABLE,
}


@dataclass(frozen=True, kw_only=True)
class Mail:
    """One mail that the handler asked for; ``template`` is "" for one that was sent as somebody had written it.

    ``variables`` are then its ``subject``, ``html`` and ``text``.
    """

    to: str
    template: str
    message_id: str
    key: str | None
    locale: str | None
    on_unknown: OnUnknown
    variables: dict[str, object]
    max_age: timedelta = MAIL_MAX_AGE
    unsubscribe: Mapping[str, str] | None = None
    attachments: tuple[Attachment, ...] = ()
    repeat_after: timedelta | None = None


@dataclass(frozen=True, kw_only=True)
class Performed:
    """What one attempt did: the state the job would be in, and everything the handler asked for."""

    outcome: Outcome
    mails: list[Mail] = field(default_factory=list[Mail])
    enqueued: list[Payload] = field(default_factory=list[Payload])
    progress: list[float] = field(default_factory=list[float])
    notes: list[str] = field(default_factory=list[str])

    @property
    def state(self) -> JobState:
        return _STATE_AFTER[type(self.outcome)]

    @property
    def result(self) -> Any:
        """What the handler returned; None when it did not complete."""
        return self.outcome.result if isinstance(self.outcome, Completed) else None


async def perform(
    job_type: JobType[P],
    payload: P,
    *,
    settings: object = None,
    db: Database | None = None,
    mailer: Mailer | None = None,
    http: HttpClient | None = None,
    cache: Cache | None = None,
    attempt: int = 1,
    snoozes: int = 0,
    now: datetime | None = None,
) -> Performed:
    """One attempt of ``job_type`` with ``payload``, which travels through its JSON form as it would in production.

    ``db`` is anything with asyncpg's words (a stand-in that returns rows); a handler that asks for a database without
    one fails the test. ``mailer`` takes the mails instead of ``Performed.mails``, ``http`` answers for partners.
    Breakers are closed, and the cache is empty unless it is ``cache``. Raises nothing that the handler raises: that is
    the outcome.
    """
    if not isinstance(payload, job_type.payload):
        raise TypeError(f"{job_type.kind} takes {job_type.payload.__name__}, not {type(payload).__name__}")
    travelled = Envelope.from_json(BaseClient().envelope(payload).to_json())
    policy = Policy(backoff=job_type.backoff or _QUEUE_DEFAULT, timeout=job_type.timeout or timedelta(minutes=5))
    job = RunningJob(
        id=travelled.id,
        kind=travelled.kind,
        queue=travelled.queue,
        attempt=attempt,
        max_attempts=policy.backoff.attempts,
        enqueued_at=now or travelled.enqueued_at,
    )
    context = _TestContext(
        job,
        job_type.plugin,
        settings=settings,
        db=db,
        mailer=mailer,
        http=http,
        cache=cache,
        now=now or datetime.now(UTC),
    )
    error: BaseException | None = None
    result: Any = None
    try:
        with ThreadPoolExecutor(max_workers=1) as threads:  # it starts one only for a handler that is not async
            handler = runnable(job_type.handler, threads)
            result = await handler(context, job_type.payload.model_validate(travelled.payload))
    except AssertionError:
        raise  # the test's own, from a stand-in that it gave
    except BaseException as raised:  # noqa: BLE001 - signals are no Exceptions; the verdict is about all of them
        error = raised
    outcome = verdict(error, result, attempt=attempt, snoozes=snoozes, policy=policy)
    if isinstance(outcome, Completed):
        outcome = Completed(result=json.loads(json.dumps(outcome.result)))
    return Performed(
        outcome=outcome,
        mails=context.mails,
        enqueued=context.payloads,
        progress=context.fractions,
        notes=context.notes,
    )


class _TestContext:
    def __init__(
        self,
        job: RunningJob,
        plugin: str,
        *,
        settings: object,
        db: Database | None,
        mailer: Mailer | None,
        http: HttpClient | None,
        cache: Cache | None,
        now: datetime,
    ) -> None:
        self.job = job
        self.settings: Any = settings
        self.log = cast("Log", structlog.get_logger(f"skycap.plugin.{plugin}"))
        self.mails: list[Mail] = []
        self.payloads: list[Payload] = []
        self.fractions: list[float] = []
        self.notes: list[str] = []
        self.cache: Cache = cache or KeptForOneAttempt()
        self.breakers = ClosedBreakers()
        self._db = db
        self._http = http
        self._mailer: Mailer = mailer or _Outbox(self.mails)
        self._now = now

    @property
    def db(self) -> Database:
        if self._db is None:
            raise AssertionError("the handler uses ctx.db: give perform(…, db=…) one")
        return self._db

    @property
    def http(self) -> HttpClient:
        if self._http is None:
            raise AssertionError("the handler uses ctx.http: give perform(…, http=…) one")
        return self._http

    @property
    def mailer(self) -> Mailer:
        return self._mailer

    async def enqueue(
        self,
        payload: Payload,
        *,
        delay: timedelta | None = None,
        at: datetime | None = None,
        job_id: str | None = None,
        **_options: Any,
    ) -> Enqueued:
        self.payloads.append(payload)
        state = JobState.SCHEDULED if delay or (at is not None and at > self._now) else JobState.AVAILABLE
        return Enqueued(job_id=BaseClient().envelope(payload, job_id=job_id).id, state=state, duplicate=False)

    async def queues(self) -> Mapping[str, QueueCounts]:
        return {self.job.queue: QueueCounts(available=0, later=0, running=1, discarded=0, is_paused=False)}

    async def progress(self, fraction: float, _note: str = "", /) -> None:
        if not 0 <= fraction <= 1:
            raise ValueError(f"progress {fraction}: give a fraction from 0 to 1")
        self.fractions.append(fraction)

    async def note(self, line: str, /) -> None:
        self.notes.append(line)

    def run(self, awaitable: Awaitable[Any]) -> Any:
        # A handler without async has a ThreadContext around this one, which runs it.
        refuse_to_wait(awaitable)

    def now(self) -> datetime:
        return self._now


class _Outbox:
    def __init__(self, mails: list[Mail]) -> None:
        self._mails = mails

    async def send(
        self,
        to: str,
        template: str,
        /,
        *,
        key: str | None = None,
        locale: str | None = None,
        on_unknown: OnUnknown = "resend",
        max_age: timedelta = MAIL_MAX_AGE,
        unsubscribe: Mapping[str, str] | None = None,
        attachments: Sequence[Attachment] = (),
        **variables: object,
    ) -> str:
        return self._added(
            Mail(
                to=to,
                template=template,
                message_id=self._message_id,
                key=key,
                locale=locale,
                on_unknown=on_unknown,
                variables=variables,
                max_age=max_age,
                unsubscribe=unsubscribe,
                attachments=tuple(attachments),
            )
        )

    async def send_written(
        self,
        to: str,
        /,
        *,
        subject: str,
        html: str,
        text: str,
        key: str | None = None,
        repeat_after: timedelta | None = None,
        on_unknown: OnUnknown = "resend",
        max_age: timedelta = MAIL_MAX_AGE,
        attachments: Sequence[Attachment] = (),
    ) -> str:
        return self._added(
            Mail(
                to=to,
                template="",
                message_id=self._message_id,
                key=key,
                locale=None,
                on_unknown=on_unknown,
                variables={"subject": subject, "html": html, "text": text},
                max_age=max_age,
                attachments=tuple(attachments),
                repeat_after=repeat_after,
            )
        )

    @property
    def _message_id(self) -> str:
        return f"<test-{len(self._mails) + 1}@example.com>"

    def _added(self, mail: Mail) -> str:
        self._mails.append(mail)
        return mail.message_id
