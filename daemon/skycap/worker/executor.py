"""Executor: one attempt of one job, from the claim to its outcome."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog
from taskiq import TaskiqMessage, TaskiqResult
from taskiq.receiver import Receiver
from taskiq.utils import maybe_awaitable

from skycap.backoff import Backoff
from skycap.context import RunningJob
from skycap.engine.broker import as_taskiq
from skycap.envelope import Envelope
from skycap.errors import SkycapError, Undecodable, UnknownKind
from skycap.outcome import Cancelled, Completed, DeadReason, Discarded, HandedBack, Outcome, Retry, Snoozed
from skycap.worker.job_context import JobContext, Services
from skycap.worker.verdict import Policy, describe, verdict

if TYPE_CHECKING:
    from skycap.engine.broker import QueueBroker
    from skycap.engine.queue import Claim
    from skycap.job_type import JobType
    from skycap.payload import Payload
    from skycap.registry import Registry

_log = structlog.get_logger("skycap.job")

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
    ) -> None:
        self._registry = registry
        self._broker = broker
        self._services = services
        self._policies = {job_type.kind: policy_of(job_type) for job_type in registry.job_types}
        self._unknown_kind_wait = unknown_kind_wait
        for job_type in registry.job_types:
            broker.register_task(job_type.handler, task_name=job_type.kind, queue=job_type.queue)
        # Payloads are validated by their own models; taskiq runs the handler and resolves its dependencies.
        self._receiver = Receiver(broker, validate_params=False, max_async_tasks=1, run_startup=False)

    async def run(self, claim: Claim) -> Outcome:
        """One attempt of the claimed job; whatever is wrong with it becomes an outcome."""
        try:
            envelope = Envelope.from_json(claim.envelope)
            job_type, payload = self._registry.read(envelope)
        except Undecodable as error:
            _log.error("job discarded", job=claim.job_id, reason=DeadReason.UNDECODABLE.value, error=describe(error))
            return Discarded(reason=DeadReason.UNDECODABLE, error=describe(error))
        except UnknownKind as error:
            return self._wait_for_a_newer_worker(claim, error)
        return await self._attempt(claim, envelope, job_type, payload)

    def _wait_for_a_newer_worker(self, claim: Claim, error: UnknownKind) -> Outcome:
        if datetime.now(UTC) - claim.enqueued_at >= self._unknown_kind_wait:
            return Discarded(reason=DeadReason.UNKNOWN_KIND, error=describe(error))
        delay = _UNTIL_A_NEWER_WORKER.wait(claim.snoozes + 1)
        _log.warning("job waits for a worker that knows it", job=claim.job_id, problem=str(error), delay=str(delay))
        return Snoozed(delay=delay, reason=describe(error))

    async def _attempt(self, claim: Claim, envelope: Envelope, job_type: JobType, payload: Payload) -> Outcome:
        policy = self._policies[job_type.kind]
        job = RunningJob(
            id=claim.job_id,
            kind=envelope.kind,
            queue=job_type.queue,
            attempt=claim.failures + 1,
            max_attempts=policy.backoff.attempts,
            enqueued_at=claim.enqueued_at,
        )
        with structlog.contextvars.bound_contextvars(
            job=job.id, kind=job.kind, attempt=job.attempt, plugin=job_type.plugin
        ):
            await self._registry.notify("job_started", job=job)
            began = time.perf_counter()
            error, result = await self._perform(claim, envelope, job, job_type, payload)
            duration = timedelta(seconds=time.perf_counter() - began)
            outcome = verdict(error, result, attempt=job.attempt, snoozes=claim.snoozes, policy=policy)
            await self._registry.notify("job_finished", job=job, outcome=outcome, duration=duration)
            _log_outcome(outcome, duration, error)
        return outcome

    async def _perform(
        self, claim: Claim, envelope: Envelope, job: RunningJob, job_type: JobType, payload: Payload
    ) -> tuple[BaseException | None, Any]:
        context = JobContext(
            job=job,
            claim=claim.number,
            plugin=job_type.plugin,
            settings=job_type.settings,
            services=self._services,
            log=structlog.get_logger(f"skycap.plugin.{job_type.plugin}"),
        )
        try:
            message = await self._before(as_taskiq(envelope))
            message.labels["timeout"] = self._policies[job_type.kind].timeout.total_seconds()
            message.args = [context, payload]
            result = await self._receiver.run_task(job_type.handler, message)
            await self._after(message, result)
        except Exception as error:  # noqa: BLE001
            # A middleware or a dependency failed: that is this attempt's failure, never a reason to lose the job.
            return error, None
        if isinstance(result.error, asyncio.CancelledError):
            raise result.error  # taskiq makes a result of it; whoever cancelled this attempt must see it
        return result.error, result.return_value

    async def _before(self, message: TaskiqMessage) -> TaskiqMessage:
        for middleware in self._broker.middlewares:
            message = await maybe_awaitable(middleware.pre_execute(message))
        return message

    async def _after(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        for middleware in reversed(self._broker.middlewares):
            await maybe_awaitable(middleware.post_execute(message, result))


def _log_outcome(outcome: Outcome, duration: timedelta, error: BaseException | None) -> None:
    fields: dict[str, Any] = {"duration_ms": round(duration.total_seconds() * 1000, 1)}
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
        case Retry(delay=delay, error=text):
            seconds = delay.total_seconds()
            _log.warning("job failed, will be retried", delay_seconds=seconds, error=text, exc_info=traceback, **fields)
        case Discarded(reason=why, error=text):
            _log.error("job discarded", reason=why.value, error=text, exc_info=traceback, **fields)
        case HandedBack():
            _log.info("job handed back", **fields)
