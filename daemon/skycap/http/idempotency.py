"""Idempotency keys: the same request, sent again, is answered as the first time and stored once."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from aiohttp import web

from skycap.engine.queue import Repeat
from skycap.http.errors import BAD_HEADER, ApiError

HEADER = "Idempotency-Key"
KNOWN_FOR = timedelta(hours=24)

_PLAIN = re.compile(r"[\x21\x23-\x7e][\x21-\x7e]{0,199}")
_QUOTED = re.compile(r'"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\]){1,200})"')


class IdempotencyKey:
    """One caller's key, with what is asked for under it."""

    def __init__(self, key: str, caller: str, document: Mapping[str, Any]) -> None:
        self._name = f"{caller}\n{key}"
        self._digest = _digest(json.dumps(document, sort_keys=True, separators=(",", ":")))

    def repeat(self, place: int | None = None) -> Repeat:
        """For the job of the request, or for the one at a ``place`` in its batch."""
        # Digests: keys may be personal, and the names of Redis' keys are seen by whoever looks after it.
        name = self._name if place is None else f"{self._name}\n{place}"
        return Repeat(key=_digest(name), digest=self._digest, known_for=KNOWN_FOR)


def idempotency_key(request: web.Request, caller: str, document: Mapping[str, Any]) -> IdempotencyKey | None:
    """None when the request has none. Raises ApiError for one that cannot be one."""
    text = request.headers.get(HEADER)
    if text is None:
        return None
    quoted = _QUOTED.fullmatch(text)  # a string of RFC 8941
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else text
    if quoted is None and not _PLAIN.fullmatch(text):
        raise ApiError(
            BAD_HEADER, f"{HEADER} must be 1 to 200 visible ASCII characters, or such a string in double quotes"
        )
    return IdempotencyKey(key, caller, document)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
