"""Situation: the overview, and what else an admin asks of the daemon that is in front of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from skycap.engine.dead_letters import DeadLetter
from skycap.overview import Overview

State = Literal["ok", "degraded", "down", "not configured"]


@dataclass(frozen=True, kw_only=True)
class Dependency:
    """What this daemon needs, as it found it just now. ``silent_for``: how long already, where that is known."""

    name: str
    state: State
    noun: str = ""
    """What kind of thing it is (``check``, ``replica``); blank for a server that is called by its name."""
    response_time: timedelta | None = None
    reason: str = ""
    silent_for: timedelta | None = None


@dataclass(frozen=True, kw_only=True)
class ScheduleLine:
    """One schedule. ``standing`` is on, paused or off; ``outcome`` is blank for one that has never ticked."""

    name: str
    when: str
    last: datetime | None
    outcome: str
    next: datetime | None
    standing: str


@dataclass(frozen=True, kw_only=True)
class CacheUse:
    """Requests to the cache since its figures began; of the whole fleet, or of this daemon alone."""

    hits: int
    requests: int
    is_fleet: bool

    @property
    def hit_rate(self) -> float | None:
        """None until there are requests."""
        return self.hits / self.requests if self.requests else None


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What is None could not be told in time."""

    at: datetime
    """By Redis' clock, or by this host's while that is away."""
    version: str
    daemon: str
    overview: Overview
    dependencies: Sequence[Dependency]
    schedules: Sequence[ScheduleLine] | None
    cache: CacheUse | None
    dead_letters: Sequence[DeadLetter] | None
    """The newest of each queue."""
    is_watched: bool
    """Whether somebody is told of alarms."""
