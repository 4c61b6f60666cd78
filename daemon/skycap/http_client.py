"""HttpClient: how handlers call partners: pooled, limited, and each behind its breaker."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True)
class HttpReply:
    """What a partner answered, below 400; ``headers`` have lower-case names."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    content: bytes = field(default=b"", repr=False)

    @property
    def text(self) -> str:
        return self.content.decode(errors="replace")

    def json(self) -> Any:
        """Raises ValueError for what is no JSON."""
        return json.loads(self.content)


class HttpClient(Protocol):
    """Calls partners, each behind the breaker of its name."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        breaker: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        timeout: timedelta | None = None,
        idempotency_key: str | None = None,
    ) -> HttpReply:
        """The partner's reply. What may be sent twice (GET, HEAD, PUT, DELETE, or with ``idempotency_key``) is retried.

        Raises BreakerOpen, Unavailable (no answer, 5xx), RateLimited (429, with the partner's own Retry-After) and
        PartnerRefused (other 4xx, which count as no failure of the partner).
        """
        ...
