"""Handlers that are not async: each runs in a thread, and its attempt lasts as long as its thread does."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from structlog.testing import capture_logs
from taskiq import InMemoryBroker, TaskiqDepends, TaskiqMessage
from taskiq.receiver import Receiver

from skycap.errors import Snooze
from skycap.job import JobState
from skycap.worker.threads import ThreadContext, in_thread, runnable
from tests.support.workers import PATIENCE, bench

RUNS_ON = "handler runs on past its end; its slot and lease stay taken"
CONTEXT: Any = SimpleNamespace(settings="the plugin's settings")


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(max_workers=4) as executor:
        yield executor


class Stubborn:
    """A sync handler that ends when it is released, and not before."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.release = threading.Event()
        self.running = 0
        self.most_at_once = 0

    def handle(self, ctx: Any, payload: Any) -> str:
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        self.began.set()
        released = self.release.wait(PATIENCE.total_seconds())
        self.running -= 1
        assert released, "nobody released it"
        return "done"

    async def is_running(self) -> None:
        assert await asyncio.to_thread(self.began.wait, PATIENCE.total_seconds()), "it never began"


class Log:
    """Sets an event when a line is logged: ``capture_logs(processors=[log.listen])``."""

    def __init__(self, event: str) -> None:
        self.seen = asyncio.Event()
        self._event = event

    def listen(self, _logger: Any, _method: str, line: Any) -> Any:
        if line["event"] == self._event:
            self.seen.set()
        return line


async def test_an_async_handler_stays_as_it_is(threads: ThreadPoolExecutor) -> None:
    async def handle(ctx: Any, payload: Any) -> None: ...

    assert runnable(handle, threads) is handle


async def test_a_sync_handler_runs_in_a_thread_with_the_attempts_context_variables(threads: ThreadPoolExecutor) -> None:
    job: contextvars.ContextVar[str] = contextvars.ContextVar("job")

    def handle(ctx: Any, payload: str) -> tuple[int, str, str, str]:
        return threading.get_ident(), job.get(), ctx.settings, payload

    job.set("job 7")
    thread, *others = await runnable(handle, threads)(CONTEXT, "payload")
    assert thread != threading.get_ident()
    assert others == ["job 7", "the plugin's settings", "payload"]


async def test_what_a_sync_handler_raises_ends_its_attempt(threads: ThreadPoolExecutor) -> None:
    def handle(ctx: Any, payload: Any) -> None:
        raise Snooze(timedelta(minutes=5), "not yet")

    with pytest.raises(Snooze, match="not yet"):
        await runnable(handle, threads)(CONTEXT, None)


async def test_an_iterator_that_is_empty_too_early_is_an_error_like_any_other(threads: ThreadPoolExecutor) -> None:
    def handle(ctx: Any, payload: Any) -> Any:
        return next(iter(()))

    with pytest.raises(RuntimeError, match="handle raised StopIteration"):
        await runnable(handle, threads)(CONTEXT, None)


async def test_a_coroutine_that_a_sync_handler_forgot_to_run_is_an_error(threads: ThreadPoolExecutor) -> None:
    async def mail() -> None: ...

    def handle(ctx: Any, payload: Any) -> Any:
        return mail()

    with pytest.raises(TypeError, match=r"handle returned a coroutine that nobody awaits: write `async def .*handle`"):
        await runnable(handle, threads)(CONTEXT, None)


def partner() -> str:
    return "a partner"


def with_dependency(ctx: Any, payload: str, resolved: Annotated[str, TaskiqDepends(partner)]) -> list[str]:
    return [payload, resolved, threading.current_thread().name]


async def test_taskiq_resolves_a_sync_handlers_dependencies(threads: ThreadPoolExecutor) -> None:
    broker = InMemoryBroker()
    handler = runnable(with_dependency, threads)
    broker.register_task(handler, task_name="ask")
    message = TaskiqMessage(task_id="1", task_name="ask", labels={}, args=[CONTEXT, "payload"], kwargs={})
    result = await Receiver(broker, validate_params=False, run_startup=False).run_task(handler, message)
    await broker.shutdown()
    payload, resolved, thread = result.return_value
    assert (payload, resolved, result.error) == ("payload", "a partner", None)
    assert thread.startswith("ThreadPoolExecutor")


async def test_a_sync_handler_reaches_what_is_async(threads: ThreadPoolExecutor) -> None:
    loops_thread = threading.get_ident()

    async def send(to: str) -> str:
        await asyncio.sleep(0)
        assert threading.get_ident() == loops_thread
        return f"sent to {to}"

    def handle(ctx: Any, payload: str) -> str:
        return str(ctx.run(send(payload)))

    assert await runnable(handle, threads)(CONTEXT, "ada") == "sent to ada"


async def test_what_is_awaited_for_a_sync_handler_raises_in_it(threads: ThreadPoolExecutor) -> None:
    async def send() -> None:
        raise ConnectionError("partner away")

    def handle(ctx: Any, payload: Any) -> str:
        with pytest.raises(ConnectionError, match="partner away"):
            ctx.run(send())
        return "went on"

    assert await runnable(handle, threads)(CONTEXT, None) == "went on"


async def test_the_event_loop_is_not_made_to_wait_for_itself() -> None:
    async def send() -> None: ...

    context = ThreadContext(CONTEXT, asyncio.get_running_loop())
    with pytest.raises(RuntimeError, match="write `await …` instead of"):
        context.run(send())


