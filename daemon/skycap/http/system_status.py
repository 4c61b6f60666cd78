"""``/api/system/status`` and ``/api/system/history``: the whole fleet as one document, and what it did of late."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from aiohttp import web

from skycap.breaker import BreakerState
from skycap.engine.minutes import MOST_MINUTES, Minute, minutes, together
from skycap.engine.queue import Queue
from skycap.http.access import needs_elsewhere
from skycap.http.answers import json_answer
from skycap.http.breakers import as_fraction
from skycap.http.cache import cache_document
from skycap.http.dependencies import Dependencies, Reading
from skycap.http.errors import INVALID_REQUEST, NOT_FOUND, ApiError
from skycap.http.scopes import Scope
from skycap.overview import Overview, QueueOverview
from skycap.patience import in_time

if TYPE_CHECKING:
    from skycap.engine.alarms import Alarm
    from skycap.engine.breakers import BreakerStatus
    from skycap.engine.fleet import Presence, Slots
    from skycap.services.cache import CacheService

RATES_OVER = 5
"""Minutes, the present one among them."""
HISTORY_OF = 60
"""Minutes, unless more or fewer are asked for."""

_MINUTES_THAT_ARE_KEPT = frozenset(map(str, range(1, MOST_MINUTES + 1)))

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class StatusSources:
    """Where the figures come from."""

    overview: Callable[[int], Awaitable[Overview]]
    """Of the fleet, with so many minutes."""
    me: Callable[[], Presence]
    """This daemon."""
    schedules: Callable[[], Awaitable[Sequence[Mapping[str, Any]]]]
    cache: CacheService
    dependencies: Dependencies
    queues: Mapping[str, Queue]


class StatusRoutes:
    """Whatever is down, status answers within two seconds, and says null where it does not know."""

    def __init__(self, sources: StatusSources) -> None:
        self._sources = sources

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/api/system/status", self.status)
        router.add_get("/api/system/history", self.history)

    @needs_elsewhere(Scope.READ)
    async def status(self, request: web.Request) -> web.Response:
        """The overview. ``?minutes=``: each queue with its history."""
        asked = _minutes(request, default=0)
        sources = self._sources
        overview, readings, schedules, cache = await asyncio.gather(
            sources.overview(max(asked, RATES_OVER)),
            sources.dependencies.readings(),
            in_time(sources.schedules()),
            in_time(sources.cache.fleet_figures()),
        )
        me = sources.me()
        return json_answer(
            {
                "status": _word(overview, readings),
                "at": overview.at,
                "version": me.version,
                "worker": {
                    **_daemon(me),
                    "uptimeSeconds": round((datetime.now(UTC) - me.started_at).total_seconds(), 1),
                },
                "queues": {
                    name: _queue(found, overview.daemons, me.queues.get(name), name=name, history_of=asked)
                    for name, found in overview.queues.items()
                },
                "daemons": None if overview.daemons is None else [_daemon(each) for each in overview.daemons],
                "circuitBreakers": _breakers(overview.breakers),
                "schedules": schedules,
                "cache": cache_document(cache, sources.cache.own_figures()),
                "alarms": None if overview.alarms is None else [_alarm(each) for each in overview.alarms],
                "dependencies": {name: _dependency(reading) for name, reading in readings.items()},
            },
        )

    @needs_elsewhere(Scope.READ)
    async def history(self, request: web.Request) -> web.Response:
        """Minute by minute, of one queue (``?queue=``) or of all; raises Unavailable where Redis does not answer."""
        last = _minutes(request, default=HISTORY_OF)
        name = request.query.get("queue")
        if name is not None and name not in self._sources.queues:
            raise ApiError(NOT_FOUND, f"there is no queue {name!r}; there are {', '.join(self._sources.queues)}")
        queues = [self._sources.queues[name]] if name is not None else list(self._sources.queues.values())
        found = await asyncio.gather(*(minutes(queue, last=last) for queue in queues))
        document = {queue.name: _history(its) for queue, its in zip(queues, found, strict=True)}
        return json_answer({"minutes": last, "queues": document})


def _minutes(request: web.Request, *, default: int) -> int:
    given = request.query.get("minutes")
    if given is None:
        return default
    if given not in _MINUTES_THAT_ARE_KEPT:
        raise ApiError(INVALID_REQUEST, f"minutes: give a whole number from 1 to {MOST_MINUTES}")
    return int(given)


def _word(overview: Overview, readings: Mapping[str, Reading | None]) -> str:
    """``down``: no job runs. ``degraded``: something that a person may want to look at."""
    redis = readings["redis"]
    if redis is None or not redis.is_up:
        return "down"
    is_well = (
        all(reading is None or reading.is_up for reading in readings.values())
        and None not in overview.queues.values()
        and not any(alarm.state == "firing" for alarm in overview.alarms or ())
        and all(status.state is BreakerState.CLOSED for status in (overview.breakers or {}).values())
    )
    return "ok" if is_well else "degraded"


def _daemon(daemon: Presence) -> dict[str, Any]:
    return {
        "id": daemon.id,
        "host": daemon.host,
        "process": daemon.process,
        "version": daemon.version,
        "python": daemon.python,
        "startedAt": daemon.started_at,
        "draining": daemon.is_draining,
        "memoryBytes": daemon.memory_bytes,
        "queues": {name: _slots(slots) for name, slots in daemon.queues.items()},
    }


def _slots(slots: Slots) -> dict[str, int]:
    return {"running": slots.running, "concurrency": slots.concurrency}


def _queue(
    found: QueueOverview | None,
    daemons: Sequence[Presence] | None,
    own: Slots | None,
    *,
    name: str,
    history_of: int,
) -> dict[str, Any]:
    """First the dashboards' words, then ours. What is not known is null."""
    serving = [daemon.queues[name] for daemon in daemons or () if name in daemon.queues]
    document: dict[str, Any] = dict.fromkeys(_FIGURES)
    if found is not None:
        counts, stands = found.counts, found.standing
        document = {
            "waiting": counts.available,
            "active": counts.running,
            "delayed": counts.later,
            "failed": counts.discarded,
            "paused": counts.is_paused,
            "pausedBecause": counts.paused_because or None,
            "waitingAtLimits": counts.waiting_at_limits,
            "oldestWaitingSeconds": _seconds(stands.oldest_waiting),
            "totals": {
                "completed": stands.completed,
                "retried": stands.retried,
                "discarded": stands.discarded,
            },
            "lately": _lately(found.minutes[-RATES_OVER:]),
        }
    document["fleet"] = (
        None
        if daemons is None
        else {
            "daemons": len(serving),
            "running": sum(slots.running for slots in serving),
            "concurrency": sum(slots.concurrency for slots in serving),
        }
    )
    document["worker"] = None if own is None else _slots(own)
    if history_of:
        document["history"] = None if found is None else _history(found.minutes[-history_of:])
    return document


