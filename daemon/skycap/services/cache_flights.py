"""Flights: who of this process is at a key already, so that the others wait in one place, and not in Redis."""

from __future__ import annotations

import asyncio


class Flight:
    """Something under way: a load, or a wait for one elsewhere."""

    def __init__(self, flights: dict[str, Flight], key: str, *, is_load: bool) -> None:
        self.is_load = is_load
        self.is_awaited = False
        self._flights = flights
        self._key = key
        self._landed: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

    def land(self, document: bytes | None = None, error: Exception | None = None) -> None:
        """Tell those who wait what was loaded, or why it failed; neither: they should look again."""
        if self._flights.get(self._key) is self:
            del self._flights[self._key]
        if self._landed.done():
            return
        if error is None:
            self._landed.set_result(document)
        else:
            self._landed.set_exception(error)
            self._landed.exception()  # it is no loss if nobody waits

    async def landed(self) -> bytes | None:
        """What was loaded; None when it is time to look again. Raises what the load raised."""
        self.is_awaited = True
        return await asyncio.shield(self._landed)


class Flights:
    """All that are under way, by key."""

    def __init__(self) -> None:
        self._under_way: dict[str, Flight] = {}

    def of(self, key: str) -> Flight | None:
        return self._under_way.get(key)

    def begin(self, key: str, *, is_load: bool = True) -> Flight:
        flight = self._under_way[key] = Flight(self._under_way, key, is_load=is_load)
        return flight
