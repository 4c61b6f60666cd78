"""Unsubscribe links: opaque tokens, and in ``skycap.unsubscribe_links`` what each of them stops.

A token is a handle and the handle's signature, so that who guesses one costs no query.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from skycap.context import Database
from skycap.services.secrets import keyed

_HALF = 16
_LENGTH = 43
"""Of a token: two halves of 16 bytes as base64url, without padding."""

# The mail may be sent again, with the same link.
_REMEMBER = """
    INSERT INTO skycap.unsubscribe_links (token_hash, plugin, who, locale)
    VALUES ($1, $2, $3::jsonb, $4)
    ON CONFLICT DO NOTHING
"""
_FIND = "SELECT plugin, who::text AS who, locale, created_at FROM skycap.unsubscribe_links WHERE token_hash = $1"


@dataclass(frozen=True, kw_only=True)
class Link:
    """What one link stops: ``who`` is for the unsubscribe function of ``plugin``."""

    plugin: str
    who: Mapping[str, str]
    locale: str | None
    created_at: datetime


def token_of(secret: bytes, plugin: str, who: Mapping[str, str]) -> str:
    """The token for ``who``: the same in every mail, and fit for a URL."""
    handle = keyed(secret, "unsubscribe-link", plugin.encode(), _canonical(who).encode())[:_HALF]
    return base64.urlsafe_b64encode(handle + _signature(secret, handle)).decode().rstrip("=")


def is_ours(secret: bytes, token: str) -> bool:
    """Whether we have made it. Asks no database, and takes as long for whatever token of the right length."""
    if len(token) != _LENGTH or not token.isascii():
        return False
    try:
        decoded = base64.b64decode(f"{token}=", altchars=b"-_", validate=True)
    except ValueError:
        return False
    return hmac.compare_digest(decoded[_HALF:], _signature(secret, decoded[:_HALF]))


async def remember(
    database: Database, token: str, plugin: str, who: Mapping[str, str], locale: str | None = None
) -> None:
    """To be called before the mail with this link leaves."""
    await database.execute(_REMEMBER, _hash_of(token), plugin, _canonical(who), locale)


async def find(database: Database, token: str) -> Link | None:
    """None for one that was never remembered, or was erased with the person whose it was."""
    row = await database.fetchrow(_FIND, _hash_of(token))
    if row is None:
        return None
    return Link(plugin=row["plugin"], who=json.loads(row["who"]), locale=row["locale"], created_at=row["created_at"])


def _canonical(who: Mapping[str, str]) -> str:
    return json.dumps(dict(who), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _signature(secret: bytes, handle: bytes) -> bytes:
    return keyed(secret, "signature", handle)[:_HALF]


def _hash_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
