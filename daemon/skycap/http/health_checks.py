"""What our figures mean to whoever asks for health+json: what passes, what only warns, and what fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from skycap.breaker import BreakerState
from skycap.http.breakers import as_fraction
from skycap.http.health_document import Check, Verdict

if TYPE_CHECKING:
    from skycap.engine.breakers import BreakerStatus
    from skycap.health import Health
    from skycap.http.dependencies import Reading


def of_dependencies(readings: Mapping[str, Reading | None]) -> list[Check]:
    """Without Redis nothing runs; without the others, whatever needs them waits and the rest goes on."""
    return [
        Check(
            name=f"{name}:responseTime",
            component="datastore" if name != "smtp" else "component",
            verdict="pass" if reading.is_up else "fail" if name == "redis" else "warn",
            value=None if reading.response_time is None else round(reading.response_time.total_seconds() * 1000, 1),
            unit="" if reading.response_time is None else "ms",
            output=reading.problem,
        )
        for name, reading in readings.items()
        if reading is not None
    ]


def of_consumers(state: str) -> Check:
    verdict: Verdict = "pass" if state == "ok" else "fail"
    output = "" if state == "ok" else f"no job is taken: the daemon is {state}"
    return Check(name="consumers", component="component", verdict=verdict, value=state, output=output)


def of_schema(missing: Sequence[str] | None) -> list[Check]:
    if missing is None:
        return []
    output = f"lacks {', '.join(missing)}; run `skycap db migrate`" if missing else ""
    verdict: Verdict = "warn" if missing else "pass"
    return [
        Check(
            name="database:missingMigrations",
            component="datastore",
            verdict=verdict,
            value=len(missing),
            output=output,
        )
    ]


def of_breakers(breakers: Mapping[str, BreakerStatus | None]) -> list[Check]:
    return [
        Check(
            name=f"circuit-breaker-{name}:state",
            component="component",
            verdict="pass" if status.state is BreakerState.CLOSED else "warn",
            value=as_fraction(status)["state"],
            output="" if status.state is BreakerState.CLOSED else f"jobs that need {name} wait",
        )
        for name, status in breakers.items()
        if status is not None
    ]


def of_plugins(checks: Mapping[str, Health]) -> list[Check]:
    return [
        Check(
            name=f"check-{name}:state",
            component="component",
            verdict="pass" if health.state == "ok" else "warn",
            value=health.state,
            output=health.reason,
        )
        for name, health in checks.items()
    ]
