"""That a blocked event loop is noticed while it lasts, and whose fault it is, with both kinds of event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import uvloop
from structlog.testing import capture_logs

from skycap.context import RunningJob
from skycap.observe import event_loop
from skycap.observe.event_loop import LoopMonitor
from tests.support.workers import PATIENCE, eventually

THRESHOLD = timedelta(milliseconds=50)

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    def to_its_end(coroutine: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(coroutine)

    return to_its_end


def job(kind: str) -> RunningJob:
    began = datetime(2026, 11, 23, tzinfo=UTC)
    return RunningJob(id=f"1-{kind}", kind=kind, queue="tests", attempt=1, max_attempts=3, enqueued_at=began)


class Jobs:
    """Knows which task runs which job, as a worker does; ``noticed`` is set when the monitor asks."""

    def __init__(self) -> None:
        self.noticed = threading.Event()
        self._running: dict[asyncio.Task[Any], RunningJob] = {}

    def of(self, task: asyncio.Task[Any]) -> RunningJob | None:
        self.noticed.set()
        return self._running.get(task)

    async def perform(self, kind: str, handler: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(handler)
        self._running[task] = job(kind)
        await task

    async def block(self) -> None:
        """Hold the event loop up until that is noticed."""
        self.noticed.clear()
        assert self.noticed.wait(PATIENCE.total_seconds()), "nobody noticed"


@contextmanager
def watched(jobs: Jobs, *, threshold: timedelta = THRESHOLD, **options: timedelta) -> Generator[LoopMonitor]:
    monitor = LoopMonitor(jobs.of, threshold=threshold, **options)
    monitor.start()
    try:
        yield monitor
    finally:
        monitor.stop()


async def logged(lines: list[Any], count: int) -> None:
    async def are_there() -> bool:
        return len(lines) >= count

    await eventually(are_there)


def test_a_blocked_loop_is_logged_once_with_job_kind_and_place(run: Run) -> None:
    async def scene() -> None:
        jobs = Jobs()
        with watched(jobs), capture_logs() as lines:
            await jobs.perform("send-mail", jobs.block())
            await logged(lines, 1)
        (line,) = lines
        assert (line["event"], line["log_level"]) == ("event loop blocked", "warning")
        assert (line["job"], line["kind"]) == ("1-send-mail", "send-mail")
        # The wait itself is in Python's threading.py; who called that is what an author wants to know.
        first = Jobs.block.__code__.co_firstlineno
        assert line["where"] == f"{__file__}:{first + 3} in Jobs.block"
        assert 0 <= line["seconds"] < PATIENCE.total_seconds()

    run(scene())


def test_a_block_that_lasts_is_told_while_it_lasts(run: Run) -> None:
    told = threading.Event()

    def listen(_logger: Any, _method: str, line: Any) -> Any:
        if line["event"] == "event loop still blocked":
            told.set()
        return line

    async def block() -> None:
        assert told.wait(PATIENCE.total_seconds()), "not told"

    async def scene() -> None:
        jobs = Jobs()
        with watched(jobs, still_blocked_after=2 * THRESHOLD) as monitor, capture_logs(processors=[listen]) as lines:
            await jobs.perform("send-mail", block())
            await logged(lines, 2)
        assert [(line["event"], line["kind"]) for line in lines] == [
            ("event loop still blocked", "send-mail"),
            ("event loop blocked", "send-mail"),
        ]
        assert monitor.figures()["send-mail"].longest_seconds >= (2 * THRESHOLD).total_seconds()

    run(scene())


def test_code_that_never_lets_the_interpreter_go_is_named_too(run: Run) -> None:
    async def add() -> None:
        sum(range(20_000_000))  # one call into C: no other thread runs until it returns

    async def scene() -> None:
        jobs = Jobs()
        with watched(jobs), capture_logs() as lines:
            await jobs.perform("add-up", add())
            await logged(lines, 1)
        assert [(line["event"], line["kind"]) for line in lines] == [("event loop blocked", "add-up")]
        assert f"{__file__}:{add.__code__.co_firstlineno + 1} in " in lines[0]["where"]

    run(scene())


def test_blocks_are_counted_by_kind(run: Run) -> None:
    async def scene() -> None:
        jobs = Jobs()
        with watched(jobs) as monitor, capture_logs() as lines:
            await jobs.perform("send-mail", jobs.block())
            await logged(lines, 1)
            await jobs.perform("send-mail", jobs.block())
            await logged(lines, 2)
            await jobs.block()  # no job, but a task of skycap's own
            await logged(lines, 3)
        figures = monitor.figures()
        assert {kind: each.blocked_total for kind, each in figures.items()} == {"send-mail": 2, "": 1}
        mails = figures["send-mail"]
        assert THRESHOLD.total_seconds() <= mails.longest_seconds < mails.blocked_seconds_total
        assert lines[2]["job"] is None

    run(scene())


async def test_a_busy_loop_that_turns_is_not_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    call_soon_threadsafe = loop.call_soon_threadsafe
    asked: list[Any] = []

    def noted(callback: Any, *arguments: Any, **options: Any) -> Any:
        asked.append(callback)
        return call_soon_threadsafe(callback, *arguments, **options)

    monkeypatch.setattr(loop, "call_soon_threadsafe", noted)
    monkeypatch.setattr(event_loop, "LOOKS_PER_THRESHOLD", 600)
    jobs = Jobs()
    # A minute: a machine that is busy elsewhere may well stop this process for a second.
    with watched(jobs, threshold=timedelta(minutes=1)) as monitor, capture_logs() as lines:
        while len(asked) < 2:
            sum(number for number in range(200_000))  # long enough for the monitor's thread to find it at work
            await asyncio.sleep(0)
    assert (lines, monitor.figures(), jobs.noticed.is_set()) == ([], {}, False)


async def test_a_monitor_that_is_stopped_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    monitor = LoopMonitor(Jobs().of)
    monitor.start()
    (thread,) = set(threading.enumerate()) - before
    monitor.stop()
    assert not thread.is_alive()
