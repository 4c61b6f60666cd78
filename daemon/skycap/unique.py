"""Unique: which jobs of a kind count as the same one, for how long, and what a second one does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

OnConflict = Literal["keep", "replace", "debounce"]

SHORTEST_WITHIN = timedelta(milliseconds=1)
"""Redis counts in these."""

_KEY_BYTES = 16


@dataclass(frozen=True, kw_only=True)
class Unique:
    """One job at a time for each key; declared on a payload, or given when a job is enqueued.

    ``by`` names the fields of the payload that make the key (none: all of them); ``key`` gives it outright.
    ``within`` is how long it holds, from the first enqueue; without it, it holds until that job has ended.

    ``on_conflict`` says what a further job with the key does while it holds: ``keep`` leaves the first as it is,
    ``replace`` gives it the new payload, ``debounce`` also lets it wait its whole delay once more. The last two
    change a job that waits; if it runs already, or has ended, the new one is a job of its own.
    """

    by: tuple[str, ...] = ()
    key: str | None = None
    within: timedelta | None = None
    on_conflict: OnConflict = "keep"

    def __post_init__(self) -> None:
        if self.key is not None and (self.by or not self.key):
            raise TypeError("Unique: give either by=(fields…) or key='…', not both and not empty")
        if self.within is not None and self.within < SHORTEST_WITHIN:
            raise TypeError(f"Unique: within={self.within} holds for no time; leave it out to hold until the job ended")
        if self.on_conflict not in {"keep", "replace", "debounce"}:
            raise TypeError(f"Unique: on_conflict={self.on_conflict!r}; give keep, replace or debounce")

    def key_of(self, kind: str, fields: Mapping[str, Any], names: Mapping[str, str]) -> str:
        """The key of a job with these fields as on the wire; ``names`` are the wire's for those of the class."""
        if self.key is not None:
            return f"{kind}:{self.key}"
        chosen = {names.get(name, name): fields.get(names.get(name, name)) for name in self.by} if self.by else fields
        text = json.dumps(chosen, sort_keys=True, separators=(",", ":"))
        # A digest, so that no personal data gets into the names of Redis' keys.
        return f"{kind}:{hashlib.blake2b(text.encode(), digest_size=_KEY_BYTES).hexdigest()}"
