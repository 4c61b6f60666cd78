"""AlertSettings: who is told when something goes wrong, and which figures mean that it does."""

from __future__ import annotations

import re
from datetime import timedelta
from ipaddress import ip_address
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_serializer, field_validator

from skycap.settings.contacts import checked_mailbox
from skycap.settings.masking import MASK
from skycap.settings.section import DAY_SECONDS, Section

Severity: TypeAlias = Literal["warning", "critical"]

_SHORTEST_SECRET = 16


def _held(seconds: float) -> Any:
    return Field(
        default=seconds, ge=0, le=DAY_SECONDS, description="For how long it must be so before anybody is told."
    )


def _window(seconds: float) -> Any:
    return Field(default=seconds, ge=0.1, le=DAY_SECONDS, description="The time that is looked at.")


def _severity(severity: Severity) -> Any:
    return Field(default=severity, description="What the alarm is called: warning or critical.")


class RuleSettings(Section):
    """What all rules have in common."""

    enabled: bool = Field(default=True, description="false switches the rule off.")
    severity: Severity = _severity("warning")
    for_seconds: float = _held(0)

    @property
    def held_for(self) -> timedelta:
        return timedelta(seconds=self.for_seconds)


class WindowedRuleSettings(RuleSettings):
    """A rule that looks back."""

    window_seconds: float = _window(600)

    @property
    def window(self) -> timedelta:
        return timedelta(seconds=self.window_seconds)


class QueueFailures(WindowedRuleSettings):
    """A queue has discarded jobs."""

    threshold: int = Field(default=10, ge=1, description="So many jobs within the window.")


class ErrorRate(WindowedRuleSettings):
    """Attempts fail: of all that ended in a queue, and whatever became of their jobs."""

    window_seconds: float = _window(300)
    threshold: float = Field(default=0.01, ge=0, le=1, description="More than this part of the attempts: 0.01 is 1 %.")
    minimum: int = Field(default=100, ge=1, description="Fewer attempts within the window say nothing.")


class BreakerOpen(RuleSettings):
    """A circuit breaker is not closed: its partner fails."""

    for_seconds: float = _held(60)


class SlowQueries(WindowedRuleSettings):
    """One daemon's statements took longer than database.slow_query_ms."""

    window_seconds: float = _window(300)
    threshold: int = Field(default=10, ge=1, description="So many within the window.")


class CacheHitRate(WindowedRuleSettings):
    """The cache finds too little, in one namespace."""

    window_seconds: float = _window(900)
    threshold: float = Field(default=0.7, ge=0, le=1, description="Less than this part of the requests: 0.7 is 70 %.")
    minimum: int = Field(default=200, ge=1, description="Fewer requests within the window say nothing.")


class OldestWaitingJob(RuleSettings):
    """A job that could run waits too long; what waits at a limit, or in a queue that paused itself, does not count."""

    for_seconds: float = _held(60)
    severity: Severity = _severity("critical")
    threshold_seconds: float = Field(default=60, ge=0.1, le=DAY_SECONDS, description="Longer than this.")


class QueuePaused(RuleSettings):
    """A queue has paused itself because of a fault, such as a mail server that refuses our log-in."""

    severity: Severity = _severity("critical")


class DeadLetters(WindowedRuleSettings):
    """The dead-letter queue grows, by more than is redriven or removed."""

    window_seconds: float = _window(3600)
    threshold: int = Field(default=50, ge=1, description="By so many jobs within the window.")


class MailsInDoubt(RuleSettings):
    """Mails may or may not have arrived, and an admin must decide (`skycap mail ledger`)."""

    threshold: int = Field(default=1, ge=1, description="So many.")


class RedisUnreachable(RuleSettings):
    """A daemon cannot reach Redis; each that cannot tells so by itself."""

    for_seconds: float = _held(30)
    severity: Severity = _severity("critical")


class PostgresqlUnreachable(RuleSettings):
    """A daemon cannot reach PostgreSQL."""

    for_seconds: float = _held(30)
    severity: Severity = _severity("critical")


