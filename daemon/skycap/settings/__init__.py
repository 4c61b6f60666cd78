"""Settings: what an admin decides, read from files, environment and credentials, and refused in one line."""

from skycap.settings.addresses import BindAddress, RedisAddress, SmtpAddress
from skycap.settings.breakers import BreakerSettings
from skycap.settings.database import DatabaseAddress
from skycap.settings.http_client import HttpClientSettings
from skycap.settings.invalid import InvalidSettings
from skycap.settings.jobs import JobSettings
from skycap.settings.limits import KeyLimitSettings, LimitSettings
from skycap.settings.loading import load_settings
from skycap.settings.model import Settings
from skycap.settings.queues import QueueSettings
from skycap.settings.reference import reference
from skycap.settings.schedules import ScheduleSettings
from skycap.settings.sections import (
    BrandSettings,
    DatabaseSettings,
    HttpSettings,
    LogSettings,
    RedisSettings,
    SmtpSettings,
    WorkerSettings,
)
from skycap.settings.signing import SigningSettings

__all__ = [
    "BindAddress",
    "BrandSettings",
    "BreakerSettings",
    "DatabaseAddress",
    "DatabaseSettings",
    "HttpClientSettings",
    "HttpSettings",
    "InvalidSettings",
    "JobSettings",
    "KeyLimitSettings",
    "LimitSettings",
    "LogSettings",
    "QueueSettings",
    "RedisAddress",
    "RedisSettings",
    "ScheduleSettings",
    "Settings",
    "SigningSettings",
    "SmtpAddress",
    "SmtpSettings",
    "WorkerSettings",
    "load_settings",
    "reference",
]
