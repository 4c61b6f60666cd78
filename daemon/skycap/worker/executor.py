"""Executor: one attempt of one job, from the claim to its outcome."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog
from taskiq import TaskiqMessage, TaskiqResult
from taskiq.receiver import Receiver
from taskiq.utils import maybe_awaitable

from skycap import errors, tracing
from skycap.backoff import Backoff
from skycap.context import RunningJob
from skycap.engine.broker import as_taskiq, came_by_taskiq
from skycap.engine.queue import Settlement
from skycap.envelope import Envelope
from skycap.errors import SkycapError, Undecodable, UnknownKind
from skycap.observe.logs import job_fields
from skycap.outcome import (
    Cancelled,
    Completed,
    DeadReason,
    Discarded,
    HandedBack,
    Held,
    Outcome,
    Retry,
    Snoozed,
    Stopped,
)
from skycap.tracing import Span, trace_id
from skycap.worker.attempts import Attempts
from skycap.worker.job_context import JobContext, Services
from skycap.worker.threads import AsyncHandler, runnable
from skycap.worker.trust import Trust, Untrusted
from skycap.worker.verdict import Policy, describe, verdict

if TYPE_CHECKING:
    from skycap.engine.broker import QueueBroker
    from skycap.engine.queue import Claim
    from skycap.job_type import JobType
    from skycap.payload import Payload
    from skycap.registry import Registry

_log = structlog.get_logger("skycap.job")
_stdlib_log = logging.getLogger("skycap.job")

_UNTIL_A_NEWER_WORKER = Backoff(first=timedelta(seconds=5), factor=2, longest=timedelta(minutes=10), attempts=1)
"""A kind that is unknown here may be known to a worker that is being deployed right now."""


class Executor:
    """Runs attempts. Knows nothing of leases: a cancelled attempt raises CancelledError, and why is its caller's."""

    def __init__(
        self,
        *,
        registry: Registry,
        broker: QueueBroker,
        services: Services,
        policy_of: Callable[[JobType], Policy],
        unknown_kind_wait: timedelta,
        threads: int = 32,
        trust: Trust | None = None,
        why_off: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        """``why_off`` says of a kind why none of its jobs is run."""
        self._registry = registry
        self._why_off = why_off
        self._trust = trust or Trust()
        self._broker = broker
        self._services = services
        self._unknown_kind_wait = unknown_kind_wait
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="skycap job")
        self._kinds = {
            job_type.kind: _Kind.of(job_type, policy_of(job_type), self._threads) for job_type in registry.job_types
        }
        self._largest_bytes = registry.largest_job_bytes
        self.attempts = Attempts()
        self._hears_starts, self._hears_ends = registry.has_hook("job_started"), registry.has_hook("job_finished")
        for name, kind in self._kinds.items():
            broker.register_task(kind.handler, task_name=name, queue=kind.job_type.queue)
        # Payloads are validated by their own models; taskiq runs the handler and resolves its dependencies.
        self._receiver = Receiver(broker, validate_params=False, max_async_tasks=1, run_startup=False)

    def close(self) -> None:
        """Let go of the threads that handlers run in; one that runs on ends with its handler."""
        self._threads.shutdown(wait=False)

    async def run(self, claim: Claim) -> Settlement:
        """One attempt of the claimed job; whatever is wrong with it becomes an outcome."""
        try:
            self._check_size(claim.envelope)
            envelope = Envelope.from_json(claim.envelope)
            self._trust.check(envelope.kind, claim.envelope)
            job_type, payload = self._registry.read(envelope)
        except Untrusted as error:
            return _refused(claim, DeadReason.UNTRUSTED, error)
        except Undecodable as error:
            return _refused(claim, DeadReason.UNDECODABLE, error)
        except UnknownKind as error:
            return _settled(claim, self._wait_for_a_newer_worker(claim, error))
        claim.kind = job_type.kind
        kind = self._kinds[job_type.kind]
        why_off = self._why_off(job_type.kind)
        if why_off is not None:
            return Settlement(claim=claim, outcome=Cancelled(reason=why_off), keep=kind.policy.keep_finished)
        outcome = await self._attempt(claim, envelope, kind, payload)
        return Settlement(claim=claim, outcome=outcome, keep=kind.policy.keep(outcome))

    def _check_size(self, envelope: bytes) -> None:
        # A second of the event loop goes into 20 MB of JSON: what nobody could have enqueued is not even read.
        if len(envelope) > self._largest_bytes:
            raise Undecodable(
                f"its {len(envelope):,} bytes are more than the {self._largest_bytes:,} of the largest kind"
            )

    def _wait_for_a_newer_worker(self, claim: Claim, error: UnknownKind) -> Outcome:
        if claim.age >= self._unknown_kind_wait:
            return Discarded(reason=DeadReason.UNKNOWN_KIND, error=describe(error))
        delay = _UNTIL_A_NEWER_WORKER.wait(claim.snoozes + 1)
        _log.warning(
            "job waits for a worker that knows it", job=claim.job_id, problem=describe(error), delay=str(delay)
        )
        return Snoozed(delay=delay, reason=describe(error))

    async def _attempt(self, claim: Claim, envelope: Envelope, kind: _Kind, payload: Payload) -> Outcome:
        policy = kind.policy
        job = RunningJob(
            id=claim.job_id,
            kind=envelope.kind,
            queue=kind.job_type.queue,
            attempt=claim.failures + 1,
            max_attempts=policy.backoff.attempts,
            enqueued_at=claim.enqueued_at,
            tags=envelope.tags,
        )
        # The task of this attempt has a context of its own, so there is nothing to take back afterwards.
        fields = {
            "job": job.id,
            "kind": job.kind,
            "queue": job.queue,
            "attempt": job.attempt,
            "plugin": kind.job_type.plugin,
        }
        trace = trace_id(envelope.labels) if envelope.labels else None
        job_fields.set(fields if trace is None else fields | {"trace": trace})
        if self._hears_starts:
            await self._registry.notify("job_started", job=job)
        seconds = min(kind.timeout_seconds, claim.end_within) if claim.end_within else kind.timeout_seconds
        error, result = None, None
        began = time.monotonic()
        with _span_of(job, envelope) as span:
            with self.attempts.limited_to(seconds, job) as attempt:
                error, result = await self._perform(claim, envelope, job, kind, payload)
            if attempt.is_out_of_time or isinstance(error, _FAILURES):
                span.fail("TimeoutError" if attempt.is_out_of_time else type(error).__name__)
        took = time.monotonic() - began
        if not attempt.is_out_of_time:
            outcome = verdict(error, result, attempt=job.attempt, snoozes=claim.snoozes, policy=policy)
        elif claim.end_within and claim.end_within <= kind.timeout_seconds:
            outcome = Discarded(reason=DeadReason.CANCELLED_BY_DEADLINE, error="its deadline came while it was running")
        else:
            error = TimeoutError()
            outcome = verdict(error, None, attempt=job.attempt, snoozes=claim.snoozes, policy=policy)
        if self._hears_ends:
            duration = timedelta(seconds=took)
            await self._registry.notify("job_finished", job=job, outcome=outcome, duration=duration)
        if came_by_taskiq(envelope):
            await self._broker.answer(job.id, outcome, took)
        _log_outcome(outcome, took, error)
        return outcome

    async def _perform(
        self, claim: Claim, envelope: Envelope, job: RunningJob, kind: _Kind, payload: Payload
    ) -> tuple[BaseException | None, Any]:
        context = JobContext(
            job=job,
            claim=claim,
            plugin=kind.job_type.plugin,
            settings=kind.job_type.settings,
            services=self._services,
            log=kind.log,
        )
        try:
            if kind.takes_no_more and not self._broker.middlewares:
                return None, await kind.handler(context, payload)
            return await self._by_taskiq(claim, envelope, kind, [context, payload])
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return error, None  # nobody cancelled the attempt, but something that its handler waited for
        except BaseException as error:  # noqa: BLE001 - signals are no Exceptions; the verdict is about all of them
            # A middleware or a dependency that failed is this attempt's failure, too: never a reason to lose the job.
            return error, None

    async def _by_taskiq(
        self, claim: Claim, envelope: Envelope, kind: _Kind, arguments: list[Any]
    ) -> tuple[BaseException | None, Any]:
        """Where the handler has dependencies, or somebody listens: taskiq resolves the ones and calls the others."""
        message = await self._before(as_taskiq(envelope, claim.job_id))
        message.args = arguments
        result = await self._receiver.run_task(kind.handler, message)
        if isinstance(result.error, asyncio.CancelledError):
            raise result.error  # taskiq makes a result of it; whoever cancelled this attempt must see it
        await self._after(message, result)
        return result.error, result.return_value

    async def _before(self, message: TaskiqMessage) -> TaskiqMessage:
        for middleware in self._broker.middlewares:
            message = await maybe_awaitable(middleware.pre_execute(message))
        return message

    async def _after(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        for middleware in reversed(self._broker.middlewares):
            await maybe_awaitable(middleware.post_execute(message, result))


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """What does not change between the attempts of a kind."""

    job_type: JobType
    handler: AsyncHandler
    takes_no_more: bool
    """The handler takes the context and the payload, and nothing that taskiq would have to resolve."""
    policy: Policy
    timeout_seconds: float
    log: Any

    @classmethod
    def of(cls, job_type: JobType, policy: Policy, threads: ThreadPoolExecutor) -> _Kind:
        return cls(
            job_type=job_type,
            handler=runnable(job_type.handler, threads),
            takes_no_more=len(inspect.signature(job_type.handler).parameters) == 2,  # noqa: PLR2004 - as said
            policy=policy,
            timeout_seconds=policy.timeout.total_seconds(),
            log=structlog.get_logger(f"skycap.plugin.{job_type.plugin}"),
        )


_FAILURES = (Exception, errors.Retry, errors.Discard)
"""Of an attempt; the other signals are none."""


def _span_of(job: RunningJob, envelope: Envelope) -> AbstractContextManager[Span]:
    """As OpenTelemetry's conventions for messaging have it."""
    if not tracing.is_collected():
        return tracing.UNSEEN  # attributes that nobody reads cost a busy daemon, too
    return tracing.span(
        f"process {job.kind}",
        kind="consumer",
        carried=envelope.labels,
        attributes={
            "messaging.system": "skycap",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": job.queue,
            "messaging.message.id": job.id,
            "skycap.job.kind": job.kind,
            "skycap.job.attempt": job.attempt,
        },
    )


def _refused(claim: Claim, reason: DeadReason, error: SkycapError) -> Settlement:
    _log.error("job discarded", job=claim.job_id, reason=reason.value, error=describe(error))
    return _settled(claim, Discarded(reason=reason, error=describe(error)))


def _settled(claim: Claim, outcome: Outcome) -> Settlement:
    return Settlement(claim=claim, outcome=outcome)


def _log_outcome(outcome: Outcome, seconds: float, error: BaseException | None) -> None:
    if isinstance(outcome, Completed) and not _stdlib_log.isEnabledFor(logging.INFO):
        return  # the usual case of a busy daemon should not pay for a line that nobody reads
    fields: dict[str, Any] = {"duration_ms": round(seconds * 1000, 1)}
    # Only an error that nobody foresaw is worth its traceback.
    unforeseen = isinstance(error, Exception) and not isinstance(error, (SkycapError, TimeoutError))
    traceback = error if unforeseen else None
    match outcome:
        case Completed():
            _log.info("job completed", **fields)
        case Cancelled(reason=reason):
            _log.info("job cancelled", reason=reason, **fields)
        case Snoozed(delay=delay, reason=reason):
            _log.warning("job snoozed", delay_seconds=delay.total_seconds(), reason=reason, **fields)
        case Stopped(reason=reason):
            _log.error("job waits, and so do all of its queue", reason=reason, **fields)
        case Held(delay=delay, reason=reason):
            _log.warning("job and its key held", delay_seconds=delay.total_seconds(), reason=reason, **fields)
        case Retry(delay=delay, error=text):
            seconds = delay.total_seconds()
            _log.warning("job failed, will be retried", delay_seconds=seconds, error=text, exc_info=traceback, **fields)
        case Discarded(reason=why, error=text):
            _log.error("job discarded", reason=why.value, error=text, exc_info=traceback, **fields)
        case HandedBack():
            _log.info("job handed back", **fields)
