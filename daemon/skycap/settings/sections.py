"""The tables that every configuration has once: servers, worker, logs, brand."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator

from skycap.settings.addresses import ListenAddress, RedisAddress, SmtpAddress
from skycap.settings.call_rate import CallRate
from skycap.settings.colors import checked_color
from skycap.settings.contacts import checked_mailbox, checked_website
from skycap.settings.database import DatabaseAddress
from skycap.settings.host_name import HostName
from skycap.settings.memory_size import MemorySize, memory_bytes
from skycap.settings.section import DAY_SECONDS, Section

_LIGHT_GROUND, _DARK_GROUND = "#f6f0e8", "#352b25"
"""Of the mails' panels and page, in base/layout.html.j2: the grounds on which the brand's colours show least."""


class RedisSettings(Section):
    """The queue server: Redis 7.0 or Valkey 7.2, or later."""

    url: RedisAddress | None = Field(
        default=None,
        description="redis://, rediss:// (TLS) or unix://. Required, unless `skycap run --embedded` starts one.",
        examples=["redis://:password@localhost:6379/0"],
    )


class DatabaseSettings(Section):
    """PostgreSQL: the backend's tables, and skycap's own in the schema skycap. Prisma's addresses are understood."""

    url: DatabaseAddress | None = Field(
        default=None,
        description="postgresql://. Without it, jobs that need it wait. "
        "Its connection_limit, pool_timeout, connect_timeout and socket_timeout hold where the keys below are not set.",
        examples=["postgresql://skycap:password@localhost:5432/travel"],
    )
    direct_url: DatabaseAddress | None = Field(
        default=None,
        description="The server itself, when url is a transaction pooler (pgbouncer=true, or found out): "
        "LISTEN, migrations and CREATE INDEX CONCURRENTLY need it.",
        examples=["postgresql://skycap:password@localhost:5432/travel"],
    )
    pool_size: int = Field(default=10, ge=1, le=1000, description="Connections that one daemon opens at most.")
    pool_timeout_seconds: float = Field(
        default=10.0, ge=0.1, le=3600, description="How long a job waits for one of them before it is put off."
    )
    connect_timeout_seconds: float = Field(
        default=5.0, ge=0.1, le=300, description="How long opening a connection may take."
    )
    statement_timeout_seconds: float = Field(
        default=30.0, ge=0, le=DAY_SECONDS, description="The server cancels a statement after this long; 0 = never."
    )
    lock_timeout_seconds: float = Field(
        default=5.0, ge=0, le=3600, description="The server gives up waiting for a lock after this long; 0 = never."
    )
    slow_query_ms: float = Field(
        default=1000.0,
        ge=0,
        le=3_600_000,
        description="Statements that take longer are logged and counted, without any value in them; 0 logs every one.",
    )
    replica_urls: list[DatabaseAddress] = Field(
        default=[],
        description="Standbys that answer what handlers read: reads may then be a moment behind, "
        "unless a handler asks for ctx.db.fresh, or has written before. A secret, as url is.",
    )
    replica_max_lag_seconds: float = Field(
        default=10.0,
        ge=0.5,
        le=3600,
        description="A standby that is further behind, or cannot be reached, is left out until it has caught up.",
    )
    migrate: bool = Field(
        default=True,
        description="Bring the schema skycap up to date at start; false leaves it to `skycap db migrate`.",
    )

    @model_validator(mode="before")
    @classmethod
    def _limits_of_the_url(cls, data: Any) -> Any:
        with suppress(ValueError, TypeError, KeyError):  # what is wrong with the url, its own field says
            return DatabaseAddress.accept(data["url"]).limits | data
        return data

    @field_validator("direct_url")
    @classmethod
    def _past_the_pooler(cls, address: DatabaseAddress | None) -> DatabaseAddress | None:
        if address is not None and address.pgbouncer:
            raise ValueError("says pgbouncer=true, so it is not direct; give the address of the server itself")
        return address

    @property
    def direct(self) -> DatabaseAddress | None:
        """Where LISTEN and migrations go; None when only a transaction pooler is known."""
        if self.direct_url is None and self.url is not None and self.url.pgbouncer:
            return None
        return self.direct_url or self.url


