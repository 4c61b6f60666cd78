"""Settings: everything that an admin can set, with its default, its range and what it means.

The descriptions here are the admin's documentation: ``skycap config reference`` writes them into config/skycap.toml.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, NoReturn, Self, cast

from pydantic import Field, PrivateAttr, ValidationError, field_serializer, field_validator, model_validator
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from skycap.backoff import Backoff
from skycap.errors import ConfigurationError
from skycap.settings.addresses import RedisAddress, SmtpAddress
from skycap.settings.alerts import AlertSettings
from skycap.settings.breakers import BreakerSettings, backend_breakers, merged_breakers
from skycap.settings.cache import CacheSettings
from skycap.settings.database import DatabaseAddress
from skycap.settings.http_client import HttpClientSettings
from skycap.settings.jobs import JobSettings
from skycap.settings.layers import Key, Layer, Provenance
from skycap.settings.limits import LimitSettings, unknown_limit
from skycap.settings.mail import MailSettings
from skycap.settings.masking import masked_table
from skycap.settings.outbox import OutboxSettings
from skycap.settings.queues import QueueSettings, backend_queues, merged_queues
from skycap.settings.schedules import ScheduleSettings
from skycap.settings.secrets import secret_keys
from skycap.settings.section import Name
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
from skycap.settings.telemetry import TelemetrySettings

DEFAULT_FILE = Path("/etc/skycap/skycap.toml")

_layers: ContextVar[tuple[Layer, ...]] = ContextVar("layers", default=())


class Settings(BaseSettings):
    """All settings of a daemon. ``load_settings`` reads them; made directly, they are the defaults and the arguments.

    Neither ``repr()`` nor a dump shows a secret.
    """

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True, case_sensitive=True
    )

    env: Literal["development", "production"] = Field(
        default="development",
        description="development or production; in production --embedded, which starts servers of its own, is refused.",
    )
    data_dir: Path | None = Field(
        default=None,
        description="Where the servers that --embedded starts keep their data; "
        "if not set, $STATE_DIRECTORY, else $XDG_STATE_HOME/skycap, else ~/.local/state/skycap.",
        examples=["/var/lib/skycap"],
    )
    plugins_dir: Path = Field(
        default=Path("/etc/skycap/plugins"),
        description="Every NAME.py in this folder is loaded as the plugin NAME; the folder need not exist.",
    )
    disabled_plugins: list[str] = Field(default=[], description="Installed plugins that are not loaded.")
    required_plugins: list[str] = Field(
        default=[], description="Plugins without which the daemon does not start; others that fail are left out."
    )
    load_plugins: list[str] | None = Field(
        default=None,
        description="Load these plugins only; if not set, all that are installed.",
        examples=[["bookings"]],
    )
    redis: RedisSettings = RedisSettings()
    database: DatabaseSettings = DatabaseSettings()
    outbox: OutboxSettings = OutboxSettings()
    cache: CacheSettings = CacheSettings()
    smtp: SmtpSettings = SmtpSettings()
    mail: MailSettings = MailSettings()
    alerts: AlertSettings = AlertSettings()
    http: HttpSettings = HttpSettings()
    http_client: HttpClientSettings = HttpClientSettings()
    worker: WorkerSettings = WorkerSettings()
    signing: SigningSettings = SigningSettings()
    queues: dict[Name, QueueSettings] = Field(default_factory=backend_queues)
    jobs: dict[Name, JobSettings] = Field(default={})
    limits: dict[Name, LimitSettings] = Field(default={})
    schedules: dict[Name, ScheduleSettings] = Field(default={})
    breakers: dict[Name, BreakerSettings] = Field(default_factory=backend_breakers)
    plugins: dict[Name, dict[str, Any]] = Field(default={}, repr=False)
    log: LogSettings = LogSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    brand: BrandSettings = BrandSettings()

    _provenance: Provenance = PrivateAttr(default=Provenance())

    @property
    def production(self) -> bool:
        return self.env == "production"

    def queue(self, name: str) -> QueueSettings:
        """Those of a queue, whether or not it is configured."""
        return self.queues.get(name, self.queues["default"])

    def job(self, kind: str) -> JobSettings:
        """What is set for one kind of job; all None for most."""
        return self.jobs.get(kind, JobSettings())

    def retry_of(self, kind: str, *, queue: str, declared: Backoff | None = None) -> Backoff:
        """When a failed job is tried again: ``[jobs.KIND]`` over what its plugin ``declared``, or else its queue."""
        return self.job(kind).applied_to(declared or self.queue(queue).retry)

    def timeout_of(self, kind: str, *, queue: str, declared: timedelta | None = None) -> timedelta:
        """How long an attempt may take; decided as ``retry_of`` is."""
        seconds = self.job(kind).timeout_seconds
        return (declared or self.queue(queue).timeout) if seconds is None else timedelta(seconds=seconds)

    def retention_of(self, kind: str, *, queue: str) -> tuple[timedelta, timedelta]:
        """How long jobs of a kind are kept: finished ones, discarded ones; ``[jobs.KIND]`` over the queue."""
        own, common = self.job(kind), self.queue(queue)
        finished, discarded = own.keep_finished_seconds, own.keep_discarded_seconds
        return (
            timedelta(seconds=common.keep_finished_seconds if finished is None else finished),
            timedelta(seconds=common.keep_discarded_seconds if discarded is None else discarded),
        )

    def state_dir(self, environ: Mapping[str, str] = os.environ) -> Path:
        """Where embedded servers keep their data; nothing is created."""
        if self.data_dir is not None:
            return self.data_dir.expanduser()
        if environ.get("STATE_DIRECTORY"):
            return Path(environ["STATE_DIRECTORY"].split(":")[0])
        if environ.get("XDG_STATE_HOME"):
            return Path(environ["XDG_STATE_HOME"]) / "skycap"
        return Path(environ.get("HOME") or Path.home()) / ".local/state/skycap"

    def require_redis(self) -> RedisAddress:
        """The queue server's address; raises ConfigurationError when there is none."""
        if self.redis.url is None and self._provenance.has_upstash_rest:
            raise ConfigurationError(
                "UPSTASH_REDIS_REST_URL: redis.url: a cache reached over REST is no queue server; "
                "the same database also has a rediss:// address, set SKYCAP_REDIS_URL to it"
            )
        return self.redis.url or self._missing("redis.url", "redis://host:6379/0")

    def require_database(self) -> DatabaseAddress:
        """PostgreSQL's address; raises ConfigurationError when there is none."""
        return self.database.url or self._missing("database.url", "postgresql://user:password@host:5432/database")

    def require_smtp(self) -> SmtpAddress:
        """The mail server's address; raises ConfigurationError when there is none."""
        return self.smtp.url or self._missing("smtp.url", "smtp+starttls://user:password@host:587")

    def require_sender(self) -> str:
        """Whom mails come from; raises ConfigurationError when nobody is named."""
        return self.smtp.sender or self._missing("smtp.sender", "Your Company <bookings@example.com>")

    def origin(self, key: str) -> str:
        """The file or variable that ``key`` was read from, as ``redis.url``; "default" when nothing sets it."""
        return self._provenance.origin(_parts(key)) or "default"

    @property
    def config_file(self) -> Path | None:
        """The file that was read; None when there is none."""
        return self._provenance.config_file

    def secrets(self) -> dict[str, str]:
        """The keys whose values are, or hold, secrets, and where each was read from."""
        return {key: self.origin(key) for key in secret_keys(dict(self))}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic-settings'
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Our own layers instead of pydantic's: they know the origin of each value, and refuse unknown names."""
        return (init_settings, *(InitSettingsSource(settings_cls, layer.values) for layer in _layers.get()))

    @field_validator("queues", mode="before")
    @classmethod
    def _over_the_defaults(cls, queues: Any) -> Any:
        return merged_queues(cast("Mapping[str, Any]", queues)) if isinstance(queues, Mapping) else queues

    @field_validator("breakers", mode="before")
    @classmethod
    def _over_the_backends(cls, breakers: Any) -> Any:
        return merged_breakers(cast("Mapping[str, Any]", breakers)) if isinstance(breakers, Mapping) else breakers

    @model_validator(mode="after")
    def _limits_that_there_are(self) -> Self:
        tables: Mapping[Key, QueueSettings | JobSettings] = {
            **{("queues", name): queue for name, queue in self.queues.items()},
            **{("jobs", kind): job for kind, job in self.jobs.items()},
        }
        problems = [
            unknown_limit((*key, "limits"), limit, self.limits)
            for key, table in tables.items()
            for limit in table.limits or ()
            if limit not in self.limits
        ]
        if problems:
            # With places of their own, which an error of one validator would not have.
            raise ValidationError.from_exception_data("Settings", problems, hide_input=True)
        return self

    @field_serializer("plugins")
    def _masked_plugins(self, plugins: dict[str, dict[str, Any]]) -> dict[str, Any]:
        return masked_table(plugins)

    def _missing(self, key: str, example: str) -> NoReturn:
        file = self._provenance.config_file or DEFAULT_FILE
        raise ConfigurationError(
            f"{file}: {key}: is not set; give it as {example}, here or in SKYCAP_{key.upper().replace('.', '_')}"
        )

    @classmethod
    def from_layers(cls, provenance: Provenance) -> Self:
        """The settings that ``provenance`` makes; raises pydantic's ValidationError."""
        with _reading(provenance.layers):
            settings = cls()
        settings._provenance = provenance
        return settings


def _parts(key: str) -> Key:
    """The parts of a dotted key; a value that a limit has other figures for can have dots in it, like gmail.com."""
    parts = key.split(".")
    if parts[0] == "limits" and parts[2:3] == ["keys"] and len(parts) > 4:  # noqa: PLR2004 - limits.NAME.keys.VALUE.KEY
        return (*parts[:3], ".".join(parts[3:-1]), parts[-1])
    return tuple(parts)


@contextmanager
def _reading(layers: tuple[Layer, ...]) -> Generator[None]:
    token = _layers.set(layers)
    try:
        yield
    finally:
        _layers.reset(token)
