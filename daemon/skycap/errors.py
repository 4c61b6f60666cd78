"""Every error that skycap raises, and the signals a handler may raise to decide its job's fate.

SkycapError
├── ConfigurationError      the installation is wrong; names file, key and fix (exit 78)
│   └── PluginError         a plugin cannot be used as it is
├── Refused                 this job was not accepted; nothing was stored (exit 64)
│   ├── UnknownKind
│   ├── InvalidPayload
│   ├── NewerPayload
│   ├── PayloadTooLarge
│   ├── KeyReused
│   └── QueueFull           try again later (exit 75)
├── Unavailable             a dependency cannot be reached; trying again may help (exit 69)
│   ├── QueueStopped        nothing of the queue can go on until an admin acts: the queue is paused
│   └── BreakerOpen         the partner fails: its breaker lets nobody through for now
├── QueryTimeout            a handler's query took too long and was cancelled: the attempt has failed
└── PermanentError          trying again cannot help: the job goes to the dead-letter queue at once
    ├── Undecodable
    ├── TemplateFailed
    ├── PartnerRefused
    └── MailRefused
        └── MailSuppressed

Signal (BaseException, so that a handler's own `except Exception` cannot swallow it)
├── Cancel                  the job has no purpose any more
├── Snooze                  not now; uses up no attempt
├── Retry                   this attempt failed; the next one at a time of the handler's own
├── RateLimited             whoever was called asks for a pause: nothing of the same key until then
└── Discard                 this can never work: to the dead-letter queue
"""

from __future__ import annotations

from datetime import datetime, timedelta

from skycap.backoff import Backoff
from skycap.exits import Exit


class SkycapError(Exception):
    """What every error of skycap is. A command that it ends exits with ``exit_code`` (sysexits.h)."""

    exit_code = Exit.INTERNAL


class ConfigurationError(SkycapError):
    """The installation is wrong; the message is one line that names where, what and the fix."""

    exit_code = Exit.CONFIGURATION


class PluginError(ConfigurationError):
    """A plugin cannot be used as it is."""


class Refused(SkycapError):
    """A job was not accepted; nothing was stored."""

    exit_code = Exit.USAGE


class UnknownKind(Refused):
    """No loaded plugin handles this kind."""


class InvalidPayload(Refused):
    """The payload does not fit its kind; ``problems`` has one ``field: what is wrong`` each."""

    def __init__(self, kind: str, problems: list[str]) -> None:
        super().__init__(f"{kind}: {'; '.join(problems)}")
        self.kind = kind
        self.problems = problems


class NewerPayload(Refused):
    """The payload has a version that no loaded plugin knows yet."""


class KeyReused(Refused):
    """An idempotency key came again, with a request that says something else."""


class PayloadTooLarge(Refused):
    """The envelope is larger than a queue takes."""


class QueueFull(Refused):
    """As many jobs wait as the queue's ``max_waiting`` allows; nothing was stored, and later there may be room."""

    exit_code = Exit.TRY_AGAIN


class Unavailable(SkycapError):
    """A dependency cannot be reached or does not answer in time; the job that met it is snoozed."""

    exit_code = Exit.UNAVAILABLE
    schedule: Backoff = Backoff(first=timedelta(seconds=1), factor=2, longest=timedelta(seconds=5), attempts=1)
    """The waits of a job that keeps meeting this error. Short: work should resume within 5 s of the dependency."""

    def __init__(self, dependency: str, problem: str) -> None:
        super().__init__(f"{dependency}: {problem}")
        self.dependency = dependency
        self.problem = problem


class QueueStopped(Unavailable):
    """The next job would meet the same: the worker pauses the queue, for the fleet, with this error as the reason.

    The job itself waits, and uses up no attempt. An admin mends the cause and resumes the queue.
    """


class BreakerOpen(Unavailable):
    """A breaker is open, or lets no more calls through while it is half open; the job waits until it may be tried."""

    def __init__(self, breaker: str, retry_after: timedelta) -> None:
        super().__init__(breaker, f"its breaker is open; to be tried again in {retry_after.total_seconds():.0f} s")
        self.breaker = breaker
        self.retry_after = retry_after


class QueryTimeout(SkycapError):
    """The server cancelled a handler's query after statement_timeout, while it answered others at once.

    So the query is at fault and not the server: the attempt has failed, and the next one is made as after any failure.
    """

    def __init__(self, *, plugin: str, kind: str, took: timedelta, fingerprint: str, statement: str) -> None:
        super().__init__(
            f"a query of {kind} (plugin {plugin}) was cancelled after {took.total_seconds():.1f} s, "
            f"longer than statement_timeout: {statement[:200]} (fingerprint {fingerprint})"
        )
        self.plugin = plugin
        self.kind = kind
        self.fingerprint = fingerprint


class PermanentError(SkycapError):
    """Trying again cannot help; a job that raises it goes to the dead-letter queue at once."""


class Undecodable(PermanentError):
    """What lies in Redis is no envelope of ours, or its payload does not fit its kind."""


class TemplateFailed(PermanentError):
    """A template is missing, does not compile, or uses a variable that it was not given."""


class PartnerRefused(PermanentError):
    """A partner answered that it will not do what was asked of it (HTTP 4xx)."""

    def __init__(self, partner: str, status: int) -> None:
        super().__init__(f"{partner} answered {status}")
        self.partner = partner
        self.status = status


class MailRefused(PermanentError):
    """The mail server refused this mail for good (a 5xx reply)."""


class MailSuppressed(MailRefused):
    """The recipient is on the suppression list: mail to that address has bounced, or was complained about."""


class Signal(BaseException):
    """What a handler raises to decide its job's fate; no error."""


class Cancel(Signal):
    """The job has no purpose any more; it ends as cancelled and is not run again."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Snooze(Signal):
    """Not now: run again after ``delay``. Uses up no attempt."""

    def __init__(self, delay: timedelta, reason: str = "") -> None:
        super().__init__(reason or f"snoozed for {delay}")
        self.delay = delay
        self.reason = reason


class Retry(Signal):
    """The attempt failed, and counts; the next one is ``at`` a moment, or so much later, and not as the backoff says.

    When no attempt is left, the job goes to the dead-letter queue as any failed one does.
    """

    def __init__(self, at: timedelta | datetime, reason: str = "") -> None:
        if isinstance(at, datetime) and at.tzinfo is None:
            raise TypeError(f"Retry({at!r}): a moment needs a time zone; or give a timedelta")
        super().__init__(reason or f"to be retried {'at' if isinstance(at, datetime) else 'in'} {at}")
        self.at = at
        self.reason = reason


class RateLimited(Signal):
    """Whoever the handler called asked for a pause of ``retry_after`` (HTTP 429). Uses up no attempt.

    Until then no job of the same key starts, in the whole fleet; the queue goes on with others. ``limit`` names
    the limit whose key is meant; without it, those of the job's limits that count by a key.
    """

    def __init__(self, retry_after: timedelta, *, limit: str | None = None, reason: str = "") -> None:
        super().__init__(reason or f"rate limited for {retry_after}")
        self.retry_after = retry_after
        self.limit = limit
        self.reason = reason


class Discard(Signal):
    """It can never work: the job goes to its queue's dead-letter queue with ``reason``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
