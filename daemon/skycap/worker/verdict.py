"""From what a handler returned or raised to the outcome of its attempt; pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from skycap import errors
from skycap.backoff import Backoff
from skycap.errors import BreakerOpen, Cancel, Discard, PermanentError, QueueStopped, RateLimited, Snooze, Unavailable
from skycap.outcome import Cancelled, Completed, DeadReason, Discarded, Held, Outcome, Retry, Snoozed, Stopped
from skycap.redaction import without_addresses

_LONGEST_ERROR = 2000

_ONCE_RESUMED = timedelta(seconds=1)
"""A job that has stopped its queue is among the first when the queue is resumed."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How the worker treats jobs of one kind: the plugin's word, over it the admin's, under it the queue's."""

    backoff: Backoff
    timeout: timedelta
    keep_finished: timedelta | None = None
    """How long a job is kept when it has ended well; None: as its queue says."""
    keep_discarded: timedelta | None = None
    breakers: frozenset[str] = frozenset()
    """Those that every job of the kind needs: an open one holds them all."""

    def keep(self, outcome: Outcome) -> timedelta | None:
        """How long the job is kept after this outcome; None: as its queue says, or it has not ended."""
        return self.keep_discarded if isinstance(outcome, Discarded) else self.keep_finished


def verdict(  # noqa: C901, PLR0911, PLR0912 - one line a case reads best
    error: BaseException | None, result: Any, *, attempt: int, snoozes: int, policy: Policy
) -> Outcome:
    """The outcome of attempt number ``attempt`` of a job that was snoozed ``snoozes`` times before."""
    match error:
        case None if result is None:
            return Completed()
        case None:
            problem = _unlike_json(result)
            return _failed(problem, attempt, policy) if problem else Completed(result=result)
        case Cancel():
            return Cancelled(reason=without_addresses(error.reason))
        case Snooze():
            return Snoozed(delay=error.delay, reason=without_addresses(error.reason))
        case RateLimited():
            return Held(delay=error.retry_after, reason=without_addresses(str(error)), limit=error.limit)
        case errors.Retry():
            delay = error.at - datetime.now(UTC) if isinstance(error.at, datetime) else error.at
            return _failed(without_addresses(str(error)), attempt, policy, delay=max(delay, timedelta(0)))
        case Discard():
            return Discarded(reason=DeadReason.PERMANENT, error=without_addresses(error.reason))
        case PermanentError():
            return Discarded(reason=DeadReason.PERMANENT, error=describe(error))
        case QueueStopped():
            return Stopped(delay=_ONCE_RESUMED, reason=describe(error))
        case BreakerOpen() if error.breaker in policy.breakers:
            return Held(delay=error.retry_after, reason=describe(error), breaker=error.breaker)
        case BreakerOpen():
            delay = max(error.retry_after, error.schedule.wait(snoozes + 1))
            return Snoozed(delay=delay, reason=describe(error))
        case Unavailable():
            return Snoozed(delay=error.schedule.wait(snoozes + 1), reason=describe(error))
        case TimeoutError():
            return _failed(f"took longer than {policy.timeout.total_seconds():g} s, or waited in vain", attempt, policy)
        case _:
            return _failed(describe(error), attempt, policy)


def describe(error: BaseException) -> str:
    """The error in one line, without mail addresses."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return without_addresses(text)[:_LONGEST_ERROR]


def _failed(error: str, attempt: int, policy: Policy, *, delay: timedelta | None = None) -> Outcome:
    backoff = policy.backoff.delay(attempt)
    if backoff is None:
        return Discarded(reason=DeadReason.ATTEMPTS_USED_UP, error=error)
    return Retry(delay=backoff if delay is None else delay, error=error)


def _unlike_json(result: Any) -> str | None:
    try:
        json.dumps(result, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return f"the handler returned what JSON cannot carry: {error}"
    return None
