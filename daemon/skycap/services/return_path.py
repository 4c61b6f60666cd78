"""ReturnPath: the envelope sender of each mail, by which a bounce says which mail it is about."""

from __future__ import annotations

from skycap.services.secrets import MailSecret
from skycap.services.verp import verp_sender, verp_token_of


class ReturnPath:
    """An address of its own for each mail below ``bounce_address``: ``bounces+TOKEN@mail.example.com``."""

    def __init__(self, bounce_address: str, *, secret: MailSecret) -> None:
        self._bounce_address = bounce_address
        self._secret = secret

    async def token_of(self, key: str, recipient_hash: str) -> str:
        """What the ledger keeps, to find the mail by. Raises Unavailable."""
        return verp_token_of(await self._secret.value(), key, recipient_hash)

    def sender_of(self, token: str) -> str:
        return verp_sender(self._bounce_address, token)
