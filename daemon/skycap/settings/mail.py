"""MailSettings: what every mail carries besides its words, and how fast mails may leave."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from skycap.settings.contacts import checked_mailbox, checked_website
from skycap.settings.masking import quoted
from skycap.settings.section import Section

_HEADER_NAME = re.compile(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*")
_DOMAIN_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*")


class MailSettings(Section):
    """Mails on their way: replies, bounces, unsubscribing, signatures."""

    templates_dir: Path = Field(
        default=Path("/etc/skycap/templates"),
        description="Files in this folder take the place of the shipped templates and catalogues of the same names; "
        "where one cannot be used, the shipped one stays at the start, and all of a `systemctl reload` is refused.",
    )
    reply_to: str | None = Field(
        default=None,
        description="Whom a reply goes to, if not to the sender.",
        examples=["Your Company <help@example.com>"],
    )
    public_url: str | None = Field(
        default=None,
        description="Where guests reach this daemon's /unsubscribe/, through a proxy: https://. "
        "Without it, price alerts can be stopped by a mail to brand.support_email only.",
        examples=["https://jobs.example.com"],
    )
    bounce_address: str | None = Field(
        default=None,
        description="Where bounces go: each mail gets a return address of its own, bounces+TOKEN@…, "
        "whose mails are to be piped into `skycap mail bounce`.",
        examples=["bounces@mail.example.com"],
    )
    idempotency_header: str | None = Field(
        default=None,
        description="A header by which the mail provider recognises a second copy and drops it: "
        "Resend-Idempotency-Key, X-EE-Idempotency-Key, …; then a mail is never held and never arrives twice.",
        examples=["Resend-Idempotency-Key"],
    )
    domain_max: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Mails to one recipient domain within domain_seconds, of the whole fleet, evenly spread; "
        "if not set, as many as the queue lets through.",
        examples=[5],
    )
    domain_seconds: float = Field(default=1.0, ge=0.1, le=86_400, description="See domain_max.")
    mails_per_connection: int = Field(
        default=100, ge=1, le=100_000, description="After so many mails a connection to the mail server is renewed."
    )
    dkim_domain: str | None = Field(
        default=None,
        description="Sign mails for this domain (DKIM), where the mail server does not; needs `skycap[dkim]`.",
        examples=["example.com"],
    )
    dkim_selector: str | None = Field(
        default=None, description="Under which the public key is published.", examples=["skycap2026"]
    )
    dkim_key_file: Path | None = Field(
        default=None, description="The private key (PEM).", examples=["/etc/skycap/dkim.pem"]
    )

    @field_validator("reply_to")
    @classmethod
    def _one_mailbox(cls, mailbox: str | None) -> str | None:
        return None if mailbox is None else checked_mailbox(mailbox)

    @field_validator("bounce_address")
    @classmethod
    def _one_address(cls, mailbox: str | None) -> str | None:
        return None if mailbox is None else checked_mailbox(mailbox, named=False)

    @field_validator("public_url")
    @classmethod
    def _without_slash(cls, url: str | None) -> str | None:
        return None if url is None else checked_website(url).rstrip("/")

    @field_validator("idempotency_header")
    @classmethod
    def _header_name(cls, name: str | None) -> str | None:
        if name is not None and not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{quoted(name)} is no name of a header; write one like Resend-Idempotency-Key")
        return name

    @field_validator("dkim_domain", "dkim_selector")
    @classmethod
    def _domain_name(cls, name: str | None) -> str | None:
        if name is not None and not _DOMAIN_NAME.fullmatch(name):
            raise ValueError(f"{quoted(name)} is no domain name; write one like example.com, or a part of one")
        return name

    @model_validator(mode="after")
    def _whole_signature(self) -> Self:
        given = {
            "dkim_domain": self.dkim_domain,
            "dkim_selector": self.dkim_selector,
            "dkim_key_file": self.dkim_key_file,
        }
        missing = [key for key, value in given.items() if value is None]
        if missing and len(missing) < len(given):
            raise ValueError(f"to sign mails, give {' and '.join(missing)} too")
        return self
