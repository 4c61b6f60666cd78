"""QueueBroker: skycap's queues as a genuine taskiq broker, so that any taskiq application can enqueue by kiq().

taskiq keeps what it is good at: declaring tasks, labels, middlewares, dependencies and running one task. Its
receive loop and taskiq-redis' streams are not used: they acknowledge what they could not run and recover nothing
on an idle queue. skycap's own worker leases jobs instead.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import structlog
from redis.exceptions import RedisError
from taskiq import AckableMessage, AsyncBroker, BrokerMessage, TaskiqMessage, TaskiqResult
from taskiq.abc.formatter import TaskiqFormatter
from taskiq.exceptions import TaskiqError

from skycap.admission import checked_priority, checked_time
from skycap.engine.link import Link
from skycap.engine.queue import NewJob, Queue
from skycap.envelope import Envelope
from skycap.errors import ConfigurationError, Refused
from skycap.job import new_id
from skycap.outcome import Cancelled, Completed, Discarded, Outcome
from skycap.signing import Signer

DEFAULT_QUEUE, DEFAULT_PRIORITY = "default", 10

_log = structlog.get_logger("skycap.taskiq")

_CONTROL_LABELS = frozenset({"queue", "priority", "delay", "timeout"})
_BY_TASKIQ = "taskiq"
"""The label of a job that a taskiq application enqueued, which looks for the result in taskiq's own backend."""


class EnvelopeFormatter(TaskiqFormatter):
    """Reads and writes taskiq messages as envelopes.

    A task's payload is its single positional argument (an object) or its keyword arguments.
    """

    def dumps(self, message: TaskiqMessage) -> BrokerMessage:
        labels = {name: str(value) for name, value in message.labels.items()}
        payload = _payload_of(message)
        envelope = Envelope(
            id=message.task_id,
            kind=message.task_name,
            payload=payload,
            queue=labels.get("queue", DEFAULT_QUEUE),
            priority=int(labels.get("priority", DEFAULT_PRIORITY)),
            enqueued_at=datetime.now(UTC),
            labels={name: value for name, value in labels.items() if name not in _CONTROL_LABELS} | {_BY_TASKIQ: "1"},
        )
        return BrokerMessage(
            task_id=message.task_id, task_name=message.task_name, message=envelope.to_json(), labels=message.labels
        )

    def loads(self, message: bytes) -> TaskiqMessage:
        return as_taskiq(Envelope.from_json(message))


def _payload_of(message: TaskiqMessage) -> dict[str, Any]:
    match message.args:
        case []:
            return message.kwargs
        case [dict()] if not message.kwargs:
            return cast("dict[str, Any]", message.args[0])
        case _:
            raise Refused(
                f"{message.task_name}: skycap's jobs have one payload; call kiq(name=value, …) or kiq(payload), "
                f"not with {len(message.args)} positional values"
            )


def _delay(label: Any) -> timedelta:
    try:
        return timedelta(seconds=float(label))
    except (TypeError, ValueError, OverflowError) as error:
        raise Refused(f"the label delay is {label!r}; give seconds, up to ten years") from error


def as_taskiq(envelope: Envelope, job_id: str = "") -> TaskiqMessage:
    """The envelope as the message that taskiq's middlewares see."""
    return TaskiqMessage(
        task_id=job_id or envelope.id,
        task_name=envelope.kind,
        labels=dict(envelope.labels),
        args=[dict(envelope.payload)],
        kwargs={},
    )


def came_by_taskiq(envelope: Envelope) -> bool:
    return _BY_TASKIQ in envelope.labels


class QueueBroker(AsyncBroker):
    """taskiq's view of all queues: a task's ``queue`` label names the queue, ``priority`` and ``delay`` (s) apply.

    ``signing_key`` (``KEY-ID:SECRET``) signs what is kicked.
    """

    def __init__(self, url: str, *, signing_key: str | None = None) -> None:
        super().__init__()
        self._signer = None if signing_key is None else Signer.parse(signing_key)
        self.formatter = EnvelopeFormatter()
        self.id_generator = new_id
        self.link = Link.to(url)

    # taskiq's Receiver updates this one dictionary for every job, and a dependency that is resolved after an
    # await then reads another job's Context. A fresh copy for each reader ends that.
    @property
    def custom_dependency_context(self) -> dict[Any, Any]:
        return dict(self._dependency_context)

    @custom_dependency_context.setter
    def custom_dependency_context(self, context: dict[Any, Any]) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]  # on purpose
        self._dependency_context = dict(context)

    def add_dependency_context(self, new_ctx: dict[Any, Any]) -> None:
        self._dependency_context.update(new_ctx)

    async def shutdown(self) -> None:
        await super().shutdown()
        await self.link.close()

    async def kick(self, message: BrokerMessage) -> None:
        envelope = Envelope.from_json(message.message)
        checked_priority(envelope.priority)
        envelope.signer = self._signer
        delay = checked_time(_delay(message.labels.get("delay", 0)), what="the delay")
        await Queue(envelope.queue, self.link).add([NewJob(envelope=envelope, when=delay)])

    async def answer(self, task_id: str, outcome: Outcome, seconds: float) -> None:
        """Give the result of a job that is over to taskiq's result backend, for the application that waits for it."""
        match outcome:
            case Completed(result=value):
                result = TaskiqResult(is_err=False, return_value=value, execution_time=round(seconds, 2))
            case Discarded(error=text) | Cancelled(reason=text):
                error = RuntimeError(text)
                result = TaskiqResult[Any](is_err=True, return_value=None, execution_time=seconds, error=error)
            case _:
                return
        try:
            await self.result_backend.set_result(task_id, result)
        except (RedisError, OSError, TaskiqError) as error:
            # The job has run and must not run again for want of an answer, which its own record has, too.
            _log.warning("result not given to taskiq", job=task_id, problem=type(error).__name__)

    def listen(self) -> AsyncGenerator[bytes | AckableMessage, None]:
        raise ConfigurationError(
            "taskiq's own worker cannot run skycap's queues: it drops what it cannot run; start `skycap run` instead"
        )
