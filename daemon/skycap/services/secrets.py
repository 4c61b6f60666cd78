"""The secret of one installation, which all its daemons share: it proves that an answer is to a mail of ours."""

from __future__ import annotations

import hashlib
import hmac

from skycap.context import Database
from skycap.errors import ConfigurationError


async def mail_secret(database: Database) -> bytes:
    """What unsubscribe links and return addresses are signed with; migration 0002 made it, and it never changes."""
    value = await database.fetchval("SELECT value FROM skycap.secrets WHERE name = 'mail'")
    if not value:
        raise ConfigurationError(
            "skycap.secrets has no row 'mail', which signs unsubscribe links and return addresses: restore it from a "
            "backup; any other value would do for new mails, but those that were sent could not be answered"
        )
    return str(value).encode()


def keyed(secret: bytes, purpose: str, *parts: bytes) -> bytes:
    """The HMAC-SHA256 of ``parts`` for one ``purpose``; where a part ends is part of what is signed."""
    signed = hmac.new(secret, digestmod=hashlib.sha256)
    for part in (purpose.encode(), *parts):
        signed.update(len(part).to_bytes(8))
        signed.update(part)
    return signed.digest()


class MailSecret:
    """``mail_secret``, asked for once: it never changes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._value: bytes | None = None

    async def value(self) -> bytes:
        """Raises ConfigurationError as ``mail_secret`` does, and Unavailable."""
        if self._value is None:
            self._value = await mail_secret(self._database)
        return self._value
