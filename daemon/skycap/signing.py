"""Signing: proof that a job was made by somebody who has a key, over the exact bytes of its envelope.

A signed envelope ends with one more member, ``"sig":"KEY-ID:SIGNATURE"``, where the signature is the HMAC-SHA256
(RFC 2104) of all the bytes of the envelope without that member, in base64url without padding (RFC 4648 §5). No
canonical form of JSON is needed: any language signs what its own encoder wrote.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from skycap.errors import ConfigurationError, Undecodable

_TAIL = re.compile(rb',"sig":"(?P<key>[A-Za-z0-9._-]{1,64}):(?P<signature>[A-Za-z0-9_-]{43})"\}\Z')
_LONGEST_TAIL = 128
_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

SHORTEST_SECRET_BYTES = 32
"""RFC 2104 §3: shorter than the hash's output weakens it."""


class BadSignature(Undecodable):
    """The envelope is signed with a key that is not known here, or was changed after it was signed."""


@dataclass(frozen=True, kw_only=True)
class Signer:
    """Signs with one key."""

    key_id: str
    secret: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Signer:
        """``KEY-ID:SECRET``, the secret being 32 bytes or more in base64. Raises ConfigurationError."""
        key_id, colon, secret = text.strip().partition(":")
        try:
            decoded = base64.b64decode(
                secret.replace("-", "+").replace("_", "/") + "=" * (-len(secret) % 4), validate=True
            )
        except ValueError:
            decoded = b""
        if not colon or not _KEY_ID.fullmatch(key_id) or len(decoded) < SHORTEST_SECRET_BYTES:
            raise ConfigurationError(
                "a signing key is KEY-ID:SECRET, the secret 32 bytes or more in base64; make one with "
                "`skycap config signing-key`"
            )
        return cls(key_id=key_id, secret=decoded)

    @classmethod
    def new(cls, key_id: str) -> Signer:
        """One with a secret that nobody else has. Raises ConfigurationError for an id that is none."""
        return cls.parse(f"{key_id}:{base64.b64encode(secrets.token_bytes(SHORTEST_SECRET_BYTES)).decode()}")

    def text(self) -> str:
        """What ``parse`` reads: the secret itself."""
        return f"{self.key_id}:{base64.b64encode(self.secret).decode()}"

    def sign(self, envelope: bytes) -> bytes:
        """The envelope with its signature as the last member."""
        signature = _encoded(hmac.digest(self.secret, envelope, hashlib.sha256))
        return b'%b,"sig":"%b:%b"}' % (envelope[:-1], self.key_id.encode(), signature)


class Keyring:
    """The keys whose signatures are believed."""

    def __init__(self, signers: Mapping[str, Signer]) -> None:
        self._signers = dict(signers)

    def __len__(self) -> int:
        return len(self._signers)

    def verified_by(self, envelope: bytes) -> str | None:
        """The id of the key that it was signed with; None when it is not signed. Raises BadSignature."""
        found = _TAIL.search(envelope, max(0, len(envelope) - _LONGEST_TAIL))
        if found is None:
            return None
        key_id = found["key"].decode()
        signer = self._signers.get(key_id)
        if signer is None:
            raise BadSignature(
                f"it is signed with the key {key_id!r}, which is not known here; if it is one of yours, add it to "
                "signing.keys, then redrive the job"
            )
        unsigned = envelope[: found.start()] + b"}"
        expected = _encoded(hmac.digest(signer.secret, unsigned, hashlib.sha256))
        if not hmac.compare_digest(expected, found["signature"]):
            raise BadSignature(
                f"its signature with the key {key_id!r} does not fit: it was changed after it was signed, or with "
                "another secret; look who may write into Redis"
            )
        return key_id


def _encoded(digest: bytes) -> bytes:
    return base64.urlsafe_b64encode(digest).rstrip(b"=")
