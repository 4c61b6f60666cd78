"""Leases: keeps the claims that this worker holds alive, and notices those it has lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import structlog

from skycap.engine.queue import Claim, Queue
from skycap.errors import Unavailable

_log = structlog.get_logger("skycap.leases")

BEATS_PER_LEASE = 3
"""Two heartbeats may be lost before a lease runs out."""


class Leases:
    """Renews the leases of one queue's claims, whatever their handlers do, as long as the event loop turns."""

    def __init__(self, queue: Queue, *, lease: timedelta, on_end: Callable[[Claim, str], None]) -> None:
        """``on_end(claim, word)`` is called once for each claim that is 'lost' or was called off ('cancel')."""
        self._queue = queue
        self._lease = lease
        self._on_end = on_end
        self._held: dict[tuple[str, int], Claim] = {}

    def hold(self, claim: Claim) -> None:
        self._held[claim.key] = claim

    def release(self, claim: Claim) -> None:
        self._held.pop(claim.key, None)

    async def keep(self) -> None:
        """Renew until cancelled."""
        while True:
            await asyncio.sleep(self._lease.total_seconds() / BEATS_PER_LEASE)
            if self._held:
                await self._renew(list(self._held.values()))

    async def _renew(self, claims: list[Claim]) -> None:
        try:
            words = await self._queue.beat(claims, lease=self._lease)
        except Unavailable as error:
            # The handlers go on: if the lease runs out meanwhile, the fence refuses what they settle.
            _log.warning("leases not renewed", queue=self._queue.name, jobs=len(claims), problem=str(error))
            return
        for claim, word in zip(claims, words, strict=True):
            if word != "held" and claim.key in self._held:
                if word == "lost":
                    self.release(claim)
                self._on_end(claim, word)
