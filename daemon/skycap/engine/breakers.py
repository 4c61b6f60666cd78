"""FleetBreakers: the state of each breaker, one for the whole fleet; every question is one script in Redis."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from skycap.breaker import BreakerChange, BreakerSpec, BreakerState
from skycap.engine.policy import milliseconds
from skycap.engine.stored import moment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skycap.engine.link import Link

Result = Literal["ok", "failed", ""]
"""How a call went; blank when that says nothing of the partner."""

RATE_WINDOW = timedelta(minutes=5)
"""A failure rate is of the calls that ended in this time, to 30 seconds; lua/breaker.lua has the same figure."""


@dataclass(frozen=True, kw_only=True)
class BreakerStatus:
    """A breaker as it stands. ``failures`` and ``successes`` are those in a row that count towards the next change."""

    name: str
    state: BreakerState
    failures: int
    successes: int
    probes: int
    """The calls that are let through at present, while it is half open."""
    calls: int
    """Those that ended in the last RATE_WINDOW. One that began before the last change of state is not counted."""
    failed_calls: int
    since: datetime | None
    """When it came to this state; None: it has never left the first one."""
    tries_again_in: timedelta | None
    """None: it is not open, or open until somebody resets it."""
    forced: bool
    """Somebody has opened or closed it by hand."""

    @property
    def failure_rate(self) -> float:
        """From 0 to 1; 0 where there were no calls."""
        return self.failed_calls / self.calls if self.calls else 0.0

    def document(self, spec: BreakerSpec) -> dict[str, Any]:
        """As programs are told of it, with what its ``spec`` asks for."""
        left = self.tries_again_in
        return {
            "breaker": self.name,
            "state": self.state,
            "forced": self.forced,
            "failureRate": round(self.failure_rate, 4),
            "calls": self.calls,
            "failedCalls": self.failed_calls,
            "failuresInARow": self.failures,
            "successesInARow": self.successes,
            "probes": self.probes,
            "since": self.since,
            "triesAgainInSeconds": None if left is None else round(left.total_seconds(), 1),
            "opensAfter": spec.opens_after,
            "closesAfter": spec.closes_after,
            "triesAgainAfterSeconds": spec.tries_again_after.total_seconds(),
            "timeoutSeconds": spec.timeout.total_seconds(),
        }


class FleetBreakers:
    """Asks about breakers by their specs. Every method raises Unavailable, and may then be called again."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def begin(
        self, spec: BreakerSpec, call: str, *, lease: timedelta
    ) -> tuple[timedelta | None, BreakerChange | None]:
        """None when a call that has this unique name may be made, or how long to wait; and a change to be told of.

        While it is half open, the call takes the place of one probe until it has finished, or its lease has ended.
        """
        said, change = await self._ask(spec, "begin", call, milliseconds(lease))
        return (None if said < 0 else timedelta(milliseconds=said)), change

    async def finish(self, spec: BreakerSpec, call: str, result: Result) -> BreakerChange | None:
        """Tell how a call went; sent twice, or after the state has changed meanwhile, it does not count."""
        _, change = await self._ask(spec, "finish", call, result)
        return change

    async def open(self, spec: BreakerSpec, duration: timedelta | None = None) -> None:
        """Let no call pass, for ``duration`` or until it is reset; afterwards it is half open."""
        await self._ask(spec, "force", "open", "" if duration is None else milliseconds(duration))

    async def close(self, spec: BreakerSpec) -> None:
        """Let all calls pass, however they end, until it is reset."""
        await self._ask(spec, "force", "closed", "")

    async def reset(self, spec: BreakerSpec) -> None:
        """Begin anew: closed, and as its calls go."""
        await self._ask(spec, "force", "", "")

    async def status(self, spec: BreakerSpec) -> BreakerStatus:
        seen, state, _, remaining_ms = await self._call(spec, "look")
        failures, successes, since_ms, forced, ok, failed, probes = seen
        return BreakerStatus(
            name=spec.name,
            state=BreakerState(state.decode()),
            failures=failures,
            successes=successes,
            probes=probes,
            calls=ok + failed,
            failed_calls=failed,
            since=moment(since_ms) if since_ms else None,
            tries_again_in=None if remaining_ms < 0 else timedelta(milliseconds=remaining_ms),
            forced=forced != b"",
        )

    async def statuses(self, specs: Mapping[str, BreakerSpec]) -> dict[str, BreakerStatus]:
        found = await asyncio.gather(*(self.status(spec) for spec in specs.values()))
        return dict(zip(specs, found, strict=True))

    async def _ask(self, spec: BreakerSpec, verb: str, *arguments: str | float) -> tuple[int, BreakerChange | None]:
        said, state, is_news, remaining_ms = await self._call(spec, verb, *arguments)
        if not is_news:
            return said, None
        tries_again_in = spec.tries_again_after if remaining_ms < 0 else timedelta(milliseconds=remaining_ms)
        return said, BreakerChange(
            breaker=spec.name,
            state=BreakerState(state.decode()),
            tries_again_in=min(tries_again_in, spec.tries_again_after),
        )

    async def _call(self, spec: BreakerSpec, verb: str, *arguments: str | float) -> Any:
        figures = (spec.opens_after, spec.closes_after, milliseconds(spec.tries_again_after))
        return await self._link.call("breaker", f"skycap:{{breaker:{spec.name}}}:", verb, *figures, *arguments)
