"""QueueBroker: skycap's queues as a genuine taskiq broker, so that any taskiq application can enqueue by kiq().

taskiq keeps what it is good at: declaring tasks, labels, middlewares, dependencies and running one task. Its
receive loop and taskiq-redis' streams are not used: they acknowledge what they could not run and recover nothing
on an idle queue. skycap's own worker leases jobs instead.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any

from taskiq import AckableMessage, BrokerMessage, TaskiqMessage
from taskiq.abc.formatter import TaskiqFormatter
from taskiq_redis.redis_broker import BaseRedisBroker

from skycap.engine.link import Link, connection_options
from skycap.engine.queue import Queue
from skycap.envelope import Envelope
from skycap.errors import ConfigurationError
from skycap.job import new_id

DEFAULT_QUEUE, DEFAULT_PRIORITY = "default", 10

_CONTROL_LABELS = frozenset({"queue", "priority", "delay", "timeout"})


class EnvelopeFormatter(TaskiqFormatter):
    """Reads and writes taskiq messages as envelopes.

    A task's payload is its single positional argument (an object) or its keyword arguments.
    """

    def dumps(self, message: TaskiqMessage) -> BrokerMessage:
        labels = {name: str(value) for name, value in message.labels.items()}
        envelope = Envelope(
            id=message.task_id,
            kind=message.task_name,
            payload=message.args[0] if message.args else message.kwargs,
            queue=labels.get("queue", DEFAULT_QUEUE),
            priority=int(labels.get("priority", DEFAULT_PRIORITY)),
            enqueued_at=datetime.now(UTC),
            labels={name: value for name, value in labels.items() if name not in _CONTROL_LABELS},
        )
        return BrokerMessage(
            task_id=message.task_id, task_name=message.task_name, message=envelope.to_json(), labels=message.labels
        )

    def loads(self, message: bytes) -> TaskiqMessage:
        return as_taskiq(Envelope.from_json(message))


def as_taskiq(envelope: Envelope) -> TaskiqMessage:
    """The envelope as the message that taskiq's middlewares see."""
    return TaskiqMessage(
        task_id=envelope.id,
        task_name=envelope.kind,
        labels=dict(envelope.labels),
        args=[dict(envelope.payload)],
        kwargs={},
    )


class QueueBroker(BaseRedisBroker):
    """taskiq's view of all queues: a task's ``queue`` label names the queue, ``priority`` and ``delay`` (s) apply."""

    def __init__(self, url: str) -> None:
        options = connection_options()
        super().__init__(url, max_connection_pool_size=options.pop("max_connections"), **options)
        self.formatter = EnvelopeFormatter()
        self.id_generator = new_id
        self.link = Link(self.connection_pool)

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

    async def kick(self, message: BrokerMessage) -> None:
        envelope = Envelope.from_json(message.message)
        delay = timedelta(seconds=float(message.labels.get("delay", 0)))
        await Queue(envelope.queue, self.link).add([(envelope, delay)])

    def listen(self) -> AsyncGenerator[bytes | AckableMessage, None]:
        raise ConfigurationError(
            "taskiq's own worker cannot run skycap's queues: it drops what it cannot run; start `skycap run` instead"
        )
