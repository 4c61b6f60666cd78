"""Threads: a handler that is not async runs in one of its own, and its attempt lasts as long as its thread does."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import inspect
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

import structlog

from skycap.context import Context
from skycap.job_type import Handler
from skycap.worker.verdict import describe

_log = structlog.get_logger("skycap.threads")

T = TypeVar("T")

AsyncHandler = Callable[..., Awaitable[Any]]


def runnable(handler: Handler, executor: concurrent.futures.Executor) -> AsyncHandler:
    """What the event loop can await: the handler itself if it is async, otherwise one that runs it in ``executor``."""
    return handler if inspect.iscoroutinefunction(handler) else in_thread(handler, executor)


def in_thread(function: Callable[..., Any], executor: concurrent.futures.Executor) -> AsyncHandler:
    """``function(ctx, payload, …)`` as a coroutine function with the same signature.

    A thread cannot be killed: cancelled, the coroutine ends what the thread awaits by ``ctx.run``, says in the log
    that it waits, and raises the CancelledError only when the thread has ended. So no job runs twice at once.
    """

    @functools.wraps(function)
    async def handler(context: Context[Any], *arguments: Any, **dependencies: Any) -> Any:
        reach = ThreadContext(context, asyncio.get_running_loop())
        call = functools.partial(_called, function, reach, *arguments, **dependencies)
        thread = executor.submit(contextvars.copy_context().run, call)
        ended = asyncio.wrap_future(thread)
        try:
            await asyncio.wait((ended,))
        except asyncio.CancelledError:
            if not thread.cancel():  # it has begun
                reach.end()
                await _until_ended(ended, function.__qualname__)
            raise
        return ended.result()

    return handler


class ThreadContext:
    """The Context of a handler in a thread: all that the attempt's own has, and ``run`` for what is async in it."""

    def __init__(self, context: Context[Any], loop: asyncio.AbstractEventLoop) -> None:
        self._context = context
        self._loop = loop
        self._is_over = False
        self._awaited: set[asyncio.Task[Any]] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def run(self, awaitable: Awaitable[T]) -> T:
        """The result of ``awaitable``, which the daemon's event loop awaits while this thread waits.

        Raises CancelledError when the attempt is cancelled or out of time, and ever after; RuntimeError on the
        event loop's own thread, which must not wait for itself.
        """
        if _runs_in_this_thread(self._loop):
            refuse_to_wait(awaitable)
        answer = asyncio.run_coroutine_threadsafe(self._await(awaitable), self._loop)
        try:
            return answer.result()
        except concurrent.futures.CancelledError:
            # That one is an Exception, and a handler's own `except Exception` must not swallow its end.
            raise asyncio.CancelledError from None

    def end(self) -> None:
        """The attempt is over: cancel what ``run`` awaits, and let it await nothing more. On the loop's thread."""
        self._is_over = True
        for task in self._awaited:
            task.cancel()

    async def _await(self, awaitable: Awaitable[T]) -> T:
        if self._is_over:
            _never_awaited(awaitable)
            raise asyncio.CancelledError
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine on a loop is some task's
        self._awaited.add(task)
        try:
            return await awaitable
        finally:
            self._awaited.discard(task)


def refuse_to_wait(awaitable: Awaitable[Any]) -> NoReturn:
    """Raise RuntimeError, for ``ctx.run`` where the event loop would wait for itself: in async code."""
    _never_awaited(awaitable)
    raise RuntimeError("ctx.run is for handlers without async: here, write `await …` instead of `ctx.run(…)`")


async def _until_ended(ended: asyncio.Future[Any], name: str) -> None:
    began = time.monotonic()
    _log.warning("handler runs on past its end; its slot and lease stay taken", handler=name)
    while not ended.done():
        with suppress(asyncio.CancelledError):  # a further one makes the thread end no sooner
            await asyncio.wait((ended,))
    error = ended.exception()
    late = round(time.monotonic() - began, 1)
    _log.info("handler has ended at last", handler=name, late_seconds=late, error=error and describe(error))


def _called(function: Callable[..., Any], *arguments: Any, **dependencies: Any) -> Any:
    try:
        result = function(*arguments, **dependencies)
    except StopIteration as error:
        # As a coroutine would; no future can carry this one, and the attempt would never end.
        raise RuntimeError(f"{function.__qualname__} raised StopIteration") from error
    if inspect.isawaitable(result):
        _never_awaited(result)
        name = function.__qualname__
        raise TypeError(f"{name} returned a {type(result).__name__} that nobody awaits: write `async def {name}`")
    return result


def _runs_in_this_thread(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _never_awaited(awaitable: Awaitable[Any]) -> None:
    if inspect.iscoroutine(awaitable):
        awaitable.close()
