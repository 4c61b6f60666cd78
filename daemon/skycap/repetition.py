"""Repetition: makes a call again within a handler, when what it met may be over in a moment.

What takes longer than moments is better left to the job's own attempts, which hold no worker up meanwhile.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import wraps
from typing import ParamSpec, TypeVar

from skycap.backoff import Backoff
from skycap.errors import BreakerOpen

P = ParamSpec("P")
T = TypeVar("T")

_WAITS = Backoff(first=timedelta(seconds=1), factor=2, longest=timedelta(seconds=30), jitter=0.3, attempts=1)
"""The backend's own figures: 1 s, 2 s, 4 s, …, and up to 30 % more, so that callers do not come back together."""


def retrying(
    *exceptions: type[Exception], retries: int = 3
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Awaitable[T]]]:
    """Call an async function up to ``retries`` times more while it raises one of ``exceptions``; then that one passes.

    It waits 1 s, 2 s, 4 s and so on, at most 30 s, and up to 30 % more by chance. Signals and BreakerOpen, which has a
    wait of its own, always pass. Raises TypeError without exceptions, and for a function that is not async.
    """
    if not exceptions:
        raise TypeError("retrying: say which exceptions may be over in a moment, as in @retrying(Unavailable)")

    def decorate(function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"retrying: {getattr(function, '__qualname__', function)} is not async")

        @wraps(function)
        async def call(*args: P.args, **kwargs: P.kwargs) -> T:
            import stamina  # here, since `import skycap` loads no more than it needs

            waits = Waits(exceptions)
            async for attempt in stamina.retry_context(on=waits, attempts=retries + 1, timeout=None):
                with attempt:
                    return await function(*args, **kwargs)
            raise AssertionError("the last attempt either returns or raises")

        return call

    return decorate


class Waits:
    """What stamina asks after each error of one call: whether to make it again, and when."""

    def __init__(self, exceptions: tuple[type[Exception], ...]) -> None:
        self._exceptions = exceptions
        self._errors = 0

    def __call__(self, error: Exception) -> bool | timedelta:
        if not isinstance(error, self._exceptions) or isinstance(error, BreakerOpen):
            return False
        self._errors += 1
        return min(_WAITS.wait(self._errors), _WAITS.longest)
