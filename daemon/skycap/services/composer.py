"""Composer: from what a handler asks for to the message that leaves; it knows neither ledger nor mail server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import parseaddr
from typing import Protocol
from urllib.parse import quote

from skycap.context import Attachment
from skycap.errors import ConfigurationError, MailRefused
from skycap.services.documents import attachments_of
from skycap.services.message import RenderedMail, build_message
from skycap.services.recipient import Recipient


class Renderer(Protocol):
    """What turns a template into a mail; raises TemplateFailed."""

    def render(self, template: str, *, locale: str | None, variables: Mapping[str, object]) -> RenderedMail: ...


@dataclass(frozen=True, kw_only=True)
class Letterhead:
    """What is the same in every mail.

    ``sender`` is the From address, with or without a name; ``unsubscribe_mailbox`` takes the wishes of guests whose
    mail program does not know RFC 8058.
    """

    sender: str
    reply_to: str | None = None
    unsubscribe_mailbox: str | None = None
    logo: Attachment | None = None

    @property
    def address(self) -> str:
        """The sender's address alone. Raises ConfigurationError when it is none, or not ASCII."""
        problem = f"the sender {self.sender!r} is no mail address: write name@domain, or Some Name <name@domain>"
        try:
            address = Recipient.parse(parseaddr(self.sender)[1]).ascii_address
        except MailRefused as error:
            raise ConfigurationError(problem) from error
        if address is None:
            raise ConfigurationError(f"{problem}, in ASCII")
        return address


@dataclass(frozen=True, kw_only=True)
class Composition:
    """A mail before it has a date: what it says, and what it carries."""

    rendered: RenderedMail
    attachments: tuple[Attachment, ...] = ()
    unsubscribe_url: str | None = None
    is_subscription: bool = False
    """Whether the guest can unsubscribe from such mails, if only by a mail."""


class Composer:
    """Makes the messages of all mails. ``before_send`` is given each of them, and may add headers."""

    def __init__(
        self,
        templates: Renderer,
        letterhead: Letterhead,
        *,
        before_send: Callable[[EmailMessage], Awaitable[None]] | None = None,
    ) -> None:
        self._templates = templates
        self.letterhead = letterhead
        self._before_send = before_send

    def rendered(
        self,
        template: str,
        *,
        locale: str | None,
        variables: Mapping[str, object],
        attachments: Sequence[Attachment] = (),
    ) -> Composition:
        """A mail from no list. Raises TemplateFailed."""
        rendered = self._templates.render(template, locale=locale, variables=variables)
        return Composition(rendered=rendered, attachments=tuple(attachments))

    def subscribed(
        self,
        template: str,
        *,
        locale: str | None,
        variables: Mapping[str, object],
        unsubscribe_url: str | None,
        attachments: Sequence[Attachment] = (),
    ) -> Composition:
        """A mail that its guest may stop; the template is given ``unsubscribe_url``."""
        rendered = self._templates.render(
            template, locale=locale, variables={**variables, "unsubscribe_url": unsubscribe_url}
        )
        return Composition(
            rendered=rendered,
            attachments=tuple(attachments),
            unsubscribe_url=unsubscribe_url,
            is_subscription=True,
        )

    def written(self, *, subject: str, html: str, text: str, attachments: Sequence[Attachment] = ()) -> Composition:
        """A mail as somebody else has written it."""
        rendered = RenderedMail(subject=subject, text=text, html=html, locale=None)
        return Composition(rendered=rendered, attachments=tuple(attachments))

    async def message(
        self,
        composition: Composition,
        *,
        recipient: Recipient,
        message_id: str,
        date: datetime,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """The whole message; equal arguments give equal bytes, so that a second send is a resend."""
        rendered = composition.rendered
        ways_out = self._ways_out(composition.unsubscribe_url) if composition.is_subscription else {}
        message = build_message(
            rendered,
            sender=self.letterhead.sender,
            recipient=recipient,
            message_id=message_id,
            date=date,
            attachments=[*await attachments_of(rendered, date), *composition.attachments],
            headers={**ways_out, **(headers or {})},
            reply_to=self.letterhead.reply_to,
            logo=self.letterhead.logo,
        )
        return message if self._before_send is None else await self._as_plugins_wish(message, self._before_send)

    async def _as_plugins_wish(self, message: bytes, before_send: Callable[[EmailMessage], Awaitable[None]]) -> bytes:
        parsed = message_from_bytes(message, policy=policy.SMTP)
        await before_send(parsed)
        return parsed.as_bytes()

    def _ways_out(self, url: str | None) -> dict[str, str]:
        """RFC 2369 §3.2, and RFC 8058 for the address of the web."""
        mailbox = self.letterhead.unsubscribe_mailbox
        ways = [f"<{url}>"] if url else []
        if mailbox:
            ways.append(f"<mailto:{quote(mailbox, safe='@')}?subject=unsubscribe>")
        headers = {"List-Unsubscribe": ", ".join(ways)} if ways else {}
        return headers | {"List-Unsubscribe-Post": "List-Unsubscribe=One-Click"} if url else headers
