"""Memory: when a daemon has so much of it that it should be started again, before the kernel ends it in mid-job."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import structlog

from skycap.maintenance.presence import resident_bytes
from skycap.observe.cgroup import memory_limit
from skycap.settings import WorkerSettings

_log = structlog.get_logger("skycap.memory")

LOOK = timedelta(seconds=5)

_OF_THE_GROUP = 0.9
"""Of what the kernel allows: the rest is for the drain."""

_MIB = 1024 * 1024


async def memory_used_up(settings: Callable[[], WorkerSettings]) -> str:
    """Return the reason when the resident memory is over its limit, which a reload may change."""
    at_start = resident_bytes()
    too_low: int | None = None
    while True:
        limit = _limit(settings())
        if limit is not None and at_start > limit and limit != too_low:
            too_low = limit
            # It would be over it again after each restart, until systemd gives up.
            _log.error(
                "memory limit ignored",
                limit_mib=limit // _MIB,
                used_mib=at_start // _MIB,
                then="the daemon needs more to start: raise worker.max_memory or MemoryMax",
            )
        used = resident_bytes()
        if limit is not None and limit != too_low and used > limit:
            _log.warning("memory used up; restarting", limit_mib=limit // _MIB, used_mib=used // _MIB)
            return f"memory used up, {used // _MIB} of {limit // _MIB} MiB"
        await asyncio.sleep(LOOK.total_seconds())


def _limit(settings: WorkerSettings) -> int | None:
    if settings.max_memory is not None:
        return settings.max_memory_bytes
    allowed = memory_limit()
    return None if allowed is None else int(allowed * _OF_THE_GROUP)
