"""Trust: whether a job was made by somebody who has a key, looked at before anything of its payload is believed."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from skycap.errors import PermanentError
from skycap.signing import BadSignature, Keyring

Verify = Literal["off", "present", "require"]


class Untrusted(PermanentError):
    """The job's signature is wrong, or it has none and must have one."""


class Trust:
    """What a worker asks of a job's signature. Without arguments it asks nothing.

    ``required_kinds`` must be signed whatever ``verify`` says. Without keys, a signature that is there cannot be looked
    at, and says nothing: that is no reason to refuse the job.
    """

    def __init__(
        self, keyring: Keyring | None = None, *, verify: Verify = "off", required_kinds: Collection[str] = ()
    ) -> None:
        self._keyring = keyring or Keyring({})
        self._requires_all = verify == "require"
        self._looks_at_all = verify != "off" and bool(self._keyring)
        self._required_kinds = frozenset(required_kinds)

    def check(self, kind: str, envelope: bytes) -> None:
        """Raises Untrusted for a job that must not run, saying what is to be done."""
        is_required = self._requires_all or kind in self._required_kinds
        if not is_required and not self._looks_at_all:
            return
        try:
            signed_by = self._keyring.verified_by(envelope)
        except BadSignature as error:
            raise Untrusted(str(error)) from error
        if signed_by is None and is_required:
            raise Untrusted(self._unsigned(kind))

    def _unsigned(self, kind: str) -> str:
        way_out = "give whoever enqueues it one of the keys in signing.keys"
        if not self._keyring:
            way_out += ", which has none yet: `skycap config signing-key` makes one"
        return f"a job of kind {kind} must be signed, and this one is not; {way_out}"