class OutboxLag(RuleSettings):
    """Jobs that were enqueued in SQL are not moved to Redis."""

    for_seconds: float = _held(30)
    severity: Severity = _severity("critical")
    threshold_seconds: float = Field(
        default=60, ge=0.1, le=DAY_SECONDS, description="The oldest waits longer than this."
    )


class AlertRules(Section):
    """The rules."""

    queue_failures: QueueFailures = QueueFailures()
    error_rate: ErrorRate = ErrorRate()
    breaker_open: BreakerOpen = BreakerOpen()
    slow_queries: SlowQueries = SlowQueries()
    cache_hit_rate: CacheHitRate = CacheHitRate()
    oldest_waiting_job: OldestWaitingJob = OldestWaitingJob()
    queue_paused: QueuePaused = QueuePaused()
    dead_letters: DeadLetters = DeadLetters()
    mails_in_doubt: MailsInDoubt = MailsInDoubt()
    redis_unreachable: RedisUnreachable = RedisUnreachable()
    postgresql_unreachable: PostgresqlUnreachable = PostgresqlUnreachable()
    outbox_lag: OutboxLag = OutboxLag()


class AlertSettings(Section):
    """Alarms without Prometheus: every daemon looks, one tells. On as soon as mail_to or webhook_url is set."""

    mail_to: list[str] = Field(
        default=[],
        repr=False,
        description="Who gets a mail: addresses. Needs smtp.url and database.url.",
        examples=[["ops@example.com"]],
    )
    webhook_url: SecretStr | None = Field(
        default=None,
        description="Where a JSON document is posted: https://, or http:// on this machine. Often a secret by itself.",
        examples=["https://hooks.example.com/skycap"],
    )
    webhook_secret: SecretStr | None = Field(
        default=None,
        description="Signs what is posted (HMAC-SHA256, header Skycap-Signature); at least 16 characters.",
        examples=["a-long-random-text"],
    )
    interval_seconds: float = Field(default=15.0, ge=0.05, le=3600, description="How often the figures are looked at.")
    recover_seconds: float = Field(
        default=300.0,
        ge=0,
        le=DAY_SECONDS,
        description="For how long an alarm must be over before that is told; it is the same alarm if it comes back.",
    )
    repeat_hours: float = Field(
        default=24.0, ge=0.0001, le=8760, description="A standing alarm is told again after this long, and not before."
    )
    rules: AlertRules = Field(default=AlertRules(), description="What is looked at.")

    @property
    def is_on(self) -> bool:
        return bool(self.mail_to) or self.webhook_url is not None

    @property
    def interval(self) -> timedelta:
        return timedelta(seconds=self.interval_seconds)

    @property
    def recover_after(self) -> timedelta:
        return timedelta(seconds=self.recover_seconds)

    @property
    def repeat_after(self) -> timedelta:
        return timedelta(hours=self.repeat_hours)

    @field_validator("mail_to")
    @classmethod
    def _addresses(cls, addresses: list[str]) -> list[str]:
        return [checked_mailbox(address, named=False) for address in addresses]

    @field_validator("webhook_url")
    @classmethod
    def _safe_address(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            _check_webhook(url.get_secret_value())
        return url

    @field_validator("webhook_secret")
    @classmethod
    def _long_enough(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and len(secret.get_secret_value()) < _SHORTEST_SECRET:
            raise ValueError(f"is shorter than {_SHORTEST_SECRET} characters; give a long random text")
        return secret

    @field_serializer("webhook_url", "webhook_secret")
    def _masked(self, secret: SecretStr | None) -> str | None:
        return None if secret is None else MASK


def _check_webhook(url: str) -> None:
    """Raises ValueError, which never repeats the address."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        raise ValueError("is no address; write https://host/path") from None
    if parts.scheme not in {"http", "https"} or not host or re.search(r"\s", url):
        raise ValueError("is no address of the web; write https://host/path")
    if parts.username is not None or parts.password is not None:
        raise ValueError("has a user or a password; leave them out, and set webhook_secret, which signs instead")
    if parts.scheme == "http" and not _is_this_machine(host):
        raise ValueError("is not encrypted; write https:// (http:// only to 127.0.0.1, ::1 or localhost)")


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
