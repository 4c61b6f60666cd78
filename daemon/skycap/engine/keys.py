"""Every Redis key that skycap uses. All keys of a queue share one hash tag, so they live in one cluster slot."""

from __future__ import annotations

from dataclasses import dataclass

QUEUES = "skycap:queues"
"""The names of all queues that any daemon has served."""

SHARED_HOLDS = "skycap:limit:holds"
"""The gates that are shut of limits that several queues share."""


@dataclass(frozen=True)
class QueueKeys:
    """The keys of one queue; lua/queue.lua says what each holds and derives the same ones from the prefix."""

    queue: str

    @property
    def prefix(self) -> str:
        return f"skycap:{{{self.queue}}}:"

    def job(self, job_id: str) -> str:
        return f"{self.prefix}job:{job_id}"

    @property
    def ready(self) -> str:
        return f"{self.prefix}ready"

    @property
    def later(self) -> str:
        return f"{self.prefix}later"

    @property
    def run(self) -> str:
        return f"{self.prefix}run"

    @property
    def dead(self) -> str:
        return f"{self.prefix}dead"

    @property
    def meta(self) -> str:
        return f"{self.prefix}meta"

    @property
    def cron(self) -> str:
        return f"{self.prefix}cron"

    def schedule(self, name: str) -> str:
        return f"{self.prefix}schedule:{name}"

    def ticks(self, schedule: str) -> str:
        return f"{self.prefix}schedule:{schedule}:ticks"

    @property
    def wake(self) -> str:
        return f"{self.prefix}wake"

    @property
    def done(self) -> str:
        return f"{self.prefix}done"

    @property
    def gates(self) -> str:
        return f"{self.prefix}gates"

    @property
    def holds(self) -> str:
        return f"{self.prefix}holds"

    @property
    def outages(self) -> str:
        return f"{self.prefix}outages"

    def waiting_at(self, gate: str) -> str:
        return f"{self.prefix}wait:{gate}"

    @property
    def events(self) -> str:
        """The stream of what happened to jobs; lua/queue.lua writes it."""
        return f"{self.prefix}events"
