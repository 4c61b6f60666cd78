"""From what a handler returned or raised to the outcome of its attempt."""

from dataclasses import replace
from datetime import timedelta

import pytest

from skycap import BreakerOpen, Cancel, Discard, MailRefused, Snooze, Unavailable, exponential
from skycap.outcome import Cancelled, Completed, DeadReason, Discarded, Held, Outcome, Retry, Snoozed
from skycap.worker.verdict import Policy, verdict

POLICY = Policy(backoff=exponential(seconds=5, attempts=3, jitter=0), timeout=timedelta(seconds=30))


def judge(error: BaseException | None, result: object = None, *, attempt: int = 1, snoozes: int = 0) -> Outcome:
    return verdict(error, result, attempt=attempt, snoozes=snoozes, policy=POLICY)


def test_a_result_completes_the_job() -> None:
    assert judge(None, {"sent": True}) == Completed(result={"sent": True})


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 5), (2, 10)])
def test_an_error_is_retried_with_growing_waits(attempt: int, seconds: int) -> None:
    assert judge(KeyError("x"), attempt=attempt) == Retry(delay=timedelta(seconds=seconds), error="KeyError: 'x'")


def test_the_last_attempts_error_discards_the_job() -> None:
    assert judge(KeyError("x"), attempt=3) == Discarded(reason=DeadReason.ATTEMPTS_USED_UP, error="KeyError: 'x'")


def test_signals_decide() -> None:
    assert judge(Cancel("off")) == Cancelled(reason="off")
    assert judge(Snooze(timedelta(minutes=1), "later")) == Snoozed(delay=timedelta(minutes=1), reason="later")
    assert judge(Discard("gone")) == Discarded(reason=DeadReason.PERMANENT, error="gone")


def test_a_permanent_error_discards_the_job_at_its_first_attempt() -> None:
    assert judge(MailRefused("550 no such user")) == Discarded(
        reason=DeadReason.PERMANENT, error="MailRefused: 550 no such user"
    )


def test_an_outage_snoozes_and_is_looked_at_again_within_five_seconds() -> None:
    for snoozes in range(50):
        outcome = judge(Unavailable("database", "refused"), attempt=3, snoozes=snoozes)
        assert isinstance(outcome, Snoozed)
        assert timedelta(0) < outcome.delay < timedelta(seconds=6)


def test_sys_exit_in_a_handler_is_a_failure_of_the_handler() -> None:
    assert isinstance(judge(SystemExit(1)), Retry)


def test_no_address_reaches_the_stored_error() -> None:
    outcome = judge(ValueError("cannot mail Ayşe <ayse.yilmaz@örnek.com> via smtp://u:secret@mail.example.com"))
    assert isinstance(outcome, Retry)
    assert "@" not in outcome.error
    assert "secret" not in outcome.error


def test_an_open_breaker_puts_a_job_off_until_it_may_be_tried() -> None:
    error = BreakerOpen("partner", timedelta(seconds=17))
    assert judge(error) == Snoozed(delay=timedelta(seconds=17), reason=f"BreakerOpen: {error}")
    beside_probes = judge(BreakerOpen("partner", timedelta(seconds=1)), snoozes=3)
    assert isinstance(beside_probes, Snoozed)
    assert beside_probes.delay >= Unavailable.schedule.longest


def test_an_open_breaker_holds_every_kind_that_needs_it() -> None:
    policy = replace(POLICY, breakers=frozenset({"partner"}))
    error = BreakerOpen("partner", timedelta(seconds=17))
    outcome = verdict(error, None, attempt=1, snoozes=0, policy=policy)
    assert outcome == Held(delay=timedelta(seconds=17), reason=f"BreakerOpen: {error}", breaker="partner")