async def test_a_timed_out_attempt_lasts_until_its_thread_ends_and_is_a_timeout_still(
    threads: ThreadPoolExecutor,
) -> None:
    stubborn, log = Stubborn(), Log(RUNS_ON)

    async def attempt() -> None:
        async with asyncio.timeout(0):
            await in_thread(stubborn.handle, threads)(CONTEXT, None)

    with capture_logs(processors=[log.listen]) as lines:
        running = asyncio.create_task(attempt())
        await log.seen.wait()
        await stubborn.is_running()
        assert not running.done()
        stubborn.release.set()
        with pytest.raises(TimeoutError):
            await running
    assert [(line["event"], line["log_level"], line["handler"]) for line in lines] == [
        (RUNS_ON, "warning", "Stubborn.handle"),
        ("handler has ended at last", "info", "Stubborn.handle"),
    ]


async def test_a_further_cancellation_ends_the_attempt_no_sooner(threads: ThreadPoolExecutor) -> None:
    stubborn = Stubborn()
    running = asyncio.ensure_future(in_thread(stubborn.handle, threads)(CONTEXT, None))
    await stubborn.is_running()
    for _ in range(3):
        running.cancel()
        await asyncio.sleep(0)
        assert not running.done()
    stubborn.release.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert stubborn.running == 0


async def test_what_a_handler_raises_after_its_end_is_logged_without_addresses(threads: ThreadPoolExecutor) -> None:
    began, release = threading.Event(), threading.Event()

    def handle(ctx: Any, payload: Any) -> None:
        began.set()
        release.wait(PATIENCE.total_seconds())
        raise ValueError("no such guest: ada@example.com")

    running = asyncio.ensure_future(in_thread(handle, threads)(CONTEXT, None))
    await asyncio.to_thread(began.wait, PATIENCE.total_seconds())
    with capture_logs() as lines:
        running.cancel()
        await asyncio.sleep(0)
        release.set()
        with suppress(asyncio.CancelledError):
            await running
    assert lines[-1]["event"] == "handler has ended at last"
    assert lines[-1]["error"].startswith("ValueError: no such guest")
    assert "ada@" not in lines[-1]["error"]


async def test_a_handler_that_is_cancelled_while_it_waits_for_a_thread_never_runs() -> None:
    stubborn, ran = Stubborn(), list[str]()

    def note(ctx: Any, payload: str) -> None:
        ran.append(payload)

    with ThreadPoolExecutor(max_workers=1) as single:
        first = asyncio.ensure_future(in_thread(stubborn.handle, single)(CONTEXT, None))
        await stubborn.is_running()
        second = asyncio.ensure_future(in_thread(note, single)(CONTEXT, "second"))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        stubborn.release.set()
        assert await first == "done"
    assert ran == []


async def test_a_cancelled_handler_ends_where_it_waits_for_something_async(threads: ThreadPoolExecutor) -> None:
    waits, done = asyncio.Event(), list[str]()

    async def never() -> None:
        waits.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            done.append("cleaned up")

    def handle(ctx: Any, payload: Any) -> None:
        try:
            ctx.run(never())
        except Exception:  # noqa: BLE001 - a handler's own must not swallow its end
            done.append("swallowed")
        finally:
            done.append("handler ended")

    running = asyncio.ensure_future(in_thread(handle, threads)(CONTEXT, None))
    await waits.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert done == ["cleaned up", "handler ended"]


async def test_a_handler_past_its_end_gets_nothing_async_done_any_more(threads: ThreadPoolExecutor) -> None:
    stubborn, sent = Stubborn(), list[str]()

    async def send() -> None:
        sent.append("a mail")

    def handle(ctx: Any, payload: Any) -> None:
        stubborn.handle(ctx, payload)
        ctx.run(send())

    running = asyncio.ensure_future(in_thread(handle, threads)(CONTEXT, None))
    await stubborn.is_running()
    running.cancel()
    await asyncio.sleep(0)
    stubborn.release.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert sent == []


async def test_a_worker_keeps_the_slot_of_a_timed_out_thread_and_never_runs_its_job_twice_at_once(
    redis_url: str, threads: ThreadPoolExecutor
) -> None:
    stubborn, log = Stubborn(), Log(RUNS_ON)
    handle: Callable[..., Any] = runnable(stubborn.handle, threads)
    with capture_logs(processors=[log.listen]):
        async with bench(redis_url, handle, attempts=2, timeout_seconds=0.3) as b, b.working(concurrency=1):
            slow = await b.put("slow")
            await stubborn.is_running()
            next_one = await b.put("next")
            async with asyncio.timeout(PATIENCE.total_seconds()):
                await log.seen.wait()
            running = await b.queue.jobs(JobState.RUNNING)
            assert ([job.id for job in running], b.ran) == ([slow], ["slow"])
            stubborn.release.set()
            first, second = await b.finished(slow), await b.finished(next_one)
    assert (first.state, first.attempt, first.result) == (JobState.COMPLETED, 2, "done")
    assert "took longer than 0.3 s" in first.errors[0].error
    assert (second.state, stubborn.most_at_once) == (JobState.COMPLETED, 1)


async def test_waiting_for_a_timed_out_thread_does_not_keep_the_event_loop_busy(
    redis_url: str, threads: ThreadPoolExecutor
) -> None:
    stubborn, log = Stubborn(), Log(RUNS_ON)
    handle: Callable[..., Any] = runnable(stubborn.handle, threads)
    with capture_logs(processors=[log.listen]):
        async with bench(redis_url, handle, timeout_seconds=0.1) as b, b.working():
            job_id = await b.put("slow")
            async with asyncio.timeout(PATIENCE.total_seconds()):
                await log.seen.wait()
            (attempt,) = [task for task in asyncio.all_tasks() if task.get_name() == f"job {job_id}"]
            for _ in range(100):
                await asyncio.sleep(0)
            assert attempt.cancelling() <= 1, "it is cancelled at every turn of the loop"
            stubborn.release.set()
            await b.finished(job_id)
