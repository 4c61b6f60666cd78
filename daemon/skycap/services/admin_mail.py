"""AdminMail: mails about the installation itself, which no queue carries: it may be what is broken."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from html import escape

import structlog

from skycap.context import Log, RunningJob
from skycap.errors import Snooze, TemplateFailed, Unavailable
from skycap.services.composer import Composition
from skycap.services.ledger import recipient_hash_of
from skycap.services.mailer import MailService
from skycap.services.recipient import Recipient
from skycap.services.smtp import SmtpPool

_log: Log = structlog.get_logger(__name__)

_KIND = "operations"
"""What the ledger and the Message-ID say instead of a kind of job."""

_OF_THE_LEDGER = frozenset({"database", "redis"})
"""What is asked before a mail is sent: the ledger, and how many may go to a domain."""


class AdminMail:
    """Sends through the ledger, each meaning once; and without it when that, or Redis, is what is away."""

    def __init__(self, service: MailService, smtp: SmtpPool) -> None:
        self._service = service
        self._smtp = smtp

    async def send(
        self, to: str, template: str, *, key: str, claim: int, subject: str, about: Mapping[str, object]
    ) -> None:
        """Render ``template``, which has English only, and send it; where it cannot be used, ``subject`` and the
        what it is ``about`` are written out plainly. ``claim`` is greater whenever the same is tried again.

        Raises Unavailable and MailRefused.
        """
        key = f"{key}:{recipient_hash_of(to)[:16]}"
        try:
            await self._send_by_ledger(to, template, key=key, claim=claim, subject=subject, about=about)
        except Unavailable as error:
            if error.dependency not in _OF_THE_LEDGER:
                raise
            _log.warning("mail sent without the ledger", template=template, problem=str(error))
            composition = self._composition(template, subject=subject, about=about)
            await self._send_unrecorded(to, key, composition)
        except Snooze as signal:  # there is no job that could wait
            raise Unavailable("mail", "as many mails as allowed go to this domain already") from signal

    async def _send_by_ledger(
        self, to: str, template: str, *, key: str, claim: int, subject: str, about: Mapping[str, object]
    ) -> None:
        job = RunningJob(id=key, kind=_KIND, queue="", attempt=claim, max_attempts=claim, enqueued_at=datetime.now(UTC))
        mailer = self._service.for_job(job, claim, _KIND)
        try:
            await mailer.send(to, template, key=key, locale="en", about=about)
        except TemplateFailed as error:
            _log.warning("mail written without its template", template=template, problem=str(error))
            text = _plain(about)
            await mailer.send_written(to, subject=subject, text=text, html=_html(text), key=key)

    def _composition(self, template: str, *, subject: str, about: Mapping[str, object]) -> Composition:
        composer = self._service.composer
        try:
            return composer.rendered(template, locale="en", variables={"about": about})
        except TemplateFailed:
            text = _plain(about)
            return composer.written(subject=subject, text=text, html=_html(text))

    async def _send_unrecorded(self, to: str, key: str, composition: Composition) -> None:
        """With the Message-ID that it always has, by which mail programs know a second copy."""
        recipient = Recipient.parse(to)
        composer = self._service.composer
        message = await composer.message(
            composition,
            recipient=recipient,
            message_id=self._service.message_id_of(key, kind=_KIND),
            date=datetime.now(UTC),
        )
        await self._smtp.deliver(message, sender=composer.letterhead.address, recipient=recipient, before_dot=_nothing)


async def _nothing() -> None:
    """No ledger to tell."""


def _plain(about: Mapping[str, object]) -> str:
    return "".join(f"{name}: {value}\n" for name, value in about.items() if value is not None)


def _html(text: str) -> str:
    return f"<pre>{escape(text)}</pre>\n"
