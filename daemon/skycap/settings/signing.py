"""SigningSettings: which keys jobs are signed with, and which jobs must be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal, cast

from pydantic import Field, SecretStr, field_serializer, field_validator

from skycap.errors import ConfigurationError
from skycap.settings.masking import MASK
from skycap.settings.section import Name, Section
from skycap.signing import Keyring, Signer

_BETWEEN_KEYS = re.compile(r"[\s,]+")

SIGNED_IN_PRODUCTION = ("send-email",)
"""Whoever may write into Redis could otherwise send any mail to anybody in the company's name."""


class SigningSettings(Section):
    """Signed jobs: only who has a key can make them, whoever may write into Redis."""

    keys: list[SecretStr] = Field(
        default=[],
        description="KEY-ID:SECRET, as `skycap config signing-key` makes them. The first one signs, all are believed: "
        "put a new one behind the others everywhere, then to the front, and take the old one out at last.",
    )
    verify: Literal["off", "present", "require"] = Field(
        default="present",
        description="off = nobody looks, except at require_kinds; present = a signature that is there must be right, "
        "once there are keys; require = every job must be signed. What must not be trusted is dead-lettered.",
    )
    require_kinds: list[Name] | None = Field(
        default=None,
        description="Kinds that must be signed, whatever verify says; if not set, send-email in production, "
        "and none in development.",
        examples=[["send-email"]],
    )

    @field_validator("keys", mode="before")
    @classmethod
    def _one_by_one(cls, keys: Any) -> Any:
        # A credential or a variable is one text, with the keys in lines or between commas.
        texts = [keys] if isinstance(keys, str | SecretStr) else keys
        if not isinstance(texts, list):
            raise ValueError('is no list; give ["KEY-ID:SECRET"]')  # noqa: TRY004 - pydantic wants a ValueError
        return [key for text in cast("list[object]", texts) for key in _split(text)]

    @field_validator("keys")
    @classmethod
    def _of_different_ids(cls, keys: list[SecretStr]) -> list[SecretStr]:
        try:
            ids = [Signer.parse(key.get_secret_value()).key_id for key in keys]
        except ConfigurationError as error:
            raise ValueError(str(error)) from None
        for key_id in ids:
            if ids.count(key_id) > 1:
                raise ValueError(f"two keys have the id {key_id}; give each an id of its own")
        return keys

    @field_serializer("keys")
    def _without_secrets(self, keys: list[SecretStr]) -> list[str]:
        return [f"{_signer(key).key_id}:{MASK}" for key in keys]

    @property
    def signing_key(self) -> str | None:
        """The key that signs, secret and all, as clients take it."""
        return self.keys[0].get_secret_value() if self.keys else None

    @property
    def signer(self) -> Signer | None:
        """Who signs what this installation makes; None when it has no key."""
        return _signer(self.keys[0]) if self.keys else None

    @property
    def keyring(self) -> Keyring:
        """Whose signatures are believed."""
        signers = [_signer(key) for key in self.keys]
        return Keyring({signer.key_id: signer for signer in signers})

    def required_kinds(self, *, production: bool) -> frozenset[str]:
        """The kinds that must be signed whatever ``verify`` says."""
        if self.require_kinds is None:
            return frozenset(SIGNED_IN_PRODUCTION if production else ())
        return frozenset(self.require_kinds)


def _split(text: object) -> Iterator[str]:
    if isinstance(text, SecretStr):
        text = text.get_secret_value()
    if not isinstance(text, str):
        raise ValueError('has an entry that is no text; give ["KEY-ID:SECRET"]')  # noqa: TRY004 - as above
    yield from filter(None, _BETWEEN_KEYS.split(text))


def _signer(key: SecretStr) -> Signer:
    return Signer.parse(key.get_secret_value())
