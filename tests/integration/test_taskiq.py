"""taskiq on the other side: a stock taskiq application enqueues, waits, and brings middlewares and dependencies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from taskiq import Context as TaskiqContext
from taskiq import TaskiqDepends, TaskiqMessage, TaskiqMiddleware, TaskiqResult
from taskiq.exceptions import SendTaskError
from taskiq.serializers import JSONSerializer
from taskiq_redis import RedisAsyncResultBackend

from skycap import Cancel, Payload, PermanentError, Plugin, Refused
from skycap.engine.broker import QueueBroker
from skycap.engine.taskiq_results import result_backend
from skycap.job import JobState
from tests.support.workers import PATIENCE, Bench, Note, bench


@asynccontextmanager
async def stock_application(redis_url: str) -> AsyncGenerator[QueueBroker]:
    """What a taskiq application has: a broker, and taskiq-redis' result backend."""
    results: RedisAsyncResultBackend[Any] = RedisAsyncResultBackend(redis_url, serializer=JSONSerializer())
    broker = QueueBroker(redis_url).with_result_backend(results)
    await broker.startup()
    try:
        yield broker
    finally:
        await broker.shutdown()


async def wait(task: Any) -> TaskiqResult[Any]:
    result: TaskiqResult[Any] = await task.wait_result(check_interval=0.01, timeout=PATIENCE.total_seconds())
    return result


def answering(b: Bench) -> Bench:
    b.broker.with_result_backend(result_backend(b.url))
    return b


async def test_kiq_enqueues_and_its_result_comes_through_taskiqs_own_backend(redis_url: str) -> None:
    async def handle(_ctx: Any, payload: Note) -> dict[str, str]:
        return {"read": payload.text}

    async with bench(redis_url, handle) as b, stock_application(redis_url) as app:

        @app.task(task_name="take-note", queue="tests", priority=3)
        async def take_note(text: str) -> Any: ...

        answering(b)
        async with b.working():
            task = await take_note.kiq(text="hello")
            result = await wait(task)
            assert (result.is_err, result.return_value) == (False, {"read": "hello"})
            job = await b.finished(task.task_id)
            assert (job.priority, job.state) == (3, JobState.COMPLETED)
            kicker: Any = take_note.kicker()  # whose types know the fields only
            by_object = await kicker.kiq(Note(text="model"))
            assert (await wait(by_object)).return_value == {"read": "model"}


@pytest.mark.parametrize("error", [PermanentError("no such booking"), Cancel("no such booking")])
async def test_a_job_that_ended_badly_is_an_error_to_the_application(redis_url: str, error: BaseException) -> None:
    async def handle(_ctx: Any, _payload: Note) -> None:
        raise error

    async with bench(redis_url, handle) as b, stock_application(redis_url) as app:

        @app.task(task_name="take-note", queue="tests")
        async def take_note(text: str) -> None: ...

        answering(b)
        async with b.working():
            result = await wait(await take_note.kiq(text=""))
    assert result.is_err
    assert "no such booking" in str(result.error)


async def test_a_retry_is_no_result_yet(redis_url: str) -> None:
    async def handle(ctx: Any, _payload: Note) -> int:
        if ctx.job.attempt == 1:
            raise ValueError("first")
        return int(ctx.job.attempt)

    async with bench(redis_url, handle) as b, stock_application(redis_url) as app:

        @app.task(task_name="take-note", queue="tests")
        async def take_note(text: str) -> Any: ...

        answering(b)
        async with b.working():
            assert (await wait(await take_note.kiq(text=""))).return_value == 2


async def test_what_is_no_payload_is_refused_when_it_is_sent(redis_url: str) -> None:
    async with stock_application(redis_url) as app:

        @app.task(task_name="take-note", queue="tests")
        async def take_note(a: str, b: str) -> None: ...

        with pytest.raises(SendTaskError) as raised:
            await take_note.kiq("a", "b")
        assert isinstance(raised.value.__cause__, Refused)
        assert "call kiq(name=value, …) or kiq(payload), not with 2 positional values" in str(raised.value.__cause__)
        with pytest.raises(SendTaskError) as raised:
            await take_note.kicker().with_labels(priority=0).kiq(a="a", b="b")
        assert "priority 0 is outside" in str(raised.value.__cause__)
        for delay, problem in (("soon", "the label delay is 'soon'"), (1e9, "over the limit of ten years")):
            with pytest.raises(SendTaskError) as raised:
                await take_note.kicker().with_labels(delay=delay).kiq(a="a", b="b")
            assert problem in str(raised.value.__cause__)


async def test_a_result_that_taskiq_cannot_take_costs_the_job_nothing(redis_url: str) -> None:
    async with bench(redis_url) as b, stock_application(redis_url) as app:

        @app.task(task_name="take-note", queue="tests")
        async def take_note(text: str) -> None: ...

        b.broker.with_result_backend(result_backend("redis://127.0.0.1:1"))
        async with b.working():
            job = await b.finished((await take_note.kiq(text="")).task_id)
    assert job.state is JobState.COMPLETED
    assert b.ran == [""]


class Ask(Payload, kind="ask", queue="tests"):
    number: int


async def _message_id(context: Annotated[TaskiqContext, TaskiqDepends()]) -> str:
    await asyncio.sleep(0)  # others are resolved meanwhile
    return context.message.task_id


async def _late_id(
    first: Annotated[str, TaskiqDepends(_message_id, use_cache=False)],
    second: Annotated[str, TaskiqDepends(_message_id, use_cache=False)],
) -> tuple[str, str]:
    return first, second


async def test_dependencies_are_those_of_their_own_job(redis_url: str) -> None:
    """There is one dictionary for all jobs in taskiq, from which one job could read another's context."""
    plugin = Plugin("asking")
    seen: list[bool] = []

    @plugin.job()
    async def ask(ctx: Any, payload: Ask, ids: Annotated[tuple[str, str], TaskiqDepends(_late_id)]) -> None:
        seen.append(ids == (ctx.job.id, ctx.job.id))

    async with bench(redis_url, plugins=[plugin]) as b, b.working(concurrency=20):
        added = await b.client.enqueue_many([Ask(number=n) for n in range(20)])
        for each in added:
            assert (await b.finished(each.job_id)).state is JobState.COMPLETED
    assert seen == [True] * 20


class Recording(TaskiqMiddleware):
    """Writes down what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    async def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        self.heard.append(f"pre {message.task_name}")
        return message

    def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        self.heard.append(f"post {result.is_err}")

    def on_error(self, message: TaskiqMessage, result: TaskiqResult[Any], exception: BaseException) -> None:
        self.heard.append(f"error {exception}")


async def test_middlewares_are_called_around_each_attempt(redis_url: str) -> None:
    async def handle(ctx: Any, _payload: Note) -> None:
        if ctx.job.attempt == 1:
            raise ValueError("first")

    recording = Recording()
    async with bench(redis_url, handle) as b:
        b.broker.add_middlewares(recording)
        async with b.working():
            await b.finished(await b.put())
    assert recording.heard == [
        "pre take-note",
        "error first",
        "post True",
        "pre take-note",
        "post False",
    ]
