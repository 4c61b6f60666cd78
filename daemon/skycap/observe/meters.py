"""Meters: what one daemon counts of its jobs, its mails and its event loop, from its start on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import product

from skycap.observe.tallies import Spread, Tally
from skycap.outcome import (
    Cancelled,
    Completed,
    DeadReason,
    Discarded,
    HandedBack,
    Held,
    Outcome,
    Retry,
    Snoozed,
    Stopped,
)

UNKNOWN = "unknown"
"""All kinds that no plugin here handles: anybody who enqueues could make up any number of them."""

_OUTCOMES: Mapping[type[Outcome], str] = {
    Completed: "ok",
    Retry: "retried",
    Discarded: "dead",
    Snoozed: "snoozed",
    Stopped: "snoozed",
    Held: "snoozed",
    Cancelled: "cancelled",
    HandedBack: "interrupted",
}

_SECONDS_OF_JOBS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_SECONDS_OF_REPLIES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SECONDS_OF_LAG = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class Meters:
    """Labels are words of the installation: never an id, an address or what somebody sent."""

    def __init__(self, kinds: Mapping[str, str] | None = None) -> None:
        """``kinds``: the queue of each kind that is handled here."""
        kinds = kinds or {}
        jobs = [(queue, kind) for kind, queue in kinds.items()]
        reasons = [_word(reason) for reason in DeadReason]
        # A series that begins with 1 is no increase to Prometheus, and the first dead letter is the one to be told of.
        every_outcome = [(*job, outcome) for job, outcome in product(jobs, dict.fromkeys(_OUTCOMES.values()))]
        every_reason = [(*job, reason) for job, reason in product(jobs, reasons)]
        self._kinds: Collection[str] = frozenset(kinds)
        self.jobs_finished = Tally("queue", "job_type", "outcome", beforehand=every_outcome)
        self.dead_letters = Tally("queue", "job_type", "reason", beforehand=every_reason)
        self.job_waits = Spread("queue", "job_type", bounds=_SECONDS_OF_JOBS)
        self.job_durations = Spread("queue", "job_type", bounds=_SECONDS_OF_JOBS)
        self.mails = Tally("type", "result", "class")
        self.smtp = Spread("phase", bounds=_SECONDS_OF_REPLIES)
        self.loop_lag = Spread(bounds=_SECONDS_OF_LAG)

    def attempt(self, queue: str, kind: str, outcome: Outcome, *, waited: float, took: float) -> None:
        """An attempt of a job ended after it had waited and run for so many seconds. ``kind``: blank if not known."""
        kind = kind or UNKNOWN
        self.jobs_finished.note(queue, kind, _OUTCOMES[type(outcome)])
        self.job_waits.note(waited, queue, kind)
        self.job_durations.note(took, queue, kind)
        if isinstance(outcome, Discarded):
            self.dead_letters.note(queue, kind, _word(outcome.reason))

    def given_up(self, queue: str, kind: str, reason: DeadReason) -> None:
        """A job went to the dead letters without an attempt. Its kind may be one that nobody knows."""
        self.dead_letters.note(queue, kind if kind in self._kinds else UNKNOWN, _word(reason))

    def mail(self, kind: str, result: str, reply_class: str) -> None:
        self.mails.note(kind if kind in self._kinds else UNKNOWN, result, _word(reply_class))

    def smtp_phase(self, phase: str, seconds: float) -> None:
        self.smtp.note(seconds, _word(phase))


def _word(text: str) -> str:
    return text.replace(" ", "_").lower()
