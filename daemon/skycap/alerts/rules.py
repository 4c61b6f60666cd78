"""The rules: what in the figures means that somebody must be told. Each is a function of them, and of nothing else.

A rule says of each of its subjects (a queue, a breaker, a namespace) whether it is well or not. It says nothing where
it cannot know: a figure that nobody could tell, or a window that has not gone by yet and in which nothing bad was seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from skycap.alerts.figures import Figures, History
from skycap.settings.alerts import (
    AlertRules,
    BreakerOpen,
    CacheHitRate,
    DeadLetters,
    ErrorRate,
    MailsInDoubt,
    OldestWaitingJob,
    OutboxLag,
    PostgresqlUnreachable,
    QueueFailures,
    QueuePaused,
    RedisUnreachable,
    RuleSettings,
    Severity,
    SlowQueries,
    WindowedRuleSettings,
)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a rule says of one subject; ``text`` is for people, and names no person."""

    subject: str
    is_bad: bool
    value: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A reading, and what the settings make of it. ``subject`` is blank where a rule has only one."""

    rule: str
    subject: str
    is_bad: bool
    value: float
    text: str
    severity: Severity
    held_for: timedelta

    @property
    def alarm(self) -> str:
        """What the alarm is known by."""
        return f"{self.rule} {self.subject}".rstrip()


def findings(history: History, rules: AlertRules) -> list[Finding]:
    """What all rules that are switched on say of the newest figures."""
    return [
        Finding(
            rule=name,
            subject=reading.subject,
            is_bad=reading.is_bad,
            value=reading.value,
            text=reading.text,
            severity=rule.severity,
            held_for=rule.held_for,
        )
        for name, rule, look in _switched_on(rules)
        for reading in look(history, rule)
    ]


def longest_window(rules: AlertRules) -> timedelta:
    """How far back the rules look."""
    windows = (rule.window for _, rule, _ in _switched_on(rules) if isinstance(rule, WindowedRuleSettings))
    return max(windows, default=timedelta(0))


def queue_failures(history: History, rule: QueueFailures) -> Iterator[Reading]:
    for queue in history.now.queues:
        change = history.increase(rule.window, _of_queue(queue, "discarded"))
        if change is not None and (change.is_whole or change.by >= rule.threshold):
            yield Reading(
                subject=queue,
                is_bad=change.by >= rule.threshold,
                value=change.by,
                text=f"{change.by} jobs of queue {queue} were discarded within {_spelt(rule.window)}",
            )


def error_rate(history: History, rule: ErrorRate) -> Iterator[Reading]:
    for queue in history.now.queues:
        attempts = history.increase(rule.window, _of_queue(queue, "attempts"))
        failed = history.increase(rule.window, _of_queue(queue, "failed"))
        if attempts is None or failed is None:
            continue
        rate = failed.by / attempts.by if attempts.by else 0.0
        is_bad = attempts.by >= rule.minimum and rate > rule.threshold
        if is_bad or attempts.is_whole:
            yield Reading(
                subject=queue,
                is_bad=is_bad,
                value=rate,
                text=f"{failed.by} of {attempts.by} attempts in queue {queue} failed within {_spelt(rule.window)}",
            )


def breaker_open(history: History, rule: BreakerOpen) -> Iterator[Reading]:
    del rule  # it has no figures
    for name, state in history.now.breakers.items():
        is_bad = state != "closed"
        yield Reading(subject=name, is_bad=is_bad, value=float(is_bad), text=f"breaker {name} is {state}")


def slow_queries(history: History, rule: SlowQueries) -> Iterator[Reading]:
    change = history.increase(rule.window, lambda look: look.slow_queries)
    if change is not None and (change.is_whole or change.by >= rule.threshold):
        yield Reading(
            subject="",
            is_bad=change.by >= rule.threshold,
            value=change.by,
            text=f"{change.by} statements of one daemon were slow within {_spelt(rule.window)}",
        )


def cache_hit_rate(history: History, rule: CacheHitRate) -> Iterator[Reading]:
    for namespace in history.now.caches:
        requests = history.increase(rule.window, _of_cache(namespace, "requests"))
        hits = history.increase(rule.window, _of_cache(namespace, "hits"))
        if requests is None or hits is None:
            continue
        rate = hits.by / requests.by if requests.by else 1.0
        is_bad = requests.by >= rule.minimum and rate < rule.threshold
        if is_bad or requests.is_whole:
            yield Reading(
                subject=namespace,
                is_bad=is_bad,
                value=rate,
                text=f"{hits.by} of {requests.by} requests to cache {namespace} were hits within {_spelt(rule.window)}",
            )


def oldest_waiting_job(history: History, rule: OldestWaitingJob) -> Iterator[Reading]:
    for name, queue in history.now.queues.items():
        age = queue.oldest_waiting or timedelta(0)
        # Why a queue that has paused itself does not move, queue_paused says.
        is_bad = age > timedelta(seconds=rule.threshold_seconds) and not queue.paused_because
        text = f"the oldest job of queue {name} has waited for {_spelt(age)}"
        yield Reading(subject=name, is_bad=is_bad, value=age.total_seconds(), text=text)


def queue_paused(history: History, rule: QueuePaused) -> Iterator[Reading]:
    del rule  # it has no figures
    for name, queue in history.now.queues.items():
        is_bad = bool(queue.paused_because)
        text = f"queue {name} has paused itself" if is_bad else f"queue {name} has not paused itself"
        yield Reading(subject=name, is_bad=is_bad, value=float(is_bad), text=text)


def dead_letters(history: History, rule: DeadLetters) -> Iterator[Reading]:
    for queue in history.now.queues:
        change = history.difference(rule.window, _of_queue(queue, "dead"))
        if change is not None and (change.is_whole or change.by >= rule.threshold):
            yield Reading(
                subject=queue,
                is_bad=change.by >= rule.threshold,
                value=change.by,
                text=f"the dead-letter queue of {queue} has grown by {change.by} within {_spelt(rule.window)}",
            )


def mails_in_doubt(history: History, rule: MailsInDoubt) -> Iterator[Reading]:
    count = history.now.mails_in_doubt
    if count is not None:
        text = f"{count} mails may or may not have arrived"
        yield Reading(subject="", is_bad=count >= rule.threshold, value=count, text=text)


def redis_unreachable(history: History, rule: RedisUnreachable) -> Iterator[Reading]:
    del rule  # it has no figures
    yield from _reachability("Redis", is_up=history.now.redis_is_up)


def postgresql_unreachable(history: History, rule: PostgresqlUnreachable) -> Iterator[Reading]:
    del rule  # it has no figures
    yield from _reachability("PostgreSQL", is_up=history.now.postgresql_is_up)


def outbox_lag(history: History, rule: OutboxLag) -> Iterator[Reading]:
    age = history.now.outbox_age
    if age is not None:
        text = f"the oldest job of the outbox has waited for {_spelt(age)}"
        is_bad = age > timedelta(seconds=rule.threshold_seconds)
        yield Reading(subject="", is_bad=is_bad, value=age.total_seconds(), text=text)


def _reachability(server: str, *, is_up: bool | None) -> Iterator[Reading]:
    if is_up is not None:
        text = f"{server} can be reached" if is_up else f"{server} cannot be reached"
        yield Reading(subject="", is_bad=not is_up, value=float(not is_up), text=text)


_RULES: Mapping[str, Callable[[History, Any], Iterator[Reading]]] = {
    rule.__name__: rule
    for rule in (
        *(queue_failures, error_rate, breaker_open, slow_queries, cache_hit_rate, oldest_waiting_job),
        *(queue_paused, dead_letters, mails_in_doubt, redis_unreachable, postgresql_unreachable, outbox_lag),
    )
}


def _switched_on(
    rules: AlertRules,
) -> Iterator[tuple[str, RuleSettings, Callable[[History, Any], Iterator[Reading]]]]:
    for name, look in _RULES.items():
        rule: RuleSettings = getattr(rules, name)
        if rule.enabled:
            yield name, rule, look


def _of_queue(queue: str, what: str) -> Callable[[Figures], int | None]:
    return lambda look: getattr(look.queues[queue], what) if queue in look.queues else None


def _of_cache(namespace: str, what: str) -> Callable[[Figures], int | None]:
    return lambda look: getattr(look.caches[namespace], what) if namespace in look.caches else None


def _spelt(duration: timedelta) -> str:
    seconds = duration.total_seconds()
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
