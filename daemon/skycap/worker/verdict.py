"""From what a handler returned or raised to the outcome of its attempt; pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from skycap.backoff import Backoff
from skycap.errors import Cancel, Discard, PermanentError, Snooze, Unavailable
from skycap.outcome import Cancelled, Completed, DeadReason, Discarded, Outcome, Retry, Snoozed
from skycap.redaction import without_addresses

_LONGEST_ERROR = 2000


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How the worker treats jobs of one kind: the plugin's word, over it the admin's, under it the queue's."""

    backoff: Backoff
    timeout: timedelta


def verdict(  # noqa: PLR0911 - one line a case reads best
    error: BaseException | None, result: Any, *, attempt: int, snoozes: int, policy: Policy
) -> Outcome:
    """The outcome of attempt number ``attempt`` of a job that was snoozed ``snoozes`` times before."""
    match error:
        case None:
            problem = _unlike_json(result)
            return _failed(problem, attempt, policy) if problem else Completed(result=result)
        case Cancel():
            return Cancelled(reason=without_addresses(error.reason))
        case Snooze():
            return Snoozed(delay=error.delay, reason=without_addresses(error.reason))
        case Discard():
            return Discarded(reason=DeadReason.PERMANENT, error=without_addresses(error.reason))
        case PermanentError():
            return Discarded(reason=DeadReason.PERMANENT, error=describe(error))
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


def _failed(error: str, attempt: int, policy: Policy) -> Outcome:
    delay = policy.backoff.delay(attempt)
    if delay is None:
        return Discarded(reason=DeadReason.ATTEMPTS_USED_UP, error=error)
    return Retry(delay=delay, error=error)


def _unlike_json(result: Any) -> str | None:
    try:
        json.dumps(result, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return f"the handler returned what JSON cannot carry: {error}"
    return None
