"""The breakers as they stand, in the dashboards' words: states in capitals, rates as a fraction or a percentage."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from skycap.breaker import BreakerState
from skycap.engine.breakers import BreakerStatus
from skycap.errors import Unavailable
from skycap.http.access import needs_elsewhere
from skycap.http.scopes import Scope

_LIMIT_SECONDS = 2.0

_OLD_WORDS = {BreakerState.CLOSED: "CLOSED", BreakerState.OPEN: "OPEN", BreakerState.HALF_OPEN: "HALF_OPEN"}


class BreakerStatuses:
    """Asks how the breakers stand. Where Redis does not answer, each is there, and nothing is known of it."""

    def __init__(
        self,
        names: tuple[str, ...],
        ask: Callable[[], Awaitable[Mapping[str, BreakerStatus]]],
        own_calls: Mapping[tuple[str, str], int],
    ) -> None:
        """``own_calls``: those of this daemon, by breaker and result."""
        self._names = names
        self._ask = ask
        self._own_calls = own_calls

    async def now(self) -> Mapping[str, BreakerStatus | None]:
        try:
            async with asyncio.timeout(_LIMIT_SECONDS):
                found = await self._ask()
        except (Unavailable, TimeoutError):
            return dict.fromkeys(self._names)
        return {name: found[name] for name in self._names}

    def own_calls(self, name: str) -> dict[str, int]:
        """Of this daemon since its start, by how they ended; refused: not made, since the breaker was open."""
        return {result: self._own_calls.get((name, result), 0) for result in ("ok", "failed", "refused")}


class BreakerRoutes:
    """``/api/system/circuit-breakers``."""

    def __init__(self, statuses: BreakerStatuses) -> None:
        self._statuses = statuses

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/api/system/circuit-breakers", self.breakers)

    @needs_elsewhere(Scope.READ)
    async def breakers(self, _request: web.Request) -> web.Response:
        """Failure rates are percentages here, fractions in the health overview; ``worker`` is this daemon's part."""
        found = await self._statuses.now()
        return web.json_response(
            {name: {**_in_percent(status), "worker": self._statuses.own_calls(name)} for name, status in found.items()}
        )


def as_fraction(status: BreakerStatus | None) -> dict[str, Any]:
    """As the health overview has it."""
    if status is None:
        return {"state": None, "failureRate": None}
    return {"state": _OLD_WORDS[status.state], "failureRate": round(status.failure_rate, 4)}


def _in_percent(status: BreakerStatus | None) -> dict[str, Any]:
    if status is None:
        return {"state": None, "failureRate": None, "healthy": None}
    return {
        "state": _OLD_WORDS[status.state],
        "failureRate": round(100 * status.failure_rate, 2),
        "healthy": status.state is BreakerState.CLOSED,
    }