class SmtpSettings(Section):
    """The mail server that mails are handed to."""

    url: SmtpAddress | None = Field(
        default=None,
        description="smtp+starttls:// (port 587) or smtps:// (TLS at once, port 465), with user:password@ if it asks "
        "for them, each percent-encoded; smtp:// is the same as smtp+starttls://. "
        "Without it, jobs that send mail wait.",
        examples=["smtp+starttls://user:password@mail.example.com:587"],
    )
    password: SecretStr | None = Field(
        default=None,
        description="Takes the place of the password in url, so that only this one need be kept as a secret.",
        examples=["password"],
    )
    starttls: Literal["required", "opportunistic", "off"] = Field(
        default="required",
        description="required = no mail leaves unencrypted; opportunistic = encrypted if the server offers it; "
        "off = never. A password is sent unencrypted to this machine only.",
    )
    sender: str | None = Field(
        default=None,
        description="Whom mails come from: an address, or a name and an address in <>. Required where url is set.",
        examples=["Your Company <bookings@example.com>"],
    )
    ca_file: Path | None = Field(
        default=None,
        description="Certificates (PEM) to trust instead of the system's, for a server with an authority of its own.",
        examples=["/etc/skycap/mail-ca.pem"],
    )
    connections: int = Field(default=4, ge=1, le=100, description="Connections that one daemon keeps open at most.")
    connect_timeout_seconds: float = Field(
        default=10.0, ge=0.1, le=300, description="How long connecting may take, TLS included."
    )
    command_timeout_seconds: float = Field(
        default=30.0, ge=1, le=3600, description="How long the server may take to answer a command."
    )
    data_timeout_seconds: float = Field(
        default=600.0,
        ge=1,
        le=3600,
        description="How long it may take to accept a mail after its last byte (RFC 5321 4.5.3.2.6 asks for 600).",
    )

    @model_validator(mode="before")
    @classmethod
    def _password_into_the_url(cls, data: Any) -> Any:
        with suppress(ValueError, TypeError, KeyError):  # what is wrong with either, its own field says
            password = data["password"]
            secret = password.get_secret_value() if isinstance(password, SecretStr) else password
            return {**data, "url": SmtpAddress.accept(data["url"]).with_password(secret)}
        return data

    @field_validator("url")
    @classmethod
    def _complete(cls, address: SmtpAddress | None) -> SmtpAddress | None:
        if address is not None and (address.username is None) != (address.password is None):
            has, lacks = ("password", "user") if address.username is None else ("user", "password")
            raise ValueError(f"names a {has} and no {lacks}; write user:password@host, or set SKYCAP_SMTP_PASSWORD")
        return address

    @field_validator("starttls")
    @classmethod
    def _secret_on_the_wire(cls, starttls: str, info: ValidationInfo) -> str:
        address: SmtpAddress | None = info.data.get("url")
        if address is None or starttls == "required":
            return starttls
        if address.url.scheme == "smtp+starttls":
            raise ValueError(f'"{starttls}" contradicts smtp+starttls:// in smtp.url; write smtp:// there')
        if address.password and not address.implicit_tls and not address.is_loopback:
            raise ValueError(
                f'"{starttls}" could send the password unencrypted to {address.host}; '
                'give "required", or leave user and password out of smtp.url'
            )
        return starttls

    @field_validator("sender")
    @classmethod
    def _one_sender(cls, sender: str | None) -> str | None:
        return None if sender is None else checked_mailbox(sender)


