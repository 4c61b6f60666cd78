"""Bounces: what a message says that came back to a return address, and which mail it speaks of.

Known are delivery reports (RFC 3464), complaints (RFC 5965), and what servers wrote before there were reports: Exim,
qmail, and whoever else signs as MAILER-DAEMON. Out-of-office replies and receipts for reading are no bounces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from typing import Literal, TypeAlias, cast

from skycap.services.replies import one_line
from skycap.services.verp import verp_tokens_in

LONGEST_READ = 1_000_000
"""Bytes of a message that are read: a report comes first, what it returns may be large."""

What = Literal["failed", "delayed", "complaint"]

# compat32, the default policy: it takes whatever headers it is given, and never fails on them.
_Message: TypeAlias = "Message[str, str]"

_MOST_NAMES = 20
_LONGEST_DETAIL = 200
_LONGEST_HEADER = 2000

_STATUS = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?![\d.])")
_UNSPECIFIC = re.compile(r"[45]\.0\.0")
_MESSAGE_ID = re.compile(r"^[> \t]*Message-ID:\s*(<[^<>\s]+>)", re.IGNORECASE | re.MULTILINE)
_BRACKETED = re.compile(r"<[^<>\s]+>")

_ADDRESS = re.compile(r"[^\s<>(),;:\"]+@[^\s<>(),;:\"]+")
_DAEMONS = re.compile(r"(mailer[-_]?daemon|mail[-_]?daemon|postmaster|mdaemon|double-bounce)(\+.*)?", re.IGNORECASE)
_QMAIL = re.compile(r"\s*hi\. this is the ", re.IGNORECASE)
_DELAY = re.compile(
    r"\b(delayed|warning: message|will be retried|will (continue|keep) (to try|trying)|not yet been delivered|"
    r"delivery status notification \(delay\))",
    re.IGNORECASE,
)
_COPY_BELOW = re.compile(
    r"^-{2,}\s*(below this line is a copy|this is a copy of|original message|the following is a copy|"
    r"included is a copy|return(ed)? message|unsent message)",
    re.IGNORECASE | re.MULTILINE,
)

_COMPLAINTS = frozenset({"abuse", "opt-out", "opt-out-list"})
"""Feedback types of guests who want no more of it; the others are about viruses, forged senders, or praise."""

_NOT_THE_ADDRESS = re.compile(r"5\.(1\.[78]|2\.[23]|3\.\d+|4\.[67]|6\.\d+|7\.\d+)")
"""These blame the sender, the message, a full mailbox, a detour or a policy: another mail may well arrive."""


@dataclass(frozen=True, kw_only=True)
class Bounce:
    """What came back. ``tokens`` and ``message_ids`` name the mail, the surest first; there may be none.

    ``detail`` is in one line and without addresses.
    """

    what: What
    status: str | None
    detail: str
    tokens: tuple[str, ...]
    message_ids: tuple[str, ...]

    @property
    def blames_address(self) -> bool | None:
        """Whether other mails to the same address would come back as well; None when it does not say."""
        if self.what != "failed":
            return False
        if self.status is None:
            return None
        return self.status.startswith("5") and _NOT_THE_ADDRESS.fullmatch(self.status) is None


def read_bounce(raw: bytes, *, envelope_recipient: str | None = None) -> Bounce | None:
    """None for a message that is neither a bounce nor a complaint. Never fails, whatever ``raw`` is."""
    try:
        message = message_from_bytes(raw[:LONGEST_READ])
        parts = list(message.walk())
    except RecursionError:  # hundreds of messages within each other, which no mail server writes
        return None
    found = _complaint(parts) or _report(parts) or _text_bounce(message, parts)
    if found is None:
        return None
    text = "\n".join([_plain(raw[:LONGEST_READ]), *(_content(part) for part in parts)])
    return Bounce(
        what=found.what,
        status=found.status,
        detail=_detail(found),
        tokens=_some([*verp_tokens_in(envelope_recipient or ""), *verp_tokens_in(text)]),
        message_ids=_some([*_MESSAGE_ID.findall(text), *_answered(message)]),
    )


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What a message says. ``addresses`` are those of the guest, to be left out of what is kept."""

    what: What
    status: str | None = None
    says: str = ""
    addresses: tuple[str, ...] = ()


