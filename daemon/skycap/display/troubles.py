"""Troubles: what is wrong now, worst first, each as one clause and since when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from skycap.breaker import BreakerState
from skycap.display import words
from skycap.display.situation import Dependency
from skycap.engine.alarms import Alarm
from skycap.overview import Overview, QueueOverview

WELL = "All is well"


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """``text`` is a clause that begins in lower case unless with a name. ``weight``: 0 is the worst."""

    about: str
    """As the alarm about it is called (``queue_paused email``), so that the two are one."""
    text: str
    weight: int
    since: datetime | None = None

    @property
    def clause(self) -> str:
        """``text`` as a sentence begins."""
        return self.text[:1].upper() + self.text[1:]

    def sentence(self, *, now: datetime) -> str:
        """``PostgreSQL does not answer, since 22:14 (12 min)``."""
        return self.clause if self.since is None else f"{self.clause}, {words.since(self.since, now=now)}"


def troubles_of(overview: Overview, dependencies: tuple[Dependency, ...] = (), *, now: datetime) -> list[Trouble]:
    """What the figures themselves say, and the alarms that fire; what both say is told once, with the alarm's time."""
    found = {each.about: each for each in _seen(overview, dependencies, now)}
    for alarm in overview.alarms or ():
        if alarm.state == "firing":
            found[alarm.name] = _of_alarm(alarm, found.get(alarm.name))
    return sorted(found.values(), key=lambda each: (each.weight, each.since or now, each.about))


def headline(troubles: list[Trouble], *, now: datetime) -> str:
    """One sentence."""
    return troubles[0].sentence(now=now) if troubles else WELL


def _seen(overview: Overview, dependencies: tuple[Dependency, ...], now: datetime) -> Iterator[Trouble]:
    yield from _of_dependencies(dependencies, now)
    if overview.daemons is not None:
        yield from _of_daemons(overview)
    for name, queue in overview.queues.items():
        if queue is not None and queue.counts.is_paused:
            why = queue.counts.paused_because
            yield Trouble(
                about=f"queue_paused {name}",
                text=f"queue {name} has paused itself: {why}" if why else f"queue {name} is paused",
                weight=0 if why else 2,
            )
    for status in (overview.breakers or {}).values():
        if status.state is not BreakerState.CLOSED:
            by = " by hand" if status.forced else ""
            yield Trouble(
                about=f"breaker_open {status.name}",
                text=f"breaker {status.name} is {status.state}{by}",
                weight=2,
                since=status.since,
            )


def _of_dependencies(dependencies: tuple[Dependency, ...], now: datetime) -> Iterator[Trouble]:
    for each in dependencies:
        since = None if each.silent_for is None else now - each.silent_for
        name = f"{each.noun} {each.name}".lstrip()
        about = _ALARMS_OF.get(name, name)
        if each.state == "down":
            text = f"{name} is down: {each.reason}" if each.reason else f"{name} does not answer"
            yield Trouble(about=about, text=text, weight=0, since=since)
        elif each.state == "degraded":
            yield Trouble(about=about, text=f"{name} is degraded: {each.reason}", weight=2, since=since)


_ALARMS_OF = {"Redis": "redis_unreachable", "PostgreSQL": "postgresql_unreachable"}


def _of_daemons(overview: Overview) -> Iterator[Trouble]:
    daemons = overview.daemons or ()
    if not daemons:
        yield Trouble(about="no daemon", text="no daemon is there to run jobs", weight=0)
        return
    served = {name for each in daemons if not each.is_draining for name in each.queues}
    for name, waiting in _waiting(overview.queues).items():
        if name not in served and waiting:
            jobs = f"{words.plural(waiting, 'job')} {'waits' if waiting == 1 else 'wait'}"
            yield Trouble(about=f"unserved {name}", text=f"no daemon serves queue {name}, where {jobs}", weight=0)


def _waiting(queues: Mapping[str, QueueOverview | None]) -> dict[str, int]:
    return {name: queue.counts.available for name, queue in queues.items() if queue is not None}


def _of_alarm(alarm: Alarm, seen: Trouble | None) -> Trouble:
    if seen is not None:
        return replace(seen, since=seen.since or alarm.since)
    return Trouble(
        about=alarm.name,
        text=str(alarm.reading.get("text") or alarm.name),
        weight=0 if alarm.reading.get("severity") == "critical" else 2,
        since=alarm.since,
    )