_FIGURES = (
    *("waiting", "active", "delayed", "failed", "paused", "pausedBecause", "waitingAtLimits"),
    *("oldestWaitingSeconds", "totals", "lately"),
)


def _lately(found: Sequence[Minute]) -> dict[str, Any]:
    return {"minutes": len(found), **_happened(together(found))}


def _history(found: Sequence[Minute]) -> list[dict[str, Any]]:
    return [{"at": minute.at, **_happened(minute)} for minute in found]


def _happened(minute: Minute) -> dict[str, Any]:
    mean = minute.wait_total / minute.started if minute.started else None
    return {
        "added": minute.added,
        "started": minute.started,
        "completed": minute.completed,
        "retried": minute.retried,
        "discarded": minute.discarded,
        "cancelled": minute.cancelled,
        "snoozed": minute.snoozed,
        "reclaimed": minute.reclaimed,
        "waitSeconds": {
            "mean": _seconds(mean),
            "p50": _seconds(minute.wait(0.5)),
            "p95": _seconds(minute.wait(0.95)),
            "longest": _seconds(minute.wait_longest),
        },
    }


def _breakers(found: Mapping[str, BreakerStatus] | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        name: {
            **as_fraction(status),
            "calls": status.calls,
            "failedCalls": status.failed_calls,
            "since": status.since,
            "triesAgainInSeconds": _seconds(status.tries_again_in),
            "forced": status.forced,
        }
        for name, status in found.items()
    }


def _alarm(alarm: Alarm) -> dict[str, Any]:
    reading = alarm.reading
    return {
        "alarm": alarm.name,
        "state": alarm.state,
        **{name: reading.get(name) for name in ("rule", "subject", "severity", "value")},
        "summary": reading.get("text"),
        "since": alarm.since,
        "firedAt": alarm.fired_at,
        "recoveredAt": alarm.recovered_at,
    }


def _dependency(reading: Reading | None) -> dict[str, Any] | None:
    """As the health overview has it; null where this installation has none."""
    if reading is None:
        return None
    milliseconds = (
        None if reading.response_time is None else round(reading.response_time / timedelta(milliseconds=1), 1)
    )
    return {"connected": reading.is_up, "responseMs": milliseconds, "problem": reading.problem or None}


def _seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else round(duration.total_seconds(), 3)
