"""What a mail server answered, and what that means for the mail: not now, never, or nobody knows.

Unavailable
├── Deferred            the server has not taken the mail; later it may
│   ├── NotLoggedIn     it wants other credentials: an admin must act (also a QueueStopped)
│   └── SenderRefused   it wants no mail of ours: an admin must act (also a QueueStopped)
MailRefused
└── SmtpRefused         the server will never take this mail
SkycapError
└── OutcomeUnknown      the connection was lost after the last byte: the server may have taken it, or not
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Literal, NamedTuple

from skycap import backoff
from skycap.backoff import Backoff
from skycap.errors import MailRefused, QueueStopped, SkycapError, Unavailable
from skycap.redaction import without_addresses

Stage = Literal["connect", "AUTH", "MAIL", "RCPT", "DATA", "end of DATA"]

_LONGEST_TEXT = 500

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ENHANCED_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}\b")

_UNREACHED = Backoff(first=timedelta(seconds=2), factor=2, longest=timedelta(seconds=30), attempts=1)
"""A server that is back should not wait long for our mails."""

_ASKED_TO_WAIT = backoff.waits([5, 30, 120, 300, 900, 1800, 3600, 7200], attempts=1)
"""RFC 5321 4.5.4.1 asks for half an hour between attempts, after some quick ones; greylisting passes a mail soon."""

_FULL = backoff.waits([900, 3600, 7200], attempts=1)
"""Nobody empties a mailbox within seconds."""

_SHORTEST_HINT, _LONGEST_HINT = timedelta(seconds=30), timedelta(hours=2)


class ReplyClass(StrEnum):
    """What a reply means; ``_TABLE`` says which one means what."""

    SERVER_BUSY = "server busy"
    """The server takes nothing at present: the next mail would meet the same."""
    RECIPIENT_LATER = "recipient later"
    """This recipient gets nothing at present: greylisting, or too much mail at once. Others may."""
    MAILBOX_FULL = "mailbox full"
    RECIPIENT_GONE = "recipient gone"
    """There is no such mailbox, or it is closed."""
    RECIPIENT_REFUSED = "recipient refused"
    """This recipient does not get this mail; whether it would get another is not said."""
    EAI = "eai"
    """An address beyond ASCII (RFC 6531), which the server cannot serve."""
    MESSAGE_REFUSED = "message refused"
    """Too large, or of a content that the server does not take."""
    SENDER_REFUSED = "sender refused"
    """The server does not trust us, or does not want us: the next thousand mails would fail too."""
    CREDENTIALS = "credentials"
    PROTOCOL = "protocol"
    """The server did not understand us: a bug, here or there."""
    OUTCOME_UNKNOWN = "outcome unknown"


_OF_ONE_RECIPIENT = frozenset({ReplyClass.RECIPIENT_LATER, ReplyClass.MAILBOX_FULL})


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
    """The server has not taken the mail, and may take it later. ``reply`` is None when there was none.

    ``retry_after`` is the wait that the server asked for: the next wait is then that, from 30 s to 2 h.
    """

    def __init__(
        self,
        problem: str,
        reply: SmtpReply | None = None,
        *,
        reply_class: ReplyClass = ReplyClass.SERVER_BUSY,
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__("mail", problem)
        self.reply = reply
        self.reply_class = reply_class
        self.retry_after = retry_after
        self.schedule = self._schedule()

    @property
    def counts_against_server(self) -> bool:
        """Whether another mail would meet the same, so that it may be spared the attempt."""
        return self.reply_class not in _OF_ONE_RECIPIENT

    def _schedule(self) -> Backoff:
        if self.retry_after is not None:
            return Backoff(first=min(max(self.retry_after, _SHORTEST_HINT), _LONGEST_HINT), attempts=1)
        if self.reply_class is ReplyClass.MAILBOX_FULL:
            return _FULL
        return _UNREACHED if self.reply is None else _ASKED_TO_WAIT


class NotLoggedIn(Deferred, QueueStopped):
    """The server wants other credentials, or none of ours are good; every mail waits until an admin has acted."""

    def __init__(self, problem: str, reply: SmtpReply | None = None) -> None:
        super().__init__(problem, reply, reply_class=ReplyClass.CREDENTIALS)


class SenderRefused(Deferred, QueueStopped):
    """The server wants no mail of ours, whoever it is for; every mail waits until an admin has acted."""

    def __init__(self, problem: str, reply: SmtpReply | None = None) -> None:
        super().__init__(problem, reply, reply_class=ReplyClass.SENDER_REFUSED)


class SmtpRefused(MailRefused):
    """The server will never take this mail. ``reply`` is None when it was not even asked."""

    def __init__(
        self, problem: str, reply: SmtpReply | None = None, *, reply_class: ReplyClass = ReplyClass.RECIPIENT_REFUSED
    ) -> None:
        super().__init__(problem)
        self.reply = reply
        self.reply_class = reply_class

    @property
    def recipient_gone(self) -> bool:
        """Whether no mail at all will ever reach this address: a candidate for the suppression list."""
        return self.reply_class is ReplyClass.RECIPIENT_GONE


class OutcomeUnknown(SkycapError):
    """The connection was lost, or nothing came, after the last byte: the server may have taken the mail, or not."""

    reply_class = ReplyClass.OUTCOME_UNKNOWN


def refusal(stage: Stage, reply: SmtpReply) -> Deferred | SmtpRefused:
    """What a reply other than the expected one means."""
    problem = f"{reply} (at {stage})"
    match meaning_of(stage, reply):
        case ReplyClass.CREDENTIALS:
            return NotLoggedIn(f"the mail server does not accept the log-in: {problem}", reply)
        case ReplyClass.SENDER_REFUSED:
            advice = "see whether our account, address or host is blocked, and check SPF, DKIM and DMARC"
            return SenderRefused(f"the mail server takes no mail from us; {advice}: {problem}", reply)
        case ReplyClass.SERVER_BUSY | ReplyClass.RECIPIENT_LATER | ReplyClass.MAILBOX_FULL as meaning:
            return Deferred(problem, reply, reply_class=meaning, retry_after=_asked_wait(reply.text))
        case meaning:
            return SmtpRefused(problem, reply, reply_class=meaning)


def meaning_of(stage: Stage, reply: SmtpReply) -> ReplyClass:
    """By the first row of the table that fits; by none, the reply makes no sense, and the server may recover."""
    return next((row.means for row in _TABLE if row.fits(stage, reply)), ReplyClass.SERVER_BUSY)


class _Row(NamedTuple):
    """Four patterns, and what a reply means when all fit: three the whole, and the last some part of its text."""

    means: ReplyClass
    stage: str
    code: str
    status: str
    says: str

    def fits(self, stage: Stage, reply: SmtpReply) -> bool:
        return (
            re.fullmatch(self.stage, stage) is not None
            and re.fullmatch(self.code, str(reply.code)) is not None
            and re.fullmatch(self.status, reply.status or "") is not None
            and re.search(self.says, reply.text, re.IGNORECASE) is not None
        )


_ANY = ".*"
_DOT = "DATA|end of DATA"
_RCPT_ON = "RCPT|DATA|end of DATA"
_Is = ReplyClass

_WANTS_LOGIN = r"\bauth(entication|enticate)?\b.{0,20}(first|required|needed)|unauthenticated senders"
_GREYLISTED = r"gr[ae]y-?\s?list"
_FULL_UP = r"over\s?quota|mailbox.{0,20} full|(?<!message )quota (is )?exceeded|out of storage"
_TOO_MUCH = (
    r"frequency limited|rate limit|throttling|limit exceeded|(reached|exceeded) (your|the|its) .{0,30}(limit|quota)"
    r"|too (many|frequent) (messages|mails|recipients|connect)"
)

_OWN_FILTER = (
    r"said:|(blocked|rejected|refused|black ?listed) by (the |this )?(recipient|user|addressee)\b"
    r"|blocked you|your organization|sending to \(or from\)"
    r"|recipient (does not|doesn.t|has|only|is not|policy)|not accept(ing)? (e-?mail|mail|messages?) from (you\b|this)"
    r"|(user|mailbox|account|recipient) (is |has been )?(disabled|suspended|inactive|locked|restricted)"
    r"|AccountDisabled|NotAuthenticatedForGroup|RST\.NotAuthorized|SenderFilterConfig"
)
"""The filter of one mailbox or one organisation, or what a relay quotes of a server behind it."""

_ABOUT_US = (
    r"relay(ing)?\b.{0,20}(denied|not|prohibited)|unable to relay"
    r"|not (allowed|permitted|authori[sz]ed) to (connect|send (?!to\b))|domain (\S+ )?is not allowed|is not verified"
    r"|sender (address |domain )?(is )?(rejected|refused|denied|blocked|unauthori[sz]ed|verify failed)|sender identity"
    r"|unsolicited (e-?)?mail|(block|black) ?list|blocked using|\brbl\b|dnsbl|spamhaus|listed (at|in|on|by)\b"
    r"|reputation|banned send|sending paused|unauthenticated e-?mail|\b(spf|dkim|dmarc|ptr)\b|reverse (dns|host)"
    r"|\b(your|client|sending|connecting) (ip|host|server|network)\b"
)

_LINKED_DOMAIN = r"\b(dbl|uribl|surbl)\b"
_CONTENT = r"\b(content|urls?|virus|malware|attachments?|spam|security issue)\b|rfc ?5322|too (big|large)"

_NOBODY = (
    r"no such (user|mailbox|recipient|address)|(user|recipient|mailbox|addressee)( is)? (unknown|not found)"
    r"|unknown (user|recipient|mailbox)|(user|mailbox|account|recipient)\b.{0,60} (does not|doesn.t) exist"
    r"|invalid (mailbox|recipient)|no mailbox here|doesn.t have an? \S+ account|unrouteable address"
)

# A wrong stop holds thousands of mails because of one; a wrong refusal leaves one mail in the dead-letter queue, from
# where it can be sent again. So the queue is stopped only by a reply that speaks of us, and not by a bare 5.7.1, of
# which RFC 3463 says that it "can be the result of per-host or per-recipient filtering".
# fmt: off
_TABLE = (
    #    means                  at stage     code           enhanced status                     says
    # What comes before MAIL is about the server or about us, so that no mail is given up for it, whatever the code.
    _Row(_Is.CREDENTIALS,       _ANY,        "53[0458]",    _ANY,                               _ANY),
    _Row(_Is.CREDENTIALS,       _ANY,        "5..",         r"5\.7\.(8|57)",                    _ANY),
    _Row(_Is.CREDENTIALS,       "MAIL",      "5..",         r"5\.7\.(9|11|13|14)",              _ANY),
    _Row(_Is.CREDENTIALS,       "MAIL|RCPT", "5..",         _ANY,                               _WANTS_LOGIN),
    _Row(_Is.SENDER_REFUSED,    "connect",   "5..",         _ANY,                               _ABOUT_US),
    _Row(_Is.SERVER_BUSY,       "connect",   _ANY,          _ANY,                               _ANY),
    _Row(_Is.SERVER_BUSY,       "AUTH",      _ANY,          _ANY,                               _ANY),
    # Later. RFC 3463: 4.1 is an address, 4.2 a mailbox, 4.3 and 4.4 are systems and networks.
    _Row(_Is.RECIPIENT_LATER,   _ANY,        "4..",         _ANY,                               _GREYLISTED),
    _Row(_Is.MAILBOX_FULL,      _ANY,        "[45]..",      r"[45]\.2\.2",                      _ANY),
    _Row(_Is.MAILBOX_FULL,      _ANY,        "[45][25].",   _ANY,                               _FULL_UP),
    _Row(_Is.SERVER_BUSY,       _ANY,        "421",         _ANY,                               _ANY),
    _Row(_Is.SERVER_BUSY,       _ANY,        "4..",         _ANY,                               _TOO_MUCH),
    _Row(_Is.RECIPIENT_LATER,   _ANY,        "4..",         r"4\.1\.[1-6]|4\.2\.\d+",           _ANY),
    _Row(_Is.SERVER_BUSY,       _ANY,        "4..",         r"4\.7\.(2\d|[567]\d\d)",           _ANY),
    _Row(_Is.SERVER_BUSY,       _ANY,        "4..",         _ANY,                               _ABOUT_US),
    _Row(_Is.RECIPIENT_LATER,   "RCPT",      "4..",         r"4\.7\.\d+",                       _ANY),
    _Row(_Is.RECIPIENT_LATER,   "RCPT",      "450",         "",                                 _ANY),
    _Row(_Is.SERVER_BUSY,       _ANY,        "[1-4]..",     _ANY,                               _ANY),
    # Called permanent, and is not: limits of Gmail (5.2.1, 5.4.5), Outlook (5.1.90, 5.2.121 and 122) and QQ, and
    # 552 for the recipient, which RFC 5321 4.5.3.1.10 wants to be treated as a 452.
    _Row(_Is.RECIPIENT_GONE,    "RCPT",      "55[0-4]",     _ANY,                               _NOBODY),
    _Row(_Is.MAILBOX_FULL,      "RCPT",      "552",         _ANY,                               _ANY),
    _Row(_Is.RECIPIENT_LATER,   _ANY,        "5..",         r"5\.2\.12[12]",                    _ANY),
    _Row(_Is.RECIPIENT_LATER,   _ANY,        "5..",         r"5\.2\.1",                         "at a rate"),
    _Row(_Is.SERVER_BUSY,       _ANY,        "5..",         r"5\.4\.5|5\.1\.90",                _ANY),
    _Row(_Is.SERVER_BUSY,       _ANY,        "5..",         _ANY,                               _TOO_MUCH),
    # Never, and who is meant. 5.7.20 to 30: RFC 7372 and its like; 5.7.1xx of one recipient, 5.7.5xx to 7xx of a
    # sender: Exchange Online. 5.1.7 and 5.1.8 are the sender's address, 5.7.17 is a mailbox that has a new owner.
    _Row(_Is.RECIPIENT_GONE,    _RCPT_ON,    "5..",         r"5\.1\.(1|6|10)|5\.7\.17",         _ANY),
    _Row(_Is.EAI,               _ANY,        "5..",         r"5\.6\.7",                         _ANY),
    _Row(_Is.MESSAGE_REFUSED,   _ANY,        "5..",         r"5\.2\.3|5\.3\.4|5\.6\.\d+",       _ANY),
    _Row(_Is.MESSAGE_REFUSED,   _ANY,        "5..",         r"5\.7\.512",                       _ANY),
    _Row(_Is.RECIPIENT_REFUSED, _ANY,        "5..",         r"5\.7\.(12|1[2-9]\d|703)",         _ANY),
    _Row(_Is.RECIPIENT_REFUSED, _RCPT_ON,    "5..",         _ANY,                               _OWN_FILTER),
    _Row(_Is.SENDER_REFUSED,    _ANY,        "5..",         r"5\.7\.(2\d|30|60|64)|5\.1\.[78]", _ANY),
    _Row(_Is.SENDER_REFUSED,    _ANY,        "5..",         r"5\.7\.[567]\d\d",                 _ANY),
    _Row(_Is.SENDER_REFUSED,    _ANY,        "5..",         r"5\.7\.9",                         "policy reasons"),
    _Row(_Is.MESSAGE_REFUSED,   _DOT,        "5..",         _ANY,                               _LINKED_DOMAIN),
    _Row(_Is.SENDER_REFUSED,    _ANY,        "5..",         _ANY,                               _ABOUT_US),
    _Row(_Is.MESSAGE_REFUSED,   _DOT,        "5..",         _ANY,                               _CONTENT),
    _Row(_Is.RECIPIENT_GONE,    _DOT,        "55[0-4]",     _ANY,                               _NOBODY),
    _Row(_Is.RECIPIENT_GONE,    _RCPT_ON,    "5..",         r"5\.2\.1",                         _ANY),
    _Row(_Is.RECIPIENT_REFUSED, _RCPT_ON,    "5..",         r"5\.1\.\d+|5\.2\.\d+",             _ANY),
    _Row(_Is.RECIPIENT_REFUSED, _RCPT_ON,    "5..",         _ANY,                               "mailbox unavailable"),
    _Row(_Is.PROTOCOL,          _ANY,        "50[0-4]|555", _ANY,                               _ANY),
    _Row(_Is.PROTOCOL,          _ANY,        "5..",         r"5\.5\.\d+",                       _ANY),
    # What says nothing is about whatever was just given to the server.
    _Row(_Is.MESSAGE_REFUSED,   "MAIL",      "552",         _ANY,                               _ANY),
    _Row(_Is.SENDER_REFUSED,    "MAIL",      "5..",         _ANY,                               _ANY),
    _Row(_Is.RECIPIENT_REFUSED, "RCPT",      "5..",         _ANY,                               _ANY),
    _Row(_Is.MESSAGE_REFUSED,   _DOT,        "5..",         _ANY,                               _ANY),
)
# fmt: on

_SECONDS = {"h": 3600, "m": 60, "s": 1}
_SPAN = r"\d+\s?(?:h(?:(?:ou)?rs?)?|m(?:in(?:ute)?s?)?|s(?:ec(?:ond)?s?)?)\b"
_WAIT = re.compile(
    r"\b(?:in|for|after|wait|least|back|retry)\b\W{0,3}(?:at least |about |another )?"
    rf"(?:(?P<clock>\d{{1,2}}:\d\d:\d\d)|(?P<spans>{_SPAN}(?:[\s,]*(?:and\s)?{_SPAN})*))",
    re.IGNORECASE,
)


def _asked_wait(text: str) -> timedelta | None:
    """The wait that a reply asks for: "in 300 seconds", "for 5 min", "in 00:04:59"; None when it names none."""
    found = _WAIT.search(text)
    if found is None:
        return None
    if clock := found["clock"]:
        hours, minutes, seconds = map(int, clock.split(":"))
        return timedelta(hours=hours, minutes=minutes, seconds=seconds)
    spans = re.findall(r"(\d+)\s?([hms])", found["spans"].lower())
    # What is more than a day is as good as a day, and no overflow.
    return timedelta(seconds=sum(min(int(number[:9]), 86400) * _SECONDS[unit] for number, unit in spans))


def one_line(text: str, *known: str) -> str:
    """``text`` in one line, shortened, and with neither mail addresses nor the local parts of ``known`` ones."""
    text = text.encode("utf-8", "replace").decode()  # what was not UTF-8 on the wire cannot be stored or logged
    for address in known:
        local = address.rpartition("@")[0]
        for part in (address, local):
            if part and part.casefold() in text.casefold():  # a pattern of its own for each address costs 0.1 ms
                text = re.sub(rf"(?<!\w){re.escape(part)}(?!\w)", "[address]", text, flags=re.IGNORECASE)
    return " ".join(_UNPRINTABLE.sub(" ", without_addresses(text)).split())[:_LONGEST_TEXT]
