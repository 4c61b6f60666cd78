"""DkimSigner: signs mails in this process, for where no relay does it (RFC 6376), by dkimpy.

The same mail always gets the same signature, so that one that is sent again is the same to the byte: the time in it is
that of the mail's own Date.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import re
from collections.abc import Sequence
from email.parser import BytesHeaderParser
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from skycap.errors import ConfigurationError
from skycap.services.smtp_connection import with_line_ends

_SIGNED = (
    *("From", "To", "Subject", "Date", "Message-ID", "Reply-To"),
    *("MIME-Version", "Content-Type", "Content-Transfer-Encoding", "Auto-Submitted"),
    *("List-Unsubscribe", "List-Unsubscribe-Post"),  # RFC 8058 4: one click counts only where these two are signed
)
_OVERSIGNED = ("From", "To", "Subject", "Date", "Reply-To")
"""Once more than they are there, so that nobody can add a second one, which some readers would show instead."""

_FEWEST_RSA_BITS = 1024
"""RFC 8301 3.2; receivers take shorter ones for none. It recommends 2048."""

_PEM = b"-----BEGIN"
_SIGNATURE = re.compile(rb"\bb=([^;]+)$", re.DOTALL)

_TRIAL = b"From: trial@example.com\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n\r\ntrial\r\n"


class DkimSigner:
    """Signs as ``domain``, with the key that ``selector``._domainkey.``domain`` publishes.

    ``key_file`` is an RSA key in PEM, or an Ed25519 one as dkimpy's dknewkey writes it: 32 bytes in base64 (RFC 8463).
    Raises ConfigurationError when nothing can be signed with it, or when dkimpy is not installed.
    """

    def __init__(self, *, domain: str, selector: str, key_file: Path) -> None:
        self._dkim = _dkimpy()
        self._domain = _ascii("domain", domain)
        self._selector = _ascii("selector", selector)
        self._key = _read(key_file)
        self._algorithm = b"rsa-sha256" if self._key.startswith(_PEM) else b"ed25519-sha256"
        self._try_out(key_file)

    def __repr__(self) -> str:
        return f"DkimSigner({self._selector.decode()}._domainkey.{self._domain.decode()})"

    async def sign(self, message: bytes) -> bytes:
        """``message`` under a DKIM-Signature, with the line ends that SMTP wants. Takes milliseconds, in a thread."""
        return await asyncio.to_thread(self._signed, message)

    def _signed(self, message: bytes) -> bytes:
        message = with_line_ends(message)
        header = BytesHeaderParser().parsebytes(message)
        names = [name for name in _SIGNED + _OVERSIGNED if name in header]
        return self._signature(message, names, _seconds_of(header.get("Date"))) + message

    def _signature(self, message: bytes, names: Sequence[str], seconds: bytes | None) -> bytes:
        """The header, with its line end."""
        signing: Any = self._dkim.DKIM(message, signature_algorithm=self._algorithm)
        written = signing.gen_header

        def at_the_time_of_the_mail(fields: list[tuple[bytes, bytes]], *rest: Any, **options: Any) -> bytes:
            dated = [(tag, seconds) if tag == b"t" else (tag, value) for tag, value in fields]
            return bytes(written([(tag, value) for tag, value in dated if value is not None], *rest, **options))

        signing.gen_header = at_the_time_of_the_mail  # dkimpy knows no other time than now
        relaxed = (b"relaxed", b"relaxed")
        return bytes(signing.sign(self._selector, self._domain, self._key, canonicalize=relaxed, include_headers=names))

    def _try_out(self, key_file: Path) -> None:
        try:
            header = self._signature(_TRIAL, ["From"], None)
        except self._dkim.NaClNotFoundError:
            problem = f"the DKIM key {key_file} is no RSA key in PEM, and Ed25519 needs one more package"
            raise ConfigurationError(f"{problem}: pip install pynacl") from None
        # Not `from` it: what dkimpy quotes is the key.
        except Exception as error:  # noqa: BLE001 - a key of another form ends in whatever its parser stumbles over
            problem = f"the DKIM key {key_file} cannot be used ({type(error).__name__})"
            raise ConfigurationError(f"{problem}: give an RSA key in PEM (openssl genrsa 2048)") from None
        found = _SIGNATURE.search(header.strip())
        bits = 8 * len(base64.b64decode(b"".join(found[1].split()))) if found else 0
        if self._algorithm == b"rsa-sha256" and bits < _FEWEST_RSA_BITS:
            raise ConfigurationError(
                f"the DKIM key {key_file} has {bits} bits, and receivers want {_FEWEST_RSA_BITS} at least: "
                "make one of 2048 (openssl genrsa 2048)"
            )


def _dkimpy() -> ModuleType:
    """Imported on use: it is an extra, and has no types."""
    try:
        return importlib.import_module("dkim")
    except ModuleNotFoundError as error:
        raise ConfigurationError("signing mails needs dkimpy: pip install skycap[dkim]") from error


def _ascii(what: str, text: str) -> bytes:
    try:
        return text.encode("ascii")
    except UnicodeEncodeError:
        raise ConfigurationError(f"the DKIM {what} {text!r} is not ASCII: write it in A-labels (xn--…)") from None


def _read(key_file: Path) -> bytes:
    try:
        return key_file.read_bytes().strip()
    except OSError as error:
        raise ConfigurationError(f"the DKIM key {key_file} cannot be read: {error.strerror}") from error


def _seconds_of(date: str | None) -> bytes | None:
    """Of the Unix time; None when there is no such date, and then the signature has no time."""
    try:
        return str(int(parsedate_to_datetime(date or "").timestamp())).encode()
    except (TypeError, ValueError):
        return None
