"""Metrics of the whole fleet, as Redis has them: each daemon says the same, so they are not to be added up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from skycap.breaker import BreakerState
from skycap.observe.families import Family, counter, gauge, number

if TYPE_CHECKING:
    from skycap.engine.breakers import BreakerStatus
    from skycap.engine.fleet import Presence
    from skycap.overview import Overview, QueueOverview


@dataclass(frozen=True, kw_only=True)
class ScheduleFigures:
    """One schedule. ``period`` is None of one that ticks once; the last two, of one that has never succeeded."""

    name: str
    is_on: bool
    period: timedelta | None
    succeeded_at: datetime | None
    took: timedelta | None


@dataclass(frozen=True, kw_only=True)
class FleetLook:
    """What is None was not answered in time, or there is none."""

    overview: Overview | None
    schedules: Sequence[ScheduleFigures] | None
    outbox_age: timedelta | None


def of_fleet(look: FleetLook, *, queues: Sequence[str]) -> Iterator[Family]:
    """``queues``: those that this daemon serves."""
    overview = look.overview
    if overview is not None:
        known = {name: found for name, found in overview.queues.items() if found is not None}
        yield from _of_queues(known)
        if overview.daemons is not None:
            yield _consumers(overview.daemons, queues)
        yield from _of_breakers(list((overview.breakers or {}).values()))
    yield from _of_schedules(look.schedules or ())
    yield number(
        "skycap_outbox_oldest_age_seconds",
        "How long the oldest job in PostgreSQL's outbox has waited to be moved to Redis; 0 when none does.",
        None if look.outbox_age is None else look.outbox_age.total_seconds(),
    )


def _of_queues(queues: Mapping[str, QueueOverview]) -> Iterator[Family]:
    yield gauge(
        "skycap_queue_jobs",
        "Jobs of the whole fleet by where they stand: each is in one state.",
        ("queue", "state"),
        [
            ((name, state), jobs)
            for name, queue in queues.items()
            for state, jobs in (
                ("waiting", queue.counts.available - queue.counts.waiting_at_limits),
                ("waiting_at_limit", queue.counts.waiting_at_limits),
                ("delayed", queue.counts.later),
                ("active", queue.counts.running),
                ("dead", queue.counts.discarded),
            )
        ],
    )
    yield gauge(
        "skycap_queue_oldest_waiting_age_seconds",
        "How long the oldest job has waited that could run and waits at no limit; 0 when none does.",
        ("queue",),
        [((name,), (queue.standing.oldest_waiting or timedelta(0)).total_seconds()) for name, queue in queues.items()],
    )
    yield gauge(
        "skycap_queue_paused",
        "1 while no job of it is started.",
        ("queue",),
        [((name,), queue.counts.is_paused) for name, queue in queues.items()],
    )
    yield counter(
        "skycap_jobs_enqueued_total",
        "Requests for a job in the whole fleet, whichever way they came; deduplicated: there was such a job.",
        ("queue", "deduplicated"),
        [
            ((name, is_known), number_of)
            for name, queue in queues.items()
            for is_known, number_of in (("false", queue.standing.enqueued), ("true", queue.standing.deduplicated))
        ],
    )
    yield counter(
        "skycap_jobs_reclaimed_total",
        "Jobs of the whole fleet that were taken back from a worker that went silent.",
        ("queue",),
        [((name,), queue.standing.reclaimed) for name, queue in queues.items()],
    )


def _consumers(daemons: Sequence[Presence], queues: Sequence[str]) -> Family:
    serving = [daemon.queues.keys() for daemon in daemons if not daemon.is_draining]
    return gauge(
        "skycap_queue_consumers",
        "Daemons of the fleet that take jobs of the queue, as they said within the last 20 s.",
        ("queue",),
        [((queue,), sum(queue in each for each in serving)) for queue in queues],
    )


def _of_breakers(breakers: Sequence[BreakerStatus]) -> Iterator[Family]:
    yield gauge(
        "skycap_circuit_breaker_state",
        "1 for the state that the breaker has for the whole fleet.",
        ("breaker", "state"),
        [
            ((status.name, state.value.replace(" ", "_")), status.state is state)
            for status in breakers
            for state in BreakerState
        ],
    )
    yield gauge(
        "skycap_circuit_breaker_failure_ratio",
        "Failed calls of the whole fleet in the last five minutes, as a share of all.",
        ("breaker",),
        [((status.name,), status.failure_rate) for status in breakers],
    )


def _of_schedules(schedules: Sequence[ScheduleFigures]) -> Iterator[Family]:
    on = [schedule for schedule in schedules if schedule.is_on]
    yield gauge(
        "skycap_schedule_interval_seconds",
        "From the newest tick to the next one, of schedules that are on and not paused.",
        ("schedule",),
        [((each.name,), each.period.total_seconds()) for each in on if each.period is not None],
    )
    yield gauge(
        "skycap_schedule_last_success_timestamp_seconds",
        "When a job of the schedule last completed.",
        ("schedule",),
        [((each.name,), each.succeeded_at.timestamp()) for each in on if each.succeeded_at is not None],
    )
    yield gauge(
        "skycap_schedule_duration_seconds",
        "How long the last job of the schedule ran that completed.",
        ("schedule",),
        [((each.name,), each.took.total_seconds()) for each in on if each.took is not None],
    )
