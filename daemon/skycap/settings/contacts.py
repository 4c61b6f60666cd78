"""Checks of how a mail names people and places: the sender, the support address, the website."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from skycap.settings.masking import quoted

_ATOM = r"""[^\s@<>()\[\],:;"\\.]+"""
_DOTTED = rf"{_ATOM}(\.{_ATOM})*"
# More lenient than RFC 5322 with names, where "Acme Inc." need not be in quotes: they are quoted when a mail is made.
_MAILBOX = re.compile(rf"""((?P<name>"[^"\\]+" *|[^@<>()\[\],:;"\\]*)<)?{_DOTTED}@{_DOTTED}(?(name)>)""")


def checked_mailbox(text: str, *, named: bool = True) -> str:
    """``text`` if it is one mail address of RFC 5322, which may have a display name if ``named``; else ValueError."""
    match = _MAILBOX.fullmatch(text)
    if match is None or not text.isprintable() or (match["name"] is not None and not named):
        example = "Name <address@example.com>" if named else "address@example.com"
        raise ValueError(f"{quoted(text)} is not one mail address; write {example}")
    return text


def checked_website(text: str) -> str:
    """``text`` if it is the http or https address of a website, else ValueError."""
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not parts.hostname or " " in text or not text.isprintable():
        raise ValueError(f"{quoted(text)} is no website; write https://example.com")
    return text