def _complaint(parts: list[_Message]) -> _Found | None:
    for part in parts:
        if part.get_content_type() == "message/feedback-report":
            fields = {name: value for block in _within(part) for name, value in _own_fields(block).items()}
            kind = fields.get("feedback-type", "").lower()
            says = f"{kind}, by {fields.get('user-agent', 'an unnamed program')}"
            return _Found(what="complaint", says=says) if kind in _COMPLAINTS else None
    return None


def _report(parts: list[_Message]) -> _Found | None:
    """The worst that a delivery report says of a recipient: ours have one only."""
    said = [_of_recipient(fields) for part in parts for fields in _status_fields(part)]
    for what in ("failed", "delayed"):
        for found in said:
            if found is not None and found.what == what:
                return found
    return None


def _status_fields(part: _Message) -> Iterator[Mapping[str, str]]:
    """Those of each recipient, and of the report itself, which the parser takes for headers of messages within."""
    if part.get_content_type() == "message/delivery-status":
        for block in _within(part):
            yield _own_fields(block)


def _of_recipient(fields: Mapping[str, str]) -> _Found | None:
    action = fields.get("action", "").split(" ")[0].lower()
    diagnosis = fields.get("diagnostic-code", "")
    status = _status_in(fields.get("status", ""))
    if status is None or _UNSPECIFIC.fullmatch(status):
        status = _status_in(diagnosis) or status
    if action not in {"failed", "delayed"} and not (action == "" and (status or "").startswith("5")):
        return None
    return _Found(
        what="delayed" if action == "delayed" else "failed",
        status=status,
        says=diagnosis.partition(";")[2].strip() or diagnosis,
        addresses=tuple(
            fields[name].partition(";")[2].strip()
            for name in ("final-recipient", "original-recipient")
            if name in fields
        ),
    )


def _text_bounce(message: _Message, parts: list[_Message]) -> _Found | None:
    """A bounce in plain words; a report that is not about a failure is none."""
    if any(part.get_content_maintype() == "message" and part.get_content_subtype() in _REPORTS for part in parts):
        return None
    words = next((_content(part) for part in parts if part.get_content_type() == "text/plain"), "")
    failed = tuple(_ADDRESS.findall(_header(message, "X-Failed-Recipients")))
    if not failed and not _QMAIL.match(words) and not _is_from_daemon(message):
        return None
    words = _COPY_BELOW.split(words, maxsplit=1)[0]
    if _DELAY.search(f"{_header(message, 'Subject')}\n{words}"):
        return _Found(what="delayed", says=_header(message, "Subject"), addresses=failed)
    status = _status_in(words)
    line = next((line for line in words.splitlines() if status and status in line), _header(message, "Subject"))
    return _Found(what="failed", status=status, says=line, addresses=failed)


_REPORTS = frozenset({"delivery-status", "feedback-report", "disposition-notification"})


def _is_from_daemon(message: _Message) -> bool:
    """An out-of-office reply has no return address either, but comes from a person."""
    senders = _ADDRESS.findall(_header(message, "From")) or [_header(message, "From")]
    return any(_DAEMONS.fullmatch(address.partition("@")[0]) for address in senders)


def _answered(message: _Message) -> list[str]:
    return _BRACKETED.findall(f"{_header(message, 'In-Reply-To')} {_header(message, 'References')}")


def _detail(found: _Found) -> str:
    said = one_line(found.says, *found.addresses)[:_LONGEST_DETAIL]
    words = f"{found.what} {found.status}" if found.status else found.what
    return f"{words}: {said}" if said else words


def _status_in(text: str) -> str | None:
    found = _STATUS.search(text)
    return found[1] if found else None


def _within(part: _Message) -> list[_Message]:
    return cast("list[_Message]", part.get_payload()) if part.is_multipart() else []


def _own_fields(block: _Message) -> dict[str, str]:
    return {name.lower(): " ".join(str(value).split()) for name, value in block.items()}


def _header(message: _Message, name: str) -> str:
    return " ".join(str(message.get(name, ""))[:_LONGEST_HEADER].split())


def _content(part: _Message) -> str:
    """The decoded text of a part without parts of its own."""
    payload = part.get_payload(decode=True)
    return _plain(payload) if isinstance(payload, bytes) else ""


def _plain(raw: bytes) -> str:
    """What is looked for is ASCII."""
    return raw.decode("ascii", "replace")


def _some(names: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))[:_MOST_NAMES]
