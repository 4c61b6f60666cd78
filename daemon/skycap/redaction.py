"""Keeps personal addresses out of whatever is logged or stored as an error."""

from __future__ import annotations

import re

# Deliberately wider than RFC 5321: an address must not slip through because it is unusual.
# It begins where a word does: tried at each letter, a long word would take the square of its length.
_ADDRESS = re.compile(r"(?<![^\s<>()\[\]:;,\"])[^\s<>()\[\]:;,\"]+@[^\s<>()\[\]:;,\"]+")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")


def without_addresses(text: str) -> str:
    """``text`` with every mail address and every user:password of a URL replaced.

    A Message-ID is no person's address, but cannot be told apart inside free text; log it in a field of its own.
    """
    return _ADDRESS.sub("[address]", _CREDENTIALS.sub("", text))
