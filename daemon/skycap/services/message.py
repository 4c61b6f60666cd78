"""RenderedMail, and the message that it becomes: the same mail is the same bytes, so that a second send is a resend."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email import policy
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from functools import lru_cache
from typing import Final

from email_validator import EmailNotValidError, validate_email

from skycap.context import Attachment
from skycap.errors import PermanentError
from skycap.services import mime
from skycap.services.recipient import Recipient

LOGO_ID: Final = "logo@skycap"
"""The content id of the company's logo: HTML shows it as ``cid:logo@skycap``."""

_NAMED_ADDRESS: Final = re.compile(r"\s*(?P<name>.*?)\s*<(?P<address>[^<>]+)>\s*")
_MESSAGE_ID: Final = re.compile(r"<[!-;=?-~]+@[!-;=?-~]+>")
_LONGEST_LINE: Final = 998
"""RFC 5322 §2.1.1, without CRLF; a Message-ID cannot be folded."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """An attachment before it is made: what its template gave; the name's extension says what becomes of it."""

    filename: str
    source: str


@dataclass(frozen=True, kw_only=True)
class RenderedMail:
    """What a mail says; ``html`` has its styles inlined. ``locale`` is None when somebody else wrote it."""

    subject: str
    text: str
    html: str
    locale: str | None
    documents: tuple[Document, ...] = ()


def build_message(
    rendered: RenderedMail,
    *,
    sender: str,
    recipient: Recipient,
    message_id: str,
    date: datetime,
    attachments: Sequence[Attachment] = (),
    headers: Mapping[str, str] | None = None,
    reply_to: str | None = None,
    logo: Attachment | None = None,
) -> bytes:
    """A multipart/alternative message, within multipart/mixed if it has attachments; equal arguments, equal bytes.

    ``sender`` and ``reply_to`` are ``Name <address>`` or an address, ``message_id`` has its angle brackets and ``date``
    a zone. ``logo`` is added where the HTML shows it (LOGO_ID). All is 7-bit, unless the recipient's local part is not
    ASCII: To is UTF-8 then, and needs SMTPUTF8 (RFC 6532). Raises PermanentError for control characters, line breaks
    among them, where a header would take them.
    """
    return b"".join(
        (
            _mailbox_header("From", sender, "the sender's"),
            mime.unfolded("To", recipient.ascii_address or recipient.address),
            mime.header("Subject", rendered.subject),
            mime.unfolded("Date", format_datetime(date.astimezone(UTC))),
            mime.unfolded("Message-ID", _checked_message_id(message_id)),
            _mailbox_header("Reply-To", reply_to, "the Reply-To") if reply_to else b"",
            _NO_ANSWERS,
            mime.joined(headers or {}),
            mime.header("Content-Language", rendered.locale) if rendered.locale else b"",
            b"MIME-Version: 1.0\r\n",
            _body(rendered, attachments, logo, message_id),
        )
    )


_NO_ANSWERS: Final = (
    b"Auto-Submitted: auto-generated\r\n"  # RFC 3834: no vacation replies …
    b"X-Auto-Response-Suppress: All\r\n"  # … nor from Exchange, which does not read that
)


def _body(rendered: RenderedMail, attachments: Sequence[Attachment], logo: Attachment | None, message_id: str) -> bytes:
    html = mime.text(rendered.html, "html")
    if logo is not None and f"cid:{LOGO_ID}" in rendered.html:
        html = mime.multipart("related", _boundary(message_id, 2), [html, mime.shown(logo, LOGO_ID)])
    words = mime.multipart("alternative", _boundary(message_id, 1), [mime.text(rendered.text, "plain"), html])
    if not attachments:
        return words
    files = (mime.attached(attachment) for attachment in attachments)
    return mime.multipart("mixed", _boundary(message_id, 0), [words, *files])


@lru_cache(maxsize=8)
def _mailbox_header(name: str, mailbox: str, whose: str) -> bytes:
    """A header with a name that may need quotes or encoding: for the standard library, once for all mails."""
    message = EmailMessage(policy=policy.SMTP)
    message[name] = _mailbox(mime.checked(name, mailbox), whose)
    return message.as_bytes().removesuffix(b"\r\n")


def _mailbox(mailbox: str, whose: str) -> Address:
    whose = f"{whose} ({mailbox!r})"
    named = _NAMED_ADDRESS.fullmatch(mailbox)
    if named is None:
        return _address(mailbox.strip(), whose=whose)
    return _address(named["address"], whose=whose, display_name=_unquoted(named["name"]))


def _unquoted(name: str) -> str:
    is_quoted = len(name) > 1 and name.startswith('"') and name.endswith('"')
    return re.sub(r"\\(.)", r"\1", name[1:-1]) if is_quoted else name


def _address(address: str, *, whose: str, display_name: str = "") -> Address:
    """A parsed address with its domain in A-labels."""
    try:
        if address.isascii():
            return Address(display_name, addr_spec=address)
        found = validate_email(address, check_deliverability=False, globally_deliverable=False)
        return Address(display_name, username=found.local_part, domain=found.ascii_domain)
    except (EmailNotValidError, MessageError, ValueError, IndexError):  # IndexError: the header parser, when cut short
        raise PermanentError(f"{whose} address is not a valid mail address") from None


def _checked_message_id(message_id: str) -> str:
    if not _MESSAGE_ID.fullmatch(message_id) or len(f"Message-ID: {message_id}") > _LONGEST_LINE:
        raise PermanentError(f"Message-ID {message_id!r} is not of the form <left@right>")
    return message_id


def _boundary(message_id: str, number: int) -> str:
    """Derived, not drawn, so that the bytes repeat; ``=_`` never occurs in quoted-printable (RFC 2045 §6.7)."""
    return f"=_{number}_{hashlib.sha256(message_id.encode()).hexdigest()[:40]}"
