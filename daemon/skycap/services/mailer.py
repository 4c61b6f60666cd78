"""MailService: renders a mail, asks the ledger whether it may be sent, and sends it; each meaning once.

    render → begin → build → before_send → MAIL, RCPT, DATA → dot → message → sent

A template error touches nothing. From the dot on, a send is carried to its end even when its job is cancelled:
stopping there would leave a mail of which nobody knows.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from email.message import EmailMessage
from email.utils import parseaddr
from functools import partial
from typing import Protocol
from weakref import WeakValueDictionary

import structlog

from skycap.context import Log, Mailer, OnUnknown, RunningJob
from skycap.errors import ConfigurationError, MailRefused, PermanentError, Unavailable
from skycap.services.ledger import (
    STALE_AFTER,
    Held,
    Intent,
    LedgerLost,
    MailLedger,
    Proceed,
    message_id_of,
    recipient_hash_of,
)
from skycap.services.message import RenderedMail, build_message
from skycap.services.recipient import Recipient
from skycap.services.replies import Deferred, OutcomeUnknown, SmtpRefused, one_line
from skycap.services.smtp import SmtpPool

_log: Log = structlog.get_logger(__name__)

_ADDRESS = re.compile(r"[^\s:@]+@[^\s:@]+")

_RECORDING_PAUSES = tuple(timedelta(seconds=seconds) for seconds in (0.1, 0.2, 0.5, 1, 2, 3, 4))
"""Between the attempts to write down what the server said: 11 s, in which PostgreSQL has restarted or failed over."""


class Renderer(Protocol):
    """What turns a template into a mail; raises TemplateFailed."""

    def render(self, template: str, *, locale: str | None, variables: Mapping[str, object]) -> RenderedMail: ...


class MailService:
    """Sends the mails of all jobs of this process.

    ``sender`` is the From address, with or without a name; its domain becomes that of the Message-IDs. ``before_send``
    is given each message before it leaves, and may add headers.
    """

    def __init__(
        self,
        *,
        templates: Renderer,
        ledger: MailLedger,
        smtp: SmtpPool,
        sender: str,
        before_send: Callable[[EmailMessage], Awaitable[None]],
    ) -> None:
        self._templates = templates
        self._ledger = ledger
        self._smtp = smtp
        self._sender = sender
        self._envelope_sender = _envelope_sender(sender)
        self._before_send = before_send
        # A mail is not abandoned as long as somebody may still be waiting for the server to confirm it.
        self._stale_after = max(STALE_AFTER, smtp.data_timeout + timedelta(minutes=1))
        self._underway: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def for_job(self, job: RunningJob, claim: int, plugin: str) -> Mailer:
        """The mailer of one run of a job; ``claim`` is greater in each later run of the same job."""
        return _JobMailer(self, job=job, claim=claim, plugin=plugin)

    def render(self, template: str, *, locale: str | None, variables: Mapping[str, object]) -> RenderedMail:
        return self._templates.render(template, locale=locale, variables=variables)

    def message_id_of(self, key: str, *, kind: str) -> str:
        return message_id_of(key, kind=kind, domain=self._envelope_sender.rpartition("@")[2])

    async def send(self, mail: _Mail) -> str:
        """Send it unless it was sent before, and return its Message-ID. Two of one key follow one another."""
        async with self._underway.setdefault(mail.intent.key, asyncio.Lock()):
            answer = await self._ledger.begin(mail.intent, on_unknown=mail.on_unknown, stale_after=self._stale_after)
            if isinstance(answer, Proceed):
                await self._carry_through(mail, answer)
            elif isinstance(answer, Held):
                raise _held(answer.message_id)
            else:
                _log.info("mail not sent again", **mail.fields(answer.message_id))
            return answer.message_id

    async def _carry_through(self, mail: _Mail, first: Proceed) -> None:
        """Send it. Before the dot a cancellation takes effect at once, after it when the end is known."""
        dot = asyncio.Event()
        sending = asyncio.create_task(self._deliver(mail, first, dot), name="mail: send")
        try:
            await asyncio.shield(sending)
        except asyncio.CancelledError:
            if not dot.is_set():
                sending.cancel()
            await _end_of(sending)
            raise

    async def _deliver(self, mail: _Mail, first: Proceed, dot: asyncio.Event) -> None:
        async def before_dot() -> None:
            dot.set()
            await self._ledger.dot(mail.intent)

        started = time.perf_counter()
        try:
            reply = await self._smtp.deliver(
                await self._built(mail, first),
                sender=self._envelope_sender,
                recipient=mail.recipient.address,
                before_dot=before_dot,
            )
        except (PermanentError, Deferred) as error:
            await self._record_refusal(mail, error)
            raise
        except OutcomeUnknown as error:
            raise await self._outcome_unknown(mail, first.message_id, error) from error
        await self._record(mail, partial(self._ledger.sent, mail.intent, code=reply.code, text=reply.text))
        duration_ms = round(1000 * (time.perf_counter() - started))
        _log.info("mail sent", **mail.fields(first.message_id), smtp_code=reply.code, duration_ms=duration_ms)

    async def _built(self, mail: _Mail, first: Proceed) -> bytes:
        message = build_message(
            mail.rendered,
            sender=self._sender,
            recipient=mail.recipient.address,
            message_id=first.message_id,
            date=first.date,
        )
        await self._before_send(message)
        return message.as_bytes()

    async def _record_refusal(self, mail: _Mail, error: PermanentError | Deferred) -> None:
        reply = error.reply if isinstance(error, Deferred | SmtpRefused) else None
        move = self._ledger.deferred if isinstance(error, Deferred) else self._ledger.failed
        code, text = (reply.code, reply.text) if reply else (None, one_line(str(error)))
        await self._record(mail, partial(move, mail.intent, code=code, text=text))

    async def _outcome_unknown(
        self, mail: _Mail, message_id: str, error: OutcomeUnknown
    ) -> Unavailable | PermanentError:
        _log.warning("mail may or may not have arrived", **mail.fields(message_id), on_unknown=mail.on_unknown)
        if mail.on_unknown == "hold":
            await self._record(mail, partial(self._ledger.unknown, mail.intent, text=str(error)))
            return _held(message_id)
        return Unavailable("mail", f"{error}; it is sent again, with the same Message-ID")

    async def _record(self, mail: _Mail, move: Callable[[], Awaitable[None]]) -> None:
        """Write down what is known by now. A database that stays away does not undo it: the row stays where it was."""
        for pause in (*_RECORDING_PAUSES, None):
            try:
                return await move()
            except LedgerLost:
                _log.warning("mail was taken over by another run", **mail.fields())
                return None
            except Unavailable:
                if pause is not None:
                    await asyncio.sleep(pause.total_seconds())
        _log.error("mail ledger could not be told; its row in skycap.mail_ledger is left in state dot", **mail.fields())
        return None


class _JobMailer:
    """See skycap.context.Mailer."""

    def __init__(self, service: MailService, *, job: RunningJob, claim: int, plugin: str) -> None:
        self._service = service
        self._job = job
        self._claim = claim
        self._plugin = plugin

    async def send(
        self,
        to: str,
        template: str,
        /,
        *,
        key: str | None = None,
        locale: str | None = None,
        on_unknown: OnUnknown = "resend",
        **variables: object,
    ) -> str:
        recipient = Recipient.parse(to)
        rendered = self._service.render(template, locale=locale, variables=variables)
        recipient_hash = recipient_hash_of(recipient.address)
        # A job may send one template to several people, so that job and template alone do not say what a mail means.
        key = _pseudonymous(key or f"{self._job.id}:{template}:{recipient_hash[:16]}")
        intent = Intent(
            key=key,
            message_id=self._service.message_id_of(key, kind=self._job.kind),
            kind=self._job.kind,
            job_id=self._job.id,
            claim=self._claim,
            recipient_hash=recipient_hash,
            template=template,
            locale=locale,
        )
        return await self._service.send(
            _Mail(intent=intent, plugin=self._plugin, rendered=rendered, recipient=recipient, on_unknown=on_unknown)
        )


@dataclass(frozen=True, kw_only=True)
class _Mail:
    """One mail that a run of a job asks for."""

    intent: Intent
    plugin: str
    rendered: RenderedMail
    recipient: Recipient
    on_unknown: OnUnknown

    def fields(self, message_id: str | None = None) -> dict[str, object]:
        """What a log line says of it. ``message_id`` is the first intent's, if that is known."""
        return {
            "template": self.intent.template,
            "message_id": message_id or self.intent.message_id,
            "job": self.intent.job_id,
            "plugin": self.plugin,
        }


async def _end_of(task: asyncio.Task[None]) -> None:
    """Wait for it whatever happens; how it ended has been recorded by itself."""
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([task])
    if not task.cancelled():
        task.exception()


def _held(message_id: str) -> PermanentError:
    return PermanentError(
        f"mail {message_id} may have arrived, and is not to arrive twice: look for it in the mail server's log, "
        "then set its state in skycap.mail_ledger to 'sent', or to 'deferred' to send it again"
    )


def _pseudonymous(key: str) -> str:
    """``key`` with a hash for each address in it: the ledger keeps keys for ever, and addresses not at all."""
    return _ADDRESS.sub(lambda found: recipient_hash_of(found[0])[:32], key)


def _envelope_sender(sender: str) -> str:
    problem = f"the sender {sender!r} is no mail address: write name@domain, or Some Name <name@domain>, in ASCII"
    try:
        address = Recipient.parse(parseaddr(sender)[1]).ascii_address
    except MailRefused as error:
        raise ConfigurationError(problem) from error
    if address is None:
        raise ConfigurationError(problem)
    return address
