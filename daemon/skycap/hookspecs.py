"""Every hook of skycap, in the order of a daemon's life: the whole surface that a plugin can extend.

Write a function of the same name, take only the arguments you need, and mark it with ``hookimpl``:

    from skycap import hookimpl

    @hookimpl
    def job_finished(job, outcome):
        …

A misspelt hook name is refused at start. While registering, an error refuses the plugin. Later, whatever a hook
raises is logged with the plugin's name and touches neither the job nor the other plugins.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from email.message import EmailMessage
from typing import TYPE_CHECKING, Any, Protocol

import pluggy

if TYPE_CHECKING:
    from jinja2 import BaseLoader
    from taskiq import TaskiqMiddleware

    from skycap.breaker import BreakerChange, BreakerSpec
    from skycap.context import RunningJob
    from skycap.health import HealthCheck
    from skycap.index import Index
    from skycap.job_type import JobType
    from skycap.outcome import Outcome
    from skycap.sample import Sample
    from skycap.schedule import Schedule
    from skycap.unsubscribing import Unsubscriber

PROJECT = "skycap"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class HookSpecs(Protocol):
    """Load: register_*. Run: daemon_*. For each job: job_*. For each mail: before_send."""

    @hookspec
    def register_jobs(self) -> Iterable[JobType]:
        """The job types that this plugin handles."""
        ...

    @hookspec
    def register_schedules(self) -> Iterable[Schedule]:
        """Payloads to enqueue by the clock; names are unique among all plugins."""
        ...

    @hookspec
    def register_template_loaders(self) -> Iterable[BaseLoader]:
        """Jinja loaders; the first that has a template wins, later plugins before earlier ones."""
        ...

    @hookspec
    def register_samples(self) -> Iterable[Sample]:
        """Jobs to preview mails with; asked for by `skycap mail preview` alone, never by the daemon."""
        ...

    @hookspec
    def register_health_checks(self) -> Iterable[HealthCheck]:
        """Checks that show in ``/api/system/health``."""
        ...

    @hookspec
    def register_breakers(self) -> Iterable[BreakerSpec]:
        """Breakers of partners that this plugin calls; ``[breakers.NAME]`` wins over their figures."""
        ...

    @hookspec
    def register_unsubscribers(self) -> Iterable[Unsubscriber]:
        """What to do when a guest unsubscribes from a mail of this plugin: one at most."""
        ...

    @hookspec
    def register_indexes(self) -> Iterable[Index]:
        """Indexes of the backend's tables that this plugin's queries need; names are unique among all plugins."""
        ...

    @hookspec
    def register_middlewares(self) -> Iterable[TaskiqMiddleware]:
        """Middlewares of taskiq, whose pre_execute, post_execute and on_error see every attempt of every kind.

        Those of earlier plugins come first, and last on the way back. What one raises fails the attempt.
        """
        ...

    @hookspec
    def daemon_started(self, worker_id: str) -> Any:
        """The daemon takes jobs from now on. May be a coroutine function."""

    @hookspec
    def job_started(self, job: RunningJob) -> Any:
        """An attempt begins. Must not block; may be a coroutine function."""

    @hookspec
    def job_finished(self, job: RunningJob, outcome: Outcome, duration: timedelta) -> Any:
        """An attempt ended with ``outcome``, before the queue is told. Must not block; may be a coroutine function."""

    @hookspec
    def breaker_changed(self, change: BreakerChange) -> Any:
        """A breaker has opened, or closed, or is half open: told to one daemon of the fleet, the first that meets it.

        May be a coroutine function.
        """

    @hookspec
    def before_send(self, message: EmailMessage) -> Any:
        """A mail is about to be sent; headers may be added. Must not block; may be a coroutine function."""

    @hookspec
    def daemon_stopping(self, worker_id: str) -> Any:
        """No further job is taken; running ones go on until they end or the grace period does."""
