"""RenderedMail, and the message that it becomes: the same mail is the same bytes, so that a second send is a resend."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email import policy
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Final

from email_validator import EmailNotValidError, validate_email

from skycap.errors import PermanentError

# Quoted-printable in any case: it is 7-bit, keeps lines short, and a raw message stays readable.
_ENCODING: Final = "quoted-printable"

_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NAMED_ADDRESS: Final = re.compile(r"\s*(?P<name>.*?)\s*<(?P<address>[^<>]+)>\s*")
_MESSAGE_ID: Final = re.compile(r"<[!-;=?-~]+@[!-;=?-~]+>")
_LONGEST_LINE: Final = 998
"""RFC 5322 §2.1.1, without CRLF; a Message-ID cannot be folded."""


@dataclass(frozen=True, kw_only=True)
class RenderedMail:
    """What a mail says, in one locale; ``html`` has its styles inlined."""

    subject: str
    text: str
    html: str
    locale: str


def build_message(
    rendered: RenderedMail, *, sender: str, recipient: str, message_id: str, date: datetime
) -> EmailMessage:
    """A multipart/alternative message; equal arguments give equal bytes.

    ``sender`` is ``Name <address>`` or an address, ``recipient`` an address, ``message_id`` has its angle brackets
    and ``date`` a zone. All is 7-bit, unless the recipient's local part is not ASCII: such headers are UTF-8 and need
    SMTPUTF8 (RFC 6532). Raises PermanentError, which never shows the recipient, for an address that is none and for
    control characters, line breaks among them, where a header would take them.
    """
    to = _address(recipient, whose="the recipient's")
    message = EmailMessage(policy=policy.SMTP.clone(utf8=not to.username.isascii()))
    message["From"] = _sender(sender)
    message["To"] = to
    message["Subject"] = _header("Subject", rendered.subject)
    message["Date"] = format_datetime(date.astimezone(UTC))
    message["Message-ID"] = _checked_message_id(message_id)
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no vacation replies …
    message["X-Auto-Response-Suppress"] = "All"  # … nor from Exchange, which does not read that
    message.set_content(rendered.text, cte=_ENCODING)
    message.add_alternative(rendered.html, subtype="html", cte=_ENCODING)
    message.set_boundary(_boundary(message_id))
    # Last: what is called Content-… is moved to the first part when a second one is added.
    message["Content-Language"] = _header("Content-Language", rendered.locale)
    return message


def _sender(sender: str) -> Address:
    whose = f"the sender's ({sender!r})"
    named = _NAMED_ADDRESS.fullmatch(_header("From", sender))
    if named is None:
        return _address(sender.strip(), whose=whose)
    return _address(named["address"], whose=whose, display_name=_unquoted(named["name"]))


def _unquoted(name: str) -> str:
    is_quoted = len(name) > 1 and name.startswith('"') and name.endswith('"')
    return re.sub(r"\\(.)", r"\1", name[1:-1]) if is_quoted else name


def _address(address: str, *, whose: str, display_name: str = "") -> Address:
    """A parsed address with its domain in A-labels. Refuses any other in words that hold no more than ``whose``."""
    if _CONTROL.search(address):
        raise PermanentError(f"{whose} address contains a control character")
    try:
        if address.isascii():
            return Address(display_name, addr_spec=address)
        found = validate_email(address, check_deliverability=False, globally_deliverable=False)
        return Address(display_name, username=found.local_part, domain=found.ascii_domain)
    except (EmailNotValidError, MessageError, ValueError, IndexError):  # IndexError: the header parser, when cut short
        raise PermanentError(f"{whose} address is not a valid mail address") from None


def _header(name: str, value: str) -> str:
    if _CONTROL.search(value):
        raise PermanentError(f"{name} contains a line break or another control character")
    return value


def _checked_message_id(message_id: str) -> str:
    if not _MESSAGE_ID.fullmatch(message_id) or len(f"Message-ID: {message_id}") > _LONGEST_LINE:
        raise PermanentError(f"Message-ID {message_id!r} is not of the form <left@right>")
    return message_id


def _boundary(message_id: str) -> str:
    """Derived, not drawn, so that the bytes repeat; ``=_`` never occurs in quoted-printable (RFC 2045 §6.7)."""
    return f"=_{hashlib.sha256(message_id.encode()).hexdigest()[:40]}"
