"""Situations of a fleet at one frozen moment: well, in trouble, without Redis, and with hostile names."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from skycap.breaker import BreakerState
from skycap.display.situation import CacheUse, Dependency, ScheduleLine, Situation
from skycap.engine.alarms import Alarm
from skycap.engine.breakers import BreakerStatus
from skycap.engine.dead_letters import DeadLetter
from skycap.engine.fleet import Presence, Slots
from skycap.engine.minutes import Minute
from skycap.engine.queue import Counts
from skycap.engine.standing import Standing
from skycap.overview import Overview, QueueOverview

NOW: Final = datetime(2026, 11, 28, 3, 4, 5, tzinfo=UTC)
HERE: Final = "jobs-1:4711:a1b2c3"
MIB: Final = 1024 * 1024
HOSTILE: Final = "<script>alert(1)</script>\"'&"


def ago(**duration: float) -> datetime:
    return NOW - timedelta(**duration)


def queue(
    *,
    waiting: int = 0,
    running: int = 0,
    later: int = 0,
    dead: int = 0,
    at_limits: int = 0,
    oldest_seconds: float | None = None,
    paused_because: str | None = None,
    busy: int = 0,
    failing: int = 0,
) -> QueueOverview:
    """``busy``: about so many jobs end in a minute. ``failing``: so many failed in the last quarter of an hour."""
    return QueueOverview(
        counts=Counts(
            available=waiting,
            later=later,
            running=running,
            discarded=dead,
            is_paused=paused_because is not None,
            paused_because=paused_because or "",
            waiting_at_limits=at_limits,
        ),
        standing=Standing(
            enqueued=0,
            deduplicated=0,
            reclaimed=0,
            completed=0,
            retried=0,
            discarded=0,
            dead=dead,
            oldest_waiting=None if oldest_seconds is None else timedelta(seconds=oldest_seconds),
            paused_because=paused_because or "",
        ),
        minutes=[
            Minute(
                at=ago(minutes=59 - place),
                completed=busy * round(100 + 45 * math.sin(place / 9) + place * 7919 % 29) // 100,
                retried=failing if place > 44 else int(failing > 0 and place == 12),
            )
            for place in range(60)
        ],
    )


def daemon(host: str, process: int, *, version: str = "0.1.0", draining: bool = False, **up: float) -> Presence:
    return Presence(
        id=HERE if host == "jobs-1" else f"{host}:{process}:d4e5f6",
        host=host,
        process=process,
        version=version,
        python="3.11.2",
        started_at=ago(**up),
        queues={
            "email": Slots(running=2, concurrency=3),
            "processing": Slots(running=1, concurrency=5),
            "scheduled": Slots(running=0, concurrency=2),
            "default": Slots(running=0, concurrency=5),
        },
        memory_bytes=142 * MIB,
        is_draining=draining,
    )


def breaker(name: str, state: BreakerState = BreakerState.CLOSED, **figures: int) -> BreakerStatus:
    return BreakerStatus(
        name=name,
        state=state,
        failures=figures.get("failed", 0),
        successes=0,
        probes=0,
        calls=figures.get("calls", 0),
        failed_calls=figures.get("failed", 0),
        since=None if state is BreakerState.CLOSED else ago(minutes=4),
        tries_again_in=timedelta(seconds=12) if state is BreakerState.OPEN else None,
        forced=False,
    )


def alarm(name: str, text: str, *, severity: str = "critical", minutes: float) -> Alarm:
    return Alarm(
        name=name,
        state="firing",
        since=ago(minutes=minutes),
        fired_at=ago(minutes=minutes - 1),
        recovered_at=None,
        told_at=ago(minutes=minutes - 1),
        reading={"text": text, "severity": severity, "value": 1},
    )


PARTNERS: Final = ("amadeus", "booking-com", "email", "google-places", "openai", "stripe")

_SCHEDULES: Final = [
    ScheduleLine(
        name="check-price-alerts",
        when="0 */6 * * *",
        last=ago(hours=3, minutes=4, seconds=5),
        outcome="completed",
        next=NOW + timedelta(hours=2, minutes=55, seconds=55),
        standing="on",
    ),
    ScheduleLine(
        name="cleanup-old-data",
        when="0 2 * * *",
        last=ago(hours=1, minutes=4, seconds=5),
        outcome="completed",
        next=NOW + timedelta(hours=22, minutes=55),
        standing="on",
    ),
    ScheduleLine(
        name="report-at-night",
        when="30 2 * * *",
        last=None,
        outcome="",
        next=NOW + timedelta(days=1),
        standing="off",
    ),
]

WELL: Final = Situation(
    at=NOW,
    version="0.1.0",
    daemon=HERE,
    overview=Overview(
        at=NOW,
        queues={
            "email": queue(waiting=3, running=4, later=12, oldest_seconds=0.4, busy=24),
            "processing": queue(waiting=1204, running=2, later=3, oldest_seconds=41, busy=420),
            "scheduled": queue(later=1),
            "default": queue(),
        },
        daemons=[daemon("jobs-1", 4711, days=3, hours=4), daemon("jobs-2", 992, days=3, hours=4)],
        breakers={name: breaker(name, calls=240, failed=2 if name == "amadeus" else 0) for name in PARTNERS},
        alarms=[],
    ),
    dependencies=(
        Dependency(name="Redis", state="ok", response_time=timedelta(milliseconds=0.6)),
        Dependency(name="PostgreSQL", state="ok", response_time=timedelta(milliseconds=2)),
    ),
    schedules=_SCHEDULES,
    cache=CacheUse(hits=182_411, requests=203_117, is_fleet=True),
    dead_letters=[],
    is_watched=True,
)

TROUBLED: Final = replace(
    WELL,
    overview=replace(
        WELL.overview,
        queues={
            "email": queue(
                waiting=18_211,
                running=0,
                later=240,
                dead=7,
                oldest_seconds=2460,
                paused_because="the mail server refused our log-in (535 5.7.8)",
            ),
            "processing": queue(
                waiting=1204, running=2, later=3, dead=112, at_limits=310, oldest_seconds=41, busy=420, failing=90
            ),
            "scheduled": queue(later=1),
            "default": queue(),
        },
        daemons=[
            daemon("jobs-1", 4711, days=3, hours=4),
            daemon("jobs-2", 992, days=3, hours=4, draining=True),
            daemon("jobs-3", 20_118, version="0.2.0rc1", minutes=2),
        ],
        breakers={
            **{name: breaker(name, calls=240) for name in PARTNERS},
            "stripe": breaker("stripe", BreakerState.OPEN, calls=31, failed=31),
        },
        alarms=[
            alarm(
                "dead_letters processing", "the dead-letter queue of processing has grown by 98 within 1 h", minutes=26
            ),
            alarm("queue_paused email", "queue email has paused itself", minutes=41),
        ],
    ),
    dependencies=(
        *WELL.dependencies,
        Dependency(
            name="amadeus-quota", noun="check", state="degraded", reason="under a tenth of the day's calls is left"
        ),
    ),
    schedules=[
        replace(_SCHEDULES[0], outcome="discarded"),
        _SCHEDULES[1],
        replace(_SCHEDULES[2], standing="paused"),
    ],
    dead_letters=[
        *(
            DeadLetter(queue="processing", kind="process-booking", reason="attempts used up", at=ago(minutes=each))
            for each in range(3, 21)
        ),
        DeadLetter(queue="email", kind="send-price-alert", reason="permanent", at=ago(minutes=52)),
        DeadLetter(queue="processing", kind="generate-report", reason="poison", at=ago(days=2)),
    ],
)

WITHOUT_REDIS: Final = replace(
    WELL,
    overview=Overview(at=None, queues=dict.fromkeys(WELL.overview.queues), daemons=None, breakers=None, alarms=None),
    dependencies=(
        Dependency(name="Redis", state="down", silent_for=timedelta(minutes=8)),
        WELL.dependencies[1],
    ),
    schedules=None,
    cache=replace(WELL.cache or CacheUse(hits=0, requests=0, is_fleet=False), is_fleet=False),
    dead_letters=None,
)

UNDER_ATTACK: Final = replace(
    WELL,
    daemon=HOSTILE,
    version=HOSTILE,
    overview=Overview(
        at=NOW,
        queues={HOSTILE: queue(waiting=1, paused_because=HOSTILE)},
        daemons=[replace(daemon("jobs-1", 1, hours=1), host=HOSTILE, version=HOSTILE)],
        breakers={HOSTILE: breaker(HOSTILE, BreakerState.HALF_OPEN, calls=1)},
        alarms=[alarm(HOSTILE, HOSTILE, minutes=2)],
    ),
    dependencies=(Dependency(name=HOSTILE, state="down", reason=HOSTILE),),
    schedules=[
        ScheduleLine(name=HOSTILE, when=HOSTILE, last=NOW, outcome=HOSTILE, next=NOW, standing=HOSTILE),
    ],
    dead_letters=[DeadLetter(queue=HOSTILE, kind=HOSTILE, reason=HOSTILE, at=NOW)],
)

SITUATIONS: Final = {
    "well": WELL,
    "troubled": TROUBLED,
    "without-redis": WITHOUT_REDIS,
    "under-attack": UNDER_ATTACK,
}
