"""MailService: renders a mail, asks the ledger whether it may be sent, and sends it; each meaning once.

    breaker → compose → pace → begin → message → sign → MAIL, RCPT, DATA → dot → body → sent

A template error touches nothing. From the dot on, a send is carried to its end even when its job is cancelled:
stopping there would leave a mail of which nobody knows.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol
from weakref import WeakValueDictionary

import structlog

from skycap import tracing
from skycap.context import MAIL_MAX_AGE, Attachment, Log, Mailer, OnUnknown, RunningJob
from skycap.errors import MailRefused, MailSuppressed, PermanentError, QueueStopped, Snooze, Unavailable
from skycap.services.breakers import Call, FleetBreaker, Result
from skycap.services.composer import Composer, Composition
from skycap.services.ledger import (
    STALE_AFTER,
    Held,
    Intent,
    LedgerLost,
    MailLedger,
    Proceed,
    Suppressed,
    message_id_of,
    recipient_hash_of,
)
from skycap.services.recipient import Recipient
from skycap.services.replies import Deferred, OutcomeUnknown, SmtpRefused, SmtpReply, one_line
from skycap.services.return_path import ReturnPath
from skycap.services.smtp import SmtpPool
from skycap.services.suppressions import Suppressions

_log: Log = structlog.get_logger(__name__)

_ADDRESS = re.compile(r"[^\s:@]+@[^\s:@]+")

_RECORDING_PAUSES = tuple(timedelta(seconds=seconds) for seconds in (0.1, 0.2, 0.5, 1, 2, 3, 4))
"""Between the attempts to write down what the server said: 11 s, in which PostgreSQL has restarted or failed over."""


class Unsubscribing(Protocol):
    """Where guests go to have no more of such mails."""

    async def link(self, plugin: str, who: Mapping[str, str], *, locale: str | None) -> str | None:
        """An address of the web; None when guests cannot reach the daemon."""
        ...


@dataclass(frozen=True, kw_only=True)
class Sending:
    """How mails leave, where an installation has it otherwise than usual.

    ``sign`` is given the finished message. ``pace`` is asked before each mail, by recipient domain and by what the
    mail means, how long it has to wait. ``idempotency_header`` is one by which the server knows a second copy.
    ``breaker`` is asked before anything else, and told how the server was. ``count`` is told the kind of
    each mail's job, what became of the mail (sent, deferred, failed, unknown, suppressed) and what the reply meant.
    """

    sign: Callable[[bytes], Awaitable[bytes]] | None = None
    pace: Callable[[str, str], Awaitable[timedelta]] | None = None
    idempotency_header: str | None = None
    breaker: FleetBreaker | None = None
    count: Callable[[str, str, str], None] = lambda _kind, _result, _reply_class: None


class MailService:
    """Sends the mails of all jobs of this process.

    The sender's domain becomes that of the Message-IDs. Without ``return_path``, bounces go to the sender.
    """

    def __init__(
        self,
        *,
        composer: Composer,
        ledger: MailLedger,
        smtp: SmtpPool,
        suppressions: Suppressions | None = None,
        return_path: ReturnPath | None = None,
        unsubscribing: Unsubscribing | None = None,
        sending: Sending | None = None,
    ) -> None:
        self.composer = composer
        self._unsubscribing = unsubscribing
        self._ledger = ledger
        self._smtp = smtp
        self._sender = composer.letterhead.address
        self._suppressions = suppressions
        self._return_path = return_path
        self._sending = sending or Sending()
        # A mail is not abandoned as long as somebody may still be waiting for the server to confirm it.
        self._stale_after = max(STALE_AFTER, smtp.data_timeout + timedelta(minutes=1))
        self._underway: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def for_job(self, job: RunningJob, claim: int, plugin: str) -> Mailer:
        """The mailer of one run of a job; ``claim`` is greater in each later run of the same job."""
        return _JobMailer(self, job=job, claim=claim, plugin=plugin)

    def message_id_of(self, key: str, *, kind: str) -> str:
        return message_id_of(key, kind=kind, domain=self._sender.rpartition("@")[2])

    async def link(self, plugin: str, who: Mapping[str, str], *, locale: str | None) -> str | None:
        """Where the guest of a mail unsubscribes; see Unsubscribing."""
        return await self._unsubscribing.link(plugin, who, locale=locale) if self._unsubscribing else None

    async def return_token_of(self, key: str, recipient_hash: str) -> str | None:
        return await self._return_path.token_of(key, recipient_hash) if self._return_path else None

    @asynccontextmanager
    async def admitted(self) -> AsyncGenerator[Call | None]:
        """A block that may send one mail; raises BreakerOpen while the mail server is spared."""
        if self._sending.breaker is None:
            yield None
            return
        call = await self._sending.breaker.admit()
        try:
            yield call
        finally:
            await call.end("")  # the server was not asked, or has been counted

    async def send(self, mail: _Mail) -> str:
        """Send it unless it was sent before, and return its Message-ID. Two of one key follow one another."""
        async with self._underway.setdefault(mail.intent.key, asyncio.Lock()):
            await self._wait_for_turn(mail)
            if self._sending.idempotency_header is not None:
                mail = replace(mail, on_unknown="resend")  # the server drops the second copy
            answer = await self._ledger.begin(
                mail.intent,
                on_unknown=mail.on_unknown,
                stale_after=self._stale_after,
                repeat_after=mail.repeat_after,
            )
            if isinstance(answer, Proceed):
                await self._carry_through(mail, answer)
            elif isinstance(answer, Held):
                raise _held(answer.message_id)
            elif isinstance(answer, Suppressed):
                self._count(mail, "suppressed")
                raise _suppressed(answer)
            else:
                _log.info("mail not sent again", **mail.fields(answer.message_id))
            return answer.message_id

    async def _wait_for_turn(self, mail: _Mail) -> None:
        if self._sending.pace is None:
            return
        domain = (mail.recipient.ascii_address or mail.recipient.address).rpartition("@")[2]
        delay = await self._sending.pace(domain, mail.intent.key)
        if delay > timedelta(0):
            raise Snooze(delay, "as many mails as allowed go to this domain already")

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
            message = await self._message(mail, first)
            reply = await self._hand_over(mail, message, before_dot)
        except Deferred as error:
            raise await self._put_off(mail, first, error) from error
        except PermanentError as error:
            await self._record_refusal(mail, error)
            await self._note_refused_recipient(mail, first, error)
            raise
        except OutcomeUnknown as error:
            raise await self._outcome_unknown(mail, first.message_id, error) from error
        except Exception as error:
            if not dot.is_set():  # nothing has left, and nobody need wait for this run any more
                problem = f"not sent: {type(error).__name__}"
                await self._record(mail, partial(self._ledger.deferred, mail.intent, code=None, text=problem))
            raise
        self._count(mail, "sent")
        await self._record(mail, partial(self._ledger.sent, mail.intent, code=reply.code, text=reply.text))
        duration_ms = round(1000 * (time.perf_counter() - started))
        _log.info("mail sent", **mail.fields(first.message_id), smtp_code=reply.code, duration_ms=duration_ms)

    async def _hand_over(self, mail: _Mail, message: bytes, before_dot: Callable[[], Awaitable[None]]) -> SmtpReply:
        try:
            with tracing.span("send mail", kind="client", attributes=mail.attributes) as span:
                reply = await self._smtp.deliver(
                    message, sender=self._envelope_sender(mail), recipient=mail.recipient, before_dot=before_dot
                )
                span.set("skycap.smtp.code", reply.code)
        except Exception as error:
            if mail.call is not None:
                await mail.call.end(_result_of(error))
            raise
        if mail.call is not None:
            await mail.call.end("ok")
        return reply

    def _envelope_sender(self, mail: _Mail) -> str:
        token = mail.intent.verp_token
        return self._sender if self._return_path is None or token is None else self._return_path.sender_of(token)

    async def _message(self, mail: _Mail, first: Proceed) -> bytes:
        header = self._sending.idempotency_header
        message = await self.composer.message(
            mail.composition,
            recipient=mail.recipient,
            message_id=first.message_id,
            date=first.date,
            headers={} if header is None else {header: _idempotency_key(first.message_id)},
        )
        return message if self._sending.sign is None else await self._sending.sign(message)

    async def _put_off(self, mail: _Mail, first: Proceed, error: Deferred) -> Unavailable | MailRefused:
        """``error``, or that the mail is given up. What stops all mails is no reason to give up one."""
        age = datetime.now(UTC) - first.trying_since
        if age < mail.max_age or isinstance(error, QueueStopped):
            await self._record_refusal(mail, error)
            return error
        given_up = MailRefused(f"given up: put off for {_hours(age)}, at last by: {error}")
        await self._record_refusal(mail, given_up)
        return given_up

    async def _record_refusal(self, mail: _Mail, error: PermanentError | Deferred) -> None:
        self._count(mail, "deferred" if isinstance(error, Deferred) else "failed", error)
        reply = error.reply if isinstance(error, Deferred | SmtpRefused) else None
        move = self._ledger.deferred if isinstance(error, Deferred) else self._ledger.failed
        code, text = (reply.code, reply.text) if reply else (None, one_line(str(error)))
        await self._record(mail, partial(move, mail.intent, code=code, text=text))

    async def _note_refused_recipient(self, mail: _Mail, first: Proceed, error: PermanentError) -> None:
        """An address that does not exist is on its way to the suppression list."""
        if self._suppressions is None or not isinstance(error, SmtpRefused) or not error.recipient_gone:
            return
        try:
            is_listed = await self._suppressions.refused(
                mail.intent.recipient_hash, message_id=first.message_id, detail=str(error.reply)
            )
        except Unavailable:
            return  # the next refusal tells the same
        if is_listed:
            _log.warning("recipient suppressed, as it was refused again", **mail.fields(first.message_id))

    async def _outcome_unknown(
        self, mail: _Mail, message_id: str, error: OutcomeUnknown
    ) -> Unavailable | PermanentError:
        self._count(mail, "unknown", error)
        _log.warning("mail may or may not have arrived", **mail.fields(message_id), on_unknown=mail.on_unknown)
        if mail.on_unknown == "hold":
            await self._record(mail, partial(self._ledger.unknown, mail.intent, text=str(error)))
            return _held(message_id)
        return Unavailable("mail", f"{error}; it is sent again, with the same Message-ID")

    def _count(self, mail: _Mail, result: str, error: Exception | None = None) -> None:
        reply_class = error.reply_class if isinstance(error, Deferred | SmtpRefused | OutcomeUnknown) else ""
        self._sending.count(mail.intent.kind, result, reply_class)

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
        max_age: timedelta = MAIL_MAX_AGE,
        unsubscribe: Mapping[str, str] | None = None,
        attachments: Sequence[Attachment] = (),
        **variables: object,
    ) -> str:
        async with self._service.admitted() as call:
            return await self._send(
                to,
                template,
                call,
                variables,
                key=key,
                locale=locale,
                on_unknown=on_unknown,
                max_age=max_age,
                unsubscribe=unsubscribe,
                attachments=attachments,
            )

    async def _send(
        self,
        to: str,
        template: str,
        call: Call | None,
        variables: Mapping[str, object],
        *,
        key: str | None,
        locale: str | None,
        on_unknown: OnUnknown,
        max_age: timedelta,
        unsubscribe: Mapping[str, str] | None,
        attachments: Sequence[Attachment],
    ) -> str:
        recipient = Recipient.parse(to)
        composer = self._service.composer
        if unsubscribe is None:
            composition = composer.rendered(template, locale=locale, variables=variables, attachments=attachments)
        else:
            link = await self._service.link(self._plugin, unsubscribe, locale=locale)
            composition = composer.subscribed(
                template, locale=locale, variables=variables, attachments=attachments, unsubscribe_url=link
            )
        return await self._service.send(
            _Mail(
                intent=await self._intent(recipient, key, template=template, locale=locale),
                plugin=self._plugin,
                composition=composition,
                recipient=recipient,
                on_unknown=on_unknown,
                max_age=max_age,
                call=call,
            )
        )

    async def send_written(
        self,
        to: str,
        /,
        *,
        subject: str,
        html: str,
        text: str,
        key: str | None = None,
        repeat_after: timedelta | None = None,
        on_unknown: OnUnknown = "resend",
        max_age: timedelta = MAIL_MAX_AGE,
        attachments: Sequence[Attachment] = (),
    ) -> str:
        async with self._service.admitted() as call:
            recipient = Recipient.parse(to)
            return await self._service.send(
                _Mail(
                    intent=await self._intent(recipient, key, template="", locale=None),
                    plugin=self._plugin,
                    composition=self._service.composer.written(
                        subject=subject, html=html, text=text, attachments=attachments
                    ),
                    recipient=recipient,
                    on_unknown=on_unknown,
                    max_age=max_age,
                    repeat_after=repeat_after,
                    call=call,
                )
            )

    async def _intent(self, recipient: Recipient, key: str | None, *, template: str, locale: str | None) -> Intent:
        recipient_hash = recipient_hash_of(recipient.address)
        # A job may send one template to several people, so that job and template alone do not say what a mail means.
        key = _pseudonymous(key or f"{self._job.id}:{template}:{recipient_hash[:16]}")
        return Intent(
            key=key,
            message_id=self._service.message_id_of(key, kind=self._job.kind),
            kind=self._job.kind,
            job_id=self._job.id,
            claim=self._claim,
            recipient_hash=recipient_hash,
            template=template,
            locale=locale,
            verp_token=await self._service.return_token_of(key, recipient_hash),
        )


@dataclass(frozen=True, kw_only=True)
class _Mail:
    """One mail that a run of a job asks for."""

    intent: Intent
    plugin: str
    composition: Composition
    recipient: Recipient
    on_unknown: OnUnknown
    max_age: timedelta
    repeat_after: timedelta | None = None
    call: Call | None = None
    """By which the breaker is told how the server was."""

    @property
    def attributes(self) -> dict[str, str]:
        """What a span says of it."""
        return {"skycap.mail.template": self.intent.template, "skycap.mail.message_id": self.intent.message_id}

    def fields(self, message_id: str | None = None) -> dict[str, object]:
        """What a log line says of it. ``message_id`` is the first intent's, if that is known."""
        return {
            "template": self.intent.template,
            "message_id": message_id or self.intent.message_id,
            "job": self.intent.job_id,
            "plugin": self.plugin,
        }


def _result_of(error: Exception) -> Result:
    """What a mail says of the server: an answer about this mail or its recipient is one of a server that is there."""
    match error:
        case Deferred():
            return "failed" if error.counts_against_server else "ok"
        case OutcomeUnknown():
            return "failed"
        case SmtpRefused(reply=reply) if reply is not None:
            return "ok"
        case _:
            return ""


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
        "then `skycap mail ledger mark-sent`, or `skycap mail ledger resend` to send it again"
    )


def _suppressed(answer: Suppressed) -> MailSuppressed:
    return MailSuppressed(
        f"mail {answer.message_id} is not sent, since its recipient is on the suppression list ({answer.reason}); "
        "`skycap mail suppressions remove` takes an address off it"
    )


def _idempotency_key(message_id: str) -> str:
    """Short, since a long one would be folded, and some providers compare what they see."""
    return hashlib.sha256(message_id.encode()).hexdigest()[:32]


def _hours(age: timedelta) -> str:
    return f"{age / timedelta(hours=1):.1f} h"


def _pseudonymous(key: str) -> str:
    """``key`` with a hash for each address in it: the ledger keeps keys for ever, and addresses not at all."""
    return _ADDRESS.sub(lambda found: recipient_hash_of(found[0])[:32], key)
