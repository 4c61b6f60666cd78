"""What a mail server answered, and what that means for the mail: not now, never, or nobody knows.

Unavailable
└── Deferred            the server has not taken the mail; later it may
    └── NotLoggedIn     it wants other credentials: an admin must act
MailRefused
└── SmtpRefused         the server will never take this mail
SkycapError
└── OutcomeUnknown      the connection was lost after the last byte: the server may have taken it, or not
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from skycap.backoff import Backoff
from skycap.errors import MailRefused, SkycapError, Unavailable
from skycap.redaction import without_addresses

Stage = Literal["connect", "AUTH", "MAIL", "RCPT", "DATA", "end of DATA"]

_LONGEST_TEXT = 500

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ENHANCED_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}\b")

_WANTS_CREDENTIALS = frozenset({530, 534, 535, 538})
_WANTS_CREDENTIALS_STATUS = frozenset({"5.7.8", "5.7.9", "5.7.11"})

_SENDER_UNTRUSTED = frozenset({*(f"5.7.{detail}" for detail in range(20, 28)), "5.7.515"})
"""DKIM, SPF, DMARC or reverse DNS of the sending domain failed (RFC 7372; 515 is Microsoft's): the next mail would be
refused as well, so that mails wait for the admin instead of being given up one by one."""

_TOO_MANY_RECIPIENTS = 552
_PERMANENT = 500


_UNREACHED = Backoff(first=timedelta(seconds=2), factor=2, longest=timedelta(seconds=30), attempts=1)
"""A server that is back should not wait long for our mails."""

_ASKED_TO_WAIT = Backoff(first=timedelta(seconds=5), factor=4, longest=timedelta(minutes=30), attempts=1)
"""RFC 5321 4.5.4.1 asks for half an hour between attempts; greylisting lets a mail pass after some minutes."""


@dataclass(frozen=True, kw_only=True)
class SmtpReply:
    """A reply in one line, with no address in it."""

    code: int
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.text}".rstrip()

    @property
    def status(self) -> str | None:
        """The enhanced status code (RFC 3463), such as 4.7.1."""
        found = _ENHANCED_STATUS.match(self.text)
        return found[0] if found else None


class Deferred(Unavailable):
    """The server has not taken the mail, and may take it later. ``reply`` is None when there was none."""

    def __init__(self, problem: str, reply: SmtpReply | None = None) -> None:
        super().__init__("mail", problem)
        self.reply = reply
        self.schedule = _UNREACHED if reply is None else _ASKED_TO_WAIT


class NotLoggedIn(Deferred):
    """The server wants other credentials, or none of ours are good; every mail waits until an admin has acted."""


class SmtpRefused(MailRefused):
    """The server will never take this mail. ``reply`` is None when it was not even asked."""

    def __init__(self, problem: str, reply: SmtpReply | None = None) -> None:
        super().__init__(problem)
        self.reply = reply


class OutcomeUnknown(SkycapError):
    """The connection was lost, or nothing came, after the last byte: the server may have taken the mail, or not."""


def refusal(stage: Stage, reply: SmtpReply) -> Deferred | SmtpRefused:
    """What a reply other than the expected one means.

    What comes before MAIL is about the server and not about this mail, so that it defers even when it is a 5xx.
    """
    problem = f"{reply} (at {stage})"
    if reply.code in _WANTS_CREDENTIALS or reply.status in _WANTS_CREDENTIALS_STATUS:
        return NotLoggedIn(f"the mail server does not accept the log-in: {problem}", reply)
    if stage in {"connect", "AUTH"} or reply.code < _PERMANENT:
        return Deferred(problem, reply)
    if stage == "RCPT" and reply.code == _TOO_MANY_RECIPIENTS:  # RFC 5321 4.5.3.1.10: to be treated as a 452
        return Deferred(problem, reply)
    if reply.status in _SENDER_UNTRUSTED:
        return Deferred(f"the sending domain is not trusted; check its SPF, DKIM and DMARC: {problem}", reply)
    return SmtpRefused(problem, reply)


def one_line(text: str, *known: str) -> str:
    """``text`` in one line, shortened, and with neither mail addresses nor the local parts of ``known`` ones."""
    text = text.encode("utf-8", "replace").decode()  # what was not UTF-8 on the wire cannot be stored or logged
    for address in known:
        local = address.rpartition("@")[0]
        for part in (address, local):
            if part:
                text = re.sub(rf"(?<!\w){re.escape(part)}(?!\w)", "[address]", text, flags=re.IGNORECASE)
    return " ".join(_UNPRINTABLE.sub(" ", without_addresses(text)).split())[:_LONGEST_TEXT]
