"""What each rule says of figures: no clock, no server, nothing but numbers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from skycap.alerts.figures import CacheFigures, Figures, History, QueueFigures
from skycap.alerts.rules import Finding, findings, longest_window
from skycap.settings.alerts import AlertRules, WindowedRuleSettings

WINDOW = 600.0
LONG_AGO, NOW = 0.0, WINDOW


def look(at: float, **figures: Any) -> Figures:
    return Figures(at=timedelta(seconds=at), **figures)


def email(at: float, **figures: Any) -> Figures:
    return look(at, queues={"email": QueueFigures(**figures)})


def said(rule: str, looks: Sequence[Figures], **settings: Any) -> list[Finding]:
    """What one rule says after these looks."""
    windowed = isinstance(getattr(AlertRules(), rule), WindowedRuleSettings)
    table = {"window_seconds": WINDOW, **settings} if windowed else settings
    rules = AlertRules.model_validate({rule: table})
    history = History(longest_window(rules), looks)
    return [finding for finding in findings(history, rules) if finding.rule == rule]


def is_bad(rule: str, *looks: Figures, **settings: Any) -> bool | None:
    """None when the rule says nothing."""
    found = said(rule, looks, **settings)
    return found[0].is_bad if found else None


# Counts in a window


@pytest.mark.parametrize(("discarded", "expected"), [(9, False), (10, True)])
def test_a_queue_that_discards_too_many_jobs_is_bad(discarded: int, expected: bool) -> None:
    assert is_bad("queue_failures", email(LONG_AGO, discarded=5), email(NOW, discarded=5 + discarded)) is expected


def test_what_was_discarded_before_the_window_does_not_count() -> None:
    looks = (email(0, discarded=0), email(100, discarded=50), email(100 + WINDOW, discarded=50))
    assert is_bad("queue_failures", *looks) is False


def test_a_young_daemon_says_what_is_bad_and_not_what_is_well() -> None:
    assert is_bad("queue_failures", email(0, discarded=0), email(60, discarded=3)) is None
    assert is_bad("queue_failures", email(0, discarded=0), email(60, discarded=30)) is True


def test_a_count_that_went_down_began_anew() -> None:
    looks = (email(0, discarded=1000), email(300, discarded=4), email(NOW, discarded=12))
    (finding,) = said("queue_failures", looks)
    assert (finding.value, finding.is_bad) == (12, True)


def test_what_cannot_be_known_now_is_not_said() -> None:
    assert said("queue_failures", [email(LONG_AGO), look(NOW)]) == []
    assert said("slow_queries", [look(LONG_AGO), look(NOW)]) == []


def test_a_look_without_an_answer_leaves_no_gap_in_the_count() -> None:
    looks = (email(LONG_AGO, discarded=0), look(300), email(NOW, discarded=11))
    assert is_bad("queue_failures", *looks) is True


@pytest.mark.parametrize(
    ("attempts", "failed", "expected"),
    [
        (2, 1, False),
        (99, 99, False),
        (100, 1, False),
        (100, 2, True),
        (1000, 10, False),
        (1000, 11, True),
        (0, 0, False),
    ],
)
def test_an_error_rate_is_bad_only_of_enough_attempts(attempts: int, failed: int, expected: bool) -> None:
    after = email(NOW, completed=attempts - failed, retried=failed)
    assert is_bad("error_rate", email(LONG_AGO), after) is expected


def test_discarded_jobs_are_failed_attempts_too() -> None:
    (finding,) = said("error_rate", [email(LONG_AGO), email(NOW, completed=95, retried=2, discarded=3)])
    assert (finding.value, finding.is_bad) == (0.05, True)


@pytest.mark.parametrize(("count", "expected"), [(9, False), (10, True)])
def test_slow_queries_are_counted_in_the_window(count: int, expected: bool) -> None:
    assert is_bad("slow_queries", look(LONG_AGO, slow_queries=100), look(NOW, slow_queries=100 + count)) is expected


@pytest.mark.parametrize(
    ("hits", "misses", "expected"), [(0, 199, False), (139, 61, True), (140, 60, False), (0, 0, False)]
)
def test_a_hit_rate_is_bad_only_of_enough_requests(hits: int, misses: int, expected: bool) -> None:
    before = look(LONG_AGO, caches={"hotel": CacheFigures(hits=7, misses=7)})
    after = look(NOW, caches={"hotel": CacheFigures(hits=7 + hits, misses=7 + misses)})
    assert is_bad("cache_hit_rate", before, after) is expected


@pytest.mark.parametrize(("before", "after", "expected"), [(10, 59, False), (10, 60, True), (100, 20, False)])
def test_a_dead_letter_queue_that_grows_is_bad(before: int, after: int, expected: bool) -> None:
    assert is_bad("dead_letters", email(LONG_AGO, dead=before), email(NOW, dead=after)) is expected


# What is so now


@pytest.mark.parametrize(("state", "expected"), [("closed", False), ("open", True), ("half open", True)])
def test_a_breaker_that_is_not_closed_is_bad(state: str, expected: bool) -> None:
    (finding,) = said("breaker_open", [look(NOW, breakers={"stripe": state})])
    assert (finding.subject, finding.is_bad) == ("stripe", expected)


@pytest.mark.parametrize(("seconds", "expected"), [(None, False), (60, False), (61, True)])
def test_a_job_that_waits_too_long_is_bad(seconds: float | None, expected: bool) -> None:
    age = None if seconds is None else timedelta(seconds=seconds)
    assert is_bad("oldest_waiting_job", email(NOW, oldest_waiting=age)) is expected


def test_what_waits_in_a_queue_that_paused_itself_is_told_of_once() -> None:
    now = email(NOW, oldest_waiting=timedelta(hours=1), paused_because="535 authentication failed")
    assert is_bad("oldest_waiting_job", now) is False
    (finding,) = said("queue_paused", [now])
    assert finding.is_bad
    assert "535" not in finding.text, "what a mail server says may name people"


def test_a_queue_that_somebody_paused_is_no_fault() -> None:
    assert is_bad("queue_paused", email(NOW)) is False


@pytest.mark.parametrize(("count", "expected"), [(None, None), (0, False), (1, True)])
def test_a_mail_in_doubt_is_bad(count: int | None, expected: bool | None) -> None:
    assert is_bad("mails_in_doubt", look(NOW, mails_in_doubt=count)) is expected


@pytest.mark.parametrize(("rule", "figure"), [("redis_unreachable", "redis"), ("postgresql_unreachable", "postgresql")])
@pytest.mark.parametrize(("is_up", "expected"), [(None, None), (True, False), (False, True)])
def test_a_server_that_cannot_be_reached_is_bad(
    rule: str, figure: str, is_up: bool | None, expected: bool | None
) -> None:
    assert is_bad(rule, look(NOW, **{f"{figure}_is_up": is_up})) is expected


@pytest.mark.parametrize(("seconds", "expected"), [(None, None), (0, False), (60, False), (61, True)])
def test_an_outbox_that_is_not_relayed_is_bad(seconds: float | None, expected: bool | None) -> None:
    age = None if seconds is None else timedelta(seconds=seconds)
    assert is_bad("outbox_lag", look(NOW, outbox_age=age)) is expected


# All rules


def test_each_queue_has_an_alarm_of_its_own() -> None:
    queues = {"email": QueueFigures(oldest_waiting=timedelta(hours=1)), "default": QueueFigures()}
    found = said("oldest_waiting_job", [look(NOW, queues=queues)])
    assert [(finding.alarm, finding.is_bad) for finding in found] == [
        ("oldest_waiting_job email", True),
        ("oldest_waiting_job default", False),
    ]


@pytest.mark.parametrize("rule", AlertRules.model_fields)
def test_a_rule_that_is_switched_off_says_nothing(rule: str) -> None:
    def full(at: float) -> Figures:
        return look(
            at,
            redis_is_up=True,
            postgresql_is_up=True,
            queues={"email": QueueFigures()},
            breakers={"stripe": "closed"},
            caches={"hotel": CacheFigures(hits=1, misses=0)},
            slow_queries=0,
            mails_in_doubt=0,
            outbox_age=timedelta(0),
        )

    looks = [full(LONG_AGO), full(NOW)]
    assert len(said(rule, looks)) == 1
    assert said(rule, looks, enabled=False) == []


def test_the_history_keeps_no_more_than_the_longest_window_needs() -> None:
    rules = AlertRules()
    history = History(longest_window(rules))
    for at in range(0, 10_000, 15):
        history.add(email(float(at), dead=at))
    change = history.difference(longest_window(rules), lambda now: now.queues["email"].dead)
    assert change is not None
    assert (change.by, change.is_whole) == (3600, True)