class HttpSettings(Section):
    """Health, status, metrics and the API to enqueue."""

    enabled: bool = Field(default=True, description="Whether to listen at all.")
    bind: ListenAddress = Field(
        default=ListenAddress(host="127.0.0.1", port=8600, path=None),
        description="host:port, [v6]:port or unix:/path; only this machine's own addresses, unless tokens_file is set.",
    )
    tokens_file: Path | None = Field(
        default=None,
        description="The tokens with which jobs may be enqueued, looked at and changed; `skycap tokens new` makes one. "
        "If not set, everybody on this machine may in development, and nobody in production.",
        examples=["/etc/skycap/tokens.toml"],
    )
    hosts: list[HostName] = Field(
        default=[],
        description="The names by which a proxy in front of it is reached. A request without a token must be for one "
        "of them or for this machine by its own name: others are made up by web pages (DNS rebinding).",
        examples=[["jobs.example.com"]],
    )
    token_rate: CallRate = Field(
        default="1000/1s",
        description="How many requests one daemon takes with one token in a time, as 100/1s; "
        "a token can have a rate of its own.",
    )

    @model_validator(mode="after")
    def _tokens_where_others_reach_it(self) -> Self:
        if not self.bind.is_local and self.tokens_file is None:
            raise ValueError(
                f"bind: {self.bind} can be reached from other machines; set tokens_file, for which `skycap tokens new` "
                f"makes tokens, or give 127.0.0.1:{self.bind.port} or unix:/path, behind a proxy that checks who asks"
            )
        return self


class WorkerSettings(Section):
    """How jobs are held while they run, and what becomes of those that cannot run."""

    lease_seconds: float = Field(
        default=10.0,
        ge=1,
        le=3600,
        description="A running job of a daemon that has died, or cannot reach Redis, runs elsewhere after this long.",
    )
    grace_seconds: float = Field(
        default=25.0,
        ge=0,
        le=DAY_SECONDS,
        description="How long running jobs may take to end after SIGTERM; the rest is handed back. "
        "Keep systemd's TimeoutStopSec some seconds above it.",
    )
    poison_after: int = Field(
        default=3,
        ge=1,
        le=100,
        description="A job that has killed its daemon this many times goes to the dead-letter queue.",
    )
    unknown_kind_hours: float = Field(
        default=24.0,
        ge=0,
        le=720,
        description="How long a job waits for a daemon that knows its kind before it goes to the dead-letter queue.",
    )
    max_memory: MemorySize | None = Field(
        default=None,
        description="A daemon that uses more drains and exits with 75, on which systemd starts it again; off = never. "
        "If not set, 90 % of MemoryMax or MemoryHigh, where one of them is set.",
        examples=["1GiB"],
    )

    @property
    def max_memory_bytes(self) -> int | None:
        return None if self.max_memory is None else memory_bytes(self.max_memory)


class LogSettings(Section):
    """What the daemon writes to standard error, or to systemd's journal."""

    format: Literal["auto", "console", "json", "journal"] = Field(
        default="auto",
        description="console = for people; json = a line each; journal = systemd's, with fields to search for. "
        "auto = journal under systemd, console on a terminal, json elsewhere.",
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least severe lines to write."
    )


class BrandSettings(Section):
    """What mails say about the company."""

    name: str = Field(default="skycap travel", min_length=1, max_length=100, description="Its name.")
    website: str = Field(default="https://example.com", description="Where links in mails lead, http:// or https://.")
    support_email: str = Field(default="support@example.com", description="Where mails tell a customer to write to.")
    address: str = Field(
        default="", max_length=300, description="A line at the foot of each mail: the company's legal name and address."
    )
    color: str = Field(default="#9a3f26", description="Of links, buttons and its name, on white: #rrggbb.")
    color_dark: str = Field(default="#f3a586", description="The same in dark mode, on near-black: #rrggbb.")
    logo: Path | None = Field(
        default=None,
        description="A picture (PNG, JPEG or GIF, at most 100 kB) that mails carry and show instead of the name.",
        examples=["/etc/skycap/logo.png"],
    )

    @field_validator("color")
    @classmethod
    def _color(cls, color: str) -> str:
        return checked_color(color, ground=_LIGHT_GROUND, lighter_or_darker="darker")

    @field_validator("color_dark")
    @classmethod
    def _color_dark(cls, color: str) -> str:
        return checked_color(color, ground=_DARK_GROUND, lighter_or_darker="lighter")

    @field_validator("website")
    @classmethod
    def _website(cls, website: str) -> str:
        return checked_website(website)

    @field_validator("support_email")
    @classmethod
    def _support_email(cls, mailbox: str) -> str:
        return checked_mailbox(mailbox, named=False)
