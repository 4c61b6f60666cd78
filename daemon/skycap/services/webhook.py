"""Webhook: posts JSON documents to one address, signed, and follows nobody elsewhere."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import aiohttp

from skycap.errors import Unavailable

SIGNATURE_HEADER = "Skycap-Signature"
"""``t=SECONDS,v1=HEX``: HMAC-SHA256 of ``SECONDS.BODY`` under the secret. The time keeps an old one from counting."""

_PAUSES = tuple(timedelta(seconds=seconds) for seconds in (0.5, 2))
"""Between the tries of one delivery; longer ones are the business of who delivers."""

_TIMEOUT = timedelta(seconds=5)


class Webhook:
    """One receiver. Neither its address nor its answers are told to anybody: both may hold secrets."""

    def __init__(
        self,
        url: str,
        *,
        secret: str | None = None,
        timeout: timedelta = _TIMEOUT,
        pauses: Sequence[timedelta] = _PAUSES,
    ) -> None:
        """``timeout`` is for one try; there is one more than there are ``pauses``."""
        self._url = url
        self._secret = secret
        self._pauses = pauses
        self._timeout = aiohttp.ClientTimeout(total=timeout.total_seconds())

    async def post(self, document: Mapping[str, Any], *, delivery: str) -> None:
        """Post it until it is taken (2xx), or all tries are used up. Raises Unavailable.

        ``delivery`` is the same whenever the same is posted again, by whomever: receivers drop what they have seen.
        """
        body = json.dumps(document, ensure_ascii=False).encode()
        async with aiohttp.ClientSession(timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
            for pause in (*self._pauses, None):
                problem, may_help = await self._try(session, body, delivery)
                if problem is None:
                    return
                if pause is None or not may_help:
                    raise Unavailable("webhook", problem)
                await asyncio.sleep(pause.total_seconds())

    async def _try(self, session: aiohttp.ClientSession, body: bytes, delivery: str) -> tuple[str | None, bool]:
        """What went wrong, and whether another try may help."""
        headers = {"Content-Type": "application/json", "User-Agent": "skycap", "Skycap-Delivery": delivery}
        if self._secret is not None:
            headers[SIGNATURE_HEADER] = signature(body, self._secret, at=int(time.time()))
        try:
            # A redirect could lead the document, and its signature, to whom the admin has not named.
            async with session.post(self._url, data=body, headers=headers, allow_redirects=False) as reply:
                if HTTPStatus(200) <= reply.status < HTTPStatus.MULTIPLE_CHOICES:
                    return None, False
                is_passing = reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR or reply.status in {408, 425, 429}
                return f"answered {reply.status}", is_passing
        except TimeoutError:
            return "no answer in time", True
        except aiohttp.ClientError as error:
            return f"cannot be reached: {type(error).__name__}", True


def signature(body: bytes, secret: str, *, at: int) -> str:
    """The value of SIGNATURE_HEADER; ``at`` in seconds since 1970."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"
