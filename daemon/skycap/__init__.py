"""skycap runs a travel company's background jobs. This module is what a plugin or an application imports.

Each name is loaded when it is first used: a command that needs none of them does not pay for pydantic.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skycap.backoff import Backoff, exponential, fixed, linear, waits
    from skycap.breaker import Breaker, BreakerChange, BreakerSpec, BreakerState
    from skycap.cache import Asked, Cache, Ttl
    from skycap.client import AsyncClient, Client, Recorder
    from skycap.context import Attachment, Context, Database, UnsubscribeContext
    from skycap.errors import (
        BreakerOpen,
        Cancel,
        ConfigurationError,
        Discard,
        InvalidPayload,
        KeyReused,
        MailRefused,
        MailSuppressed,
        NewerPayload,
        PartnerRefused,
        PayloadTooLarge,
        PermanentError,
        PluginError,
        QueryTimeout,
        QueueFull,
        QueueStopped,
        RateLimited,
        Refused,
        Retry,
        SkycapError,
        Snooze,
        TemplateFailed,
        Unavailable,
        UnknownKind,
    )
    from skycap.health import Health, degraded, down, ok
    from skycap.hookspecs import hookimpl
    from skycap.http_client import HttpClient, HttpReply
    from skycap.job import Enqueued, Job, JobState
    from skycap.job_type import JobType
    from skycap.outcome import Outcome
    from skycap.payload import Payload
    from skycap.plugin import Plugin
    from skycap.raw_payload import RawPayload
    from skycap.repetition import retrying
    from skycap.sample import Sample
    from skycap.unique import Unique

__all__ = [
    "Asked",
    "AsyncClient",
    "Attachment",
    "Backoff",
    "Breaker",
    "BreakerChange",
    "BreakerOpen",
    "BreakerSpec",
    "BreakerState",
    "Cache",
    "Cancel",
    "Client",
    "ConfigurationError",
    "Context",
    "Database",
    "Discard",
    "Enqueued",
    "Health",
    "HttpClient",
    "HttpReply",
    "InvalidPayload",
    "Job",
    "JobState",
    "JobType",
    "KeyReused",
    "MailRefused",
    "MailSuppressed",
    "NewerPayload",
    "Outcome",
    "PartnerRefused",
    "Payload",
    "PayloadTooLarge",
    "PermanentError",
    "Plugin",
    "PluginError",
    "QueryTimeout",
    "QueueFull",
    "QueueStopped",
    "RateLimited",
    "RawPayload",
    "Recorder",
    "Refused",
    "Retry",
    "Sample",
    "SkycapError",
    "Snooze",
    "TemplateFailed",
    "Ttl",
    "Unavailable",
    "Unique",
    "UnknownKind",
    "UnsubscribeContext",
    "degraded",
    "down",
    "exponential",
    "fixed",
    "hookimpl",
    "linear",
    "ok",
    "retrying",
    "waits",
]

_HOMES = {
    "Asked": "skycap.cache",
    "AsyncClient": "skycap.client",
    "Attachment": "skycap.context",
    "Backoff": "skycap.backoff",
    "Breaker": "skycap.breaker",
    "BreakerChange": "skycap.breaker",
    "BreakerOpen": "skycap.errors",
    "BreakerSpec": "skycap.breaker",
    "BreakerState": "skycap.breaker",
    "Cache": "skycap.cache",
    "Cancel": "skycap.errors",
    "Client": "skycap.client",
    "ConfigurationError": "skycap.errors",
    "Context": "skycap.context",
    "Database": "skycap.context",
    "Discard": "skycap.errors",
    "Enqueued": "skycap.job",
    "Health": "skycap.health",
    "HttpClient": "skycap.http_client",
    "HttpReply": "skycap.http_client",
    "InvalidPayload": "skycap.errors",
    "Job": "skycap.job",
    "JobState": "skycap.job",
    "JobType": "skycap.job_type",
    "KeyReused": "skycap.errors",
    "MailRefused": "skycap.errors",
    "MailSuppressed": "skycap.errors",
    "NewerPayload": "skycap.errors",
    "Outcome": "skycap.outcome",
    "PartnerRefused": "skycap.errors",
    "Payload": "skycap.payload",
    "PayloadTooLarge": "skycap.errors",
    "PermanentError": "skycap.errors",
    "Plugin": "skycap.plugin",
    "PluginError": "skycap.errors",
    "QueryTimeout": "skycap.errors",
    "QueueFull": "skycap.errors",
    "QueueStopped": "skycap.errors",
    "RateLimited": "skycap.errors",
    "RawPayload": "skycap.raw_payload",
    "Recorder": "skycap.client",
    "Refused": "skycap.errors",
    "Retry": "skycap.errors",
    "Sample": "skycap.sample",
    "SkycapError": "skycap.errors",
    "Snooze": "skycap.errors",
    "TemplateFailed": "skycap.errors",
    "Ttl": "skycap.cache",
    "Unavailable": "skycap.errors",
    "Unique": "skycap.unique",
    "UnknownKind": "skycap.errors",
    "UnsubscribeContext": "skycap.context",
    "degraded": "skycap.health",
    "down": "skycap.health",
    "exponential": "skycap.backoff",
    "fixed": "skycap.backoff",
    "hookimpl": "skycap.hookspecs",
    "linear": "skycap.backoff",
    "ok": "skycap.health",
    "retrying": "skycap.repetition",
    "waits": "skycap.backoff",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__doc__", "__name__", "__path__"]
