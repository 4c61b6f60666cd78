"""The overview as a document for programs, in our own words; what is null is not known."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from skycap.display.hour import Hour
from skycap.display.rows import queue_rows
from skycap.display.troubles import troubles_of

if TYPE_CHECKING:
    from skycap.engine.alarms import Alarm
    from skycap.engine.breakers import BreakerStatus
    from skycap.engine.fleet import Presence
    from skycap.overview import Overview, QueueOverview


def document_of(overview: Overview) -> dict[str, Any]:
    """Moments are datetimes: whoever writes it as JSON knows how."""
    at, daemons, breakers, alarms = overview.at, overview.daemons, overview.breakers, overview.alarms
    troubles = None if at is None else troubles_of(overview, now=at)
    return {
        "at": at,
        "troubles": troubles and [{"text": each.text, "since": each.since} for each in troubles],
        "queues": {row.name: row.queue and _queue(row.queue, row.concurrency) for row in queue_rows(overview)},
        "daemons": daemons and [_daemon(each) for each in daemons],
        "breakers": breakers and {name: _breaker(each) for name, each in breakers.items()},
        "alarms": alarms and [_alarm(each) for each in alarms],
    }


def _queue(queue: QueueOverview, concurrency: int | None) -> dict[str, Any]:
    counts, standing, hour = queue.counts, queue.standing, Hour.of(queue.minutes)
    return {
        "waiting": counts.available,
        "waitingAtLimits": counts.waiting_at_limits,
        "oldestWaitingSeconds": _seconds(standing.oldest_waiting),
        "running": counts.running,
        "concurrency": concurrency,
        "later": counts.later,
        "dead": counts.discarded,
        "paused": counts.is_paused,
        "pausedBecause": counts.paused_because or None,
        "completed": standing.completed,
        "retried": standing.retried,
        "discarded": standing.discarded,
        "perMinute": hour.rate,
        "failedInLastHour": hour.failures,
    }


def _daemon(daemon: Presence) -> dict[str, Any]:
    return {
        "id": daemon.id,
        "host": daemon.host,
        "process": daemon.process,
        "version": daemon.version,
        "python": daemon.python,
        "startedAt": daemon.started_at,
        "queues": {name: vars(slots) for name, slots in daemon.queues.items()},
        "memoryBytes": daemon.memory_bytes,
        "draining": daemon.is_draining,
    }


def _breaker(status: BreakerStatus) -> dict[str, Any]:
    return {
        "state": status.state,
        "forced": status.forced,
        "calls": status.calls,
        "failedCalls": status.failed_calls,
        "since": status.since,
        "triesAgainInSeconds": _seconds(status.tries_again_in),
    }


def _alarm(alarm: Alarm) -> dict[str, Any]:
    return {
        "alarm": alarm.name,
        "state": alarm.state,
        "since": alarm.since,
        "toldAt": alarm.told_at,
        "summary": alarm.reading.get("text"),
    }


def _seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else round(duration.total_seconds(), 3)
