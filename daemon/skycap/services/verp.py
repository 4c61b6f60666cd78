"""Return addresses, one for each mail (VERP): where a bounce is sent says which mail it is about."""

from __future__ import annotations

import base64
import re

from skycap.services.secrets import keyed

_LENGTH = 20
"""Of a token: 100 bits, and with ``bounces+`` far below the 64 octets that RFC 5321 gives a local part."""

_TOKEN = re.compile(rf"\+([a-z2-7]{{{_LENGTH}}})@", re.IGNORECASE)


def verp_token_of(secret: bytes, key: str, recipient_hash: str) -> str:
    """The token of the mail that means ``key``, to this recipient: only who got the mail, or its bounce, knows it.

    Of lower-case letters and digits, since servers on the way may fold the case of a local part.
    """
    digest = keyed(secret, "return-address", key.encode(), recipient_hash.encode())
    return base64.b32encode(digest).decode().lower()[:_LENGTH]


def verp_sender(bounce_address: str, token: str) -> str:
    """The envelope sender ``bounces+TOKEN@mail.example.com``, for the bounce address ``bounces@mail.example.com``."""
    local, _, domain = bounce_address.rpartition("@")
    return f"{local}+{token}@{domain}"


def verp_tokens_in(text: str) -> list[str]:
    """Whatever looks like one of our tokens in the addresses of ``text``, each once, in order."""
    return list(dict.fromkeys(token.lower() for token in _TOKEN.findall(text)))
