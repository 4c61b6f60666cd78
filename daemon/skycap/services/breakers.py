"""FleetBreakers: what handlers call partners behind; the state is the fleet's, and each process only asks for it.

Where Redis does not answer, calls go through: a breaker shields a partner that fails, and must not be one more thing
that does. No job is claimed without Redis anyway, so that only those that run already make a call or two unshielded.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Literal, Protocol, TypeVar
from uuid import uuid4

import structlog

from skycap.breaker import BreakerChange, BreakerSpec, BreakerState
from skycap.context import Log
from skycap.errors import BreakerOpen, ConfigurationError, PermanentError, Unavailable

T = TypeVar("T")

Result = Literal["ok", "failed", ""]
"""How a call went; blank when that says nothing of the partner."""

_log: Log = structlog.get_logger(__name__)

_CHANGES = {
    BreakerState.OPEN: "breaker opened",
    BreakerState.HALF_OPEN: "breaker lets probes through",
    BreakerState.CLOSED: "breaker closed",
}

_MARGIN = timedelta(seconds=5)
"""A call is ended at its time limit; whoever has not said so by then has died."""


class SharedState(Protocol):
    """The state of all breakers, for the whole fleet. Its methods raise Unavailable."""

    async def begin(
        self, spec: BreakerSpec, call: str, *, lease: timedelta
    ) -> tuple[timedelta | None, BreakerChange | None]:
        """None when the call may be made, else the wait; and a change of state that nobody was told of yet."""
        ...

    async def finish(self, spec: BreakerSpec, call: str, result: Result) -> BreakerChange | None: ...


class FleetBreakers:
    """See skycap.breaker.Breakers. ``on_change`` is told of each change by one process of the fleet."""

    def __init__(
        self,
        specs: Mapping[str, BreakerSpec],
        state: SharedState,
        *,
        on_change: Callable[[BreakerChange], Awaitable[None]] | None = None,
    ) -> None:
        self.specs = dict(specs)
        self.calls: Counter[tuple[str, str]] = Counter()
        """How many calls of this process ended how, by breaker: ok, failed, refused (not made)."""
        self._breakers = {name: FleetBreaker(spec, self) for name, spec in specs.items()}
        self._on_change = on_change
        self._errands: set[asyncio.Task[None]] = set()
        self.state = state

    def __getitem__(self, name: str) -> FleetBreaker:
        if name not in self._breakers:
            raise ConfigurationError(
                f"breakers.{name}: there is no such breaker; add a [breakers.{name}] table, or declare it by "
                f"plugin.breaker(BreakerSpec(name={name!r})); known: {', '.join(sorted(self._breakers))}"
            )
        return self._breakers[name]

    def tell(self, change: BreakerChange | None) -> None:
        """Log a change and tell the listener, while whoever met it goes on."""
        if change is None:
            return
        log = _log.info if change.state is BreakerState.CLOSED else _log.warning
        log(_CHANGES[change.state], breaker=change.breaker, state=change.state.value)
        if self._on_change is not None:
            self.errand(self._on_change(change))

    def errand(self, work: Awaitable[Any]) -> None:
        """Do something that nobody waits for."""
        task = asyncio.create_task(_done(work), name="breaker")
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    async def close(self) -> None:
        """Wait for what is still to be told."""
        await asyncio.gather(*self._errands)


class FleetBreaker:
    """See skycap.breaker.Breaker."""

    def __init__(self, spec: BreakerSpec, breakers: FleetBreakers) -> None:
        self.spec = spec
        self._breakers = breakers

    @property
    def name(self) -> str:
        return self.spec.name

    @asynccontextmanager
    async def guard(self, *, timeout: timedelta | None = None) -> AsyncGenerator[None]:
        limit = timeout or self.spec.timeout
        call = await self.admit(lease=limit + _MARGIN)
        within = asyncio.timeout(limit.total_seconds())
        try:
            async with within:
                yield
        except PermanentError:
            await call.end("ok")
            raise
        except BreakerOpen:
            await call.end("")  # another one was met within
            raise
        except TimeoutError as error:
            await call.end("failed")
            if not within.expired():
                raise
            raise Unavailable(self.name, f"no answer within {limit.total_seconds():g} s") from error
        except Exception:
            await call.end("failed")
            raise
        except BaseException:
            # A signal, or this task is being cancelled and should not wait for anything.
            self._breakers.errand(call.end(""))
            raise
        await call.end("ok")

    async def call(
        self,
        function: Callable[[], Awaitable[T]],
        *,
        timeout: timedelta | None = None,
        fallback: Callable[[], Awaitable[T]] | None = None,
    ) -> T:
        try:
            async with self.guard(timeout=timeout):
                return await function()
        except Exception:
            if fallback is None:
                raise
            return await fallback()

    async def admit(self, *, lease: timedelta | None = None) -> Call:
        """The right to make one call, whose end must be told within ``lease``; raises BreakerOpen.

        For who tells failures from answers in a way of its own; others are better served by ``guard``.
        """
        name = uuid4().hex
        try:
            wait, change = await self._breakers.state.begin(self.spec, name, lease=lease or self.spec.timeout + _MARGIN)
        except Unavailable:
            return Call(self, None)  # see the head of this module
        self._breakers.tell(change)
        if wait is not None:
            self._breakers.calls[self.name, "refused"] += 1
            raise BreakerOpen(self.name, wait)
        return Call(self, name)

    async def finish(self, call: str | None, result: Result) -> None:
        if result:
            self._breakers.calls[self.name, result] += 1
        if call is None:
            return
        try:
            self._breakers.tell(await self._breakers.state.finish(self.spec, call, result))
        except Unavailable:
            return  # as if it had not been made


class Call:
    """One call that is being made."""

    __slots__ = ("_breaker", "_name", "is_over")

    def __init__(self, breaker: FleetBreaker, name: str | None) -> None:
        self.is_over = False
        self._breaker = breaker
        self._name = name

    async def end(self, result: Result) -> None:
        """Only the first one counts."""
        if not self.is_over:
            self.is_over = True
            await self._breaker.finish(self._name, result)


async def _done(work: Awaitable[Any]) -> None:
    await work
