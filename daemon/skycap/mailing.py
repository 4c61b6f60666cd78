"""What an installation's mails are made of and how they leave, from its settings: for the daemon and for a preview.

What an installation does not use is not loaded: of PostgreSQL and mail that is a tenth of the memory and the start.
"""

from __future__ import annotations

import mimetypes
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from skycap.context import Attachment
from skycap.errors import ConfigurationError
from skycap.observe.meters import Meters

if TYPE_CHECKING:
    from pathlib import Path

    from skycap.engine.link import Link
    from skycap.registry import Registry
    from skycap.services.breakers import FleetBreaker
    from skycap.services.composer import Composer, Letterhead
    from skycap.services.database import DatabasePool
    from skycap.services.mailer import MailService, Sending
    from skycap.services.return_path import ReturnPath
    from skycap.services.smtp import SmtpPool, Tls
    from skycap.services.subscriptions import Subscriptions
    from skycap.services.templates import Templates
    from skycap.settings import Settings

_TLS: dict[str, Tls] = {"required": "starttls", "opportunistic": "opportunistic", "off": "off"}

_LARGEST_LOGO_BYTES = 100_000


def templates_of(settings: Settings, registry: Registry) -> Templates:
    """The templates of all plugins, checked. Raises TemplateFailed."""
    from skycap.services.message import LOGO_ID
    from skycap.services.templates import Templates

    brand = settings.brand.model_dump(mode="json")
    brand["logo"] = f"cid:{LOGO_ID}" if settings.brand.logo else ""
    templates = Templates(registry.template_loaders(), brand=brand, overrides=settings.mail.templates_dir)
    templates.check()
    return templates


def letterhead_of(settings: Settings, sender: str) -> Letterhead:
    """Raises ConfigurationError for a sender that is none, and a logo that cannot be used."""
    from skycap.services.composer import Letterhead

    return Letterhead(
        sender=sender,
        reply_to=settings.mail.reply_to,
        unsubscribe_mailbox=settings.brand.support_email,
        logo=None if settings.brand.logo is None else _logo(settings.brand.logo),
    )


def composer_of(settings: Settings, registry: Registry, templates: Templates, *, sender: str) -> Composer:
    """What makes the messages, exactly as they are sent."""
    from skycap.services.composer import Composer

    return Composer(
        templates,
        letterhead_of(settings, sender),
        before_send=(lambda message: registry.notify("before_send", message=message))
        if registry.has_hook("before_send")
        else None,
    )


def smtp_of(settings: Settings, *, meters: Meters | None = None) -> SmtpPool | None:
    """None when no mail server is configured; nothing is connected yet."""
    configured, address = settings.smtp, settings.smtp.url
    if address is None:
        return None
    from skycap.services.smtp import SmtpPool

    return SmtpPool(
        host=address.host,
        port=address.port,
        tls="implicit" if address.implicit_tls else _TLS[configured.starttls],
        username=address.username,
        password=address.password,
        ca_file=configured.ca_file,
        connections=configured.connections,
        mails_per_connection=settings.mail.mails_per_connection,
        connect_timeout=timedelta(seconds=configured.connect_timeout_seconds),
        command_timeout=timedelta(seconds=configured.command_timeout_seconds),
        data_timeout=timedelta(seconds=configured.data_timeout_seconds),
        timed=(meters or Meters()).smtp_phase,
    )


def subscriptions_of(settings: Settings, registry: Registry, database: DatabasePool) -> Subscriptions:
    """The links by which guests unsubscribe."""
    from skycap.services.secrets import MailSecret
    from skycap.services.subscriptions import Subscriptions

    return Subscriptions(
        database,
        secret=MailSecret(database),
        public_url=settings.mail.public_url,
        unsubscribers=registry.unsubscribers(),
    )


def mail_service_of(
    settings: Settings,
    *,
    composer: Composer,
    database: DatabasePool,
    smtp: SmtpPool,
    subscriptions: Subscriptions,
    link: Link,
    breaker: FleetBreaker | None = None,
    meters: Meters | None = None,
) -> MailService:
    """What sends the mails of a daemon's jobs."""
    from skycap.services.ledger import MailLedger
    from skycap.services.mailer import MailService
    from skycap.services.suppressions import Suppressions

    return MailService(
        composer=composer,
        ledger=MailLedger(database.stateless),
        smtp=smtp,
        suppressions=Suppressions(database.stateless),
        return_path=_return_path(settings, database),
        unsubscribing=subscriptions,
        sending=replace(_sending(settings, link), breaker=breaker, count=(meters or Meters()).mail),
    )


def _return_path(settings: Settings, database: DatabasePool) -> ReturnPath | None:
    if settings.mail.bounce_address is None:
        return None
    from skycap.services.return_path import ReturnPath
    from skycap.services.secrets import MailSecret

    return ReturnPath(settings.mail.bounce_address, secret=MailSecret(database))


def _sending(settings: Settings, link: Link) -> Sending:
    from skycap.services.mailer import Sending

    mail = settings.mail
    sign = pace = None
    if mail.dkim_domain is not None and mail.dkim_selector is not None and mail.dkim_key_file is not None:
        from skycap.services.dkim import DkimSigner

        sign = DkimSigner(domain=mail.dkim_domain, selector=mail.dkim_selector, key_file=mail.dkim_key_file).sign
    if mail.domain_max is not None:
        from skycap.engine.timetable import Timetable

        timetable = Timetable(link, every=timedelta(seconds=mail.domain_seconds) / mail.domain_max)
        pace = timetable.wait
    return Sending(sign=sign, pace=pace, idempotency_header=mail.idempotency_header)


def _logo(file: Path) -> Attachment:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"brand.logo: {file} cannot be read: {error.strerror}") from error
    if len(content) > _LARGEST_LOGO_BYTES:
        raise ConfigurationError(
            f"brand.logo: {file} has {len(content):,} bytes, and every mail would carry them; "
            f"make it smaller than {_LARGEST_LOGO_BYTES:,}"
        )
    media_type = _media_type(content)
    if media_type is None:
        raise ConfigurationError(f"brand.logo: {file} is neither PNG nor JPEG nor GIF; convert it")
    return Attachment(
        filename=f"logo{mimetypes.guess_extension(media_type) or ''}", content=content, media_type=media_type
    )


def _media_type(content: bytes) -> str | None:
    beginnings = {b"\x89PNG\r\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}
    return next((media_type for start, media_type in beginnings.items() if content.startswith(start)), None)
