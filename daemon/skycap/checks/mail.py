"""The mail server: lets us in, encrypted, and takes mails as large as ours; nothing is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from skycap.checks.certificates import finding_of_end, moment
from skycap.checks.finding import CannotLook, Finding, misconfigured, ok, warn
from skycap.checks.group import Group
from skycap.checks.installation import Installation
from skycap.errors import SkycapError, Unavailable
from skycap.mailing import smtp_of
from skycap.services.dkim import DkimSigner
from skycap.services.replies import NotLoggedIn
from skycap.services.smtp_connection import SmtpTerms
from skycap.settings import Settings

_USUAL_BYTES = 1_000_000
"""Of a confirmation with a calendar file, a receipt with its PDF."""
_PATIENCE_SECONDS = 3
_EXAMPLES = ("example.com", "example.org", "example.net")


@dataclass(frozen=True, kw_only=True)
class MailServer:
    """What it said when it had let us in, or why it did not."""

    installation: Installation
    settings: Settings
    said: SmtpTerms | SkycapError

    @property
    def terms(self) -> SmtpTerms:
        if isinstance(self.said, SkycapError):
            raise CannotLook("mail.login failed")
        return self.said


@asynccontextmanager
async def _opened(installation: Installation) -> AsyncGenerator[MailServer]:
    settings = installation.require_settings()
    pool = smtp_of(settings)
    if pool is None:
        raise CannotLook("smtp.url is not set: jobs that send mail wait")
    said: SmtpTerms | SkycapError
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            said = await pool.look()
    except TimeoutError:
        said = Unavailable("mail", f"no answer within {_PATIENCE_SECONDS} s")
    except SkycapError as error:
        said = error
    finally:
        await pool.close()
    yield MailServer(installation=installation, settings=settings, said=said)


mail = Group("mail", _opened)


@mail.check
def login(server: MailServer) -> Finding:
    """The server greets, encrypts and lets us in."""
    if isinstance(server.said, NotLoggedIn):
        return misconfigured(str(server.said), "correct the user in smtp.url, and its password (smtp_password)")
    if isinstance(server.said, SkycapError):
        raise server.said
    address = server.settings.smtp.url
    return ok("lets us in" if address is not None and address.username else "greets us; no user is configured")


@mail.check
def encryption(server: MailServer) -> Finding:
    """Mails are handed over with TLS 1.2 or later."""
    version = server.terms.tls
    if version is None:
        return warn("mails are handed over unencrypted", 'smtp.starttls = "required", or smtps://')
    if version in {"TLSv1", "TLSv1.1"}:
        return warn(f"the server speaks {version}", "have it speak TLS 1.2 or later")
    return ok(version)


@mail.check
def certificate(server: MailServer) -> Finding:
    """Its certificate is valid, and does not end within 14 days."""
    ends = server.terms.certificate_ends
    if ends is None:
        raise CannotLook("nothing is encrypted")
    return finding_of_end("the mail server", moment(ends))


@mail.check
def size(server: MailServer) -> Finding:
    """It takes the largest mails that jobs can make."""
    limit = server.terms.largest_bytes
    registry = server.installation.require_registry()
    largest = max(
        (each.payload.payload_spec.largest_bytes for each in registry.job_types if each.queue == "email"),
        default=_USUAL_BYTES,
    )
    if limit is None:
        return ok("it names no limit")
    if limit < largest:
        return warn(
            f"takes mails up to {_mb(limit)} MB, and a job can make one of {_mb(largest)}: that is dead-lettered",
            "raise its limit (message_size_limit), or send less in attachments",
        )
    return ok(f"takes mails up to {_mb(limit)} MB")


@mail.check
def sender(server: MailServer) -> Finding:
    """smtp.sender is set, and brand names the company, not an example."""
    settings = server.settings
    from_whom = settings.require_sender()
    domain = from_whom.rpartition("@")[2].rstrip(">").lower()
    if domain in _EXAMPLES:
        return misconfigured("smtp.sender is an example", "give the company's own address")
    examples = [
        key
        for key, value in (
            ("brand.support_email", settings.brand.support_email),
            ("brand.website", settings.brand.website),
        )
        if value.rstrip("/").lower().endswith(_EXAMPLES)
    ]
    if examples and settings.production:
        return warn(f"{' and '.join(examples)}: an example, which every mail shows", "set [brand]")
    return ok(f"mails come from @{domain}")


@mail.check
def unsubscribe(server: MailServer) -> Finding:
    """Guests can stop price alerts with one click: mail.public_url."""
    if server.settings.mail.public_url is None:
        return warn(
            "mail.public_url is not set: price alerts are stopped by a mail only, and large receivers want one click",
            "set it to where a proxy leads to this daemon's /unsubscribe/",
        )
    return ok("with one click")


@mail.check
def signature(server: MailServer) -> Finding:
    """The DKIM key can sign, where mails are signed here."""
    configured = server.settings.mail
    if configured.dkim_domain is None or configured.dkim_selector is None or configured.dkim_key_file is None:
        raise CannotLook("mails are not signed here: the mail server does it")
    DkimSigner(domain=configured.dkim_domain, selector=configured.dkim_selector, key_file=configured.dkim_key_file)
    return ok(f"signs for {configured.dkim_domain}")


def _mb(number: int) -> str:
    return f"{number / 1_000_000:.1f}"
