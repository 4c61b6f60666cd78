"""Recipient: a mail address as the ledger knows it and as SMTP wants it."""

from __future__ import annotations

from dataclasses import dataclass, field

from email_validator import EmailNotValidError, validate_email

from skycap.services.replies import SmtpRefused


@dataclass(frozen=True, kw_only=True)
class Recipient:
    """``ascii_address`` has its domain in A-labels; None when the local part needs SMTPUTF8 (RFC 6531)."""

    address: str = field(repr=False)
    ascii_address: str | None = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Recipient:
        """Raises SmtpRefused, without the text, for what is no address (``Ada <ada@example.com>`` is none)."""
        try:
            # Which domains may be mailed is the mail server's business: a relay may well serve `ada@intranet`.
            found = validate_email(text, check_deliverability=False, globally_deliverable=False)
        except EmailNotValidError:
            # Not `from` it: it quotes the address, and a log would show that.
            raise SmtpRefused("the recipient is no mail address of the form name@domain") from None
        if "=?" in found.normalized:
            # An encoded word (RFC 2047) has no place in an address, and mail programs would show what it stands for.
            raise SmtpRefused("the recipient's name reads as an encoded word")
        return cls(address=found.normalized, ascii_address=found.ascii_email)
