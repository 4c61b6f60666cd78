"""When certificates end, and whether that is soon."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta

from skycap.checks.finding import Finding, fail, ok, warn

SOON = timedelta(days=14)


def moment(not_after: str) -> datetime:
    """Of ``Nov 28 12:00:00 2027 GMT``, as Python's ssl tells it."""
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(not_after), UTC)


def finding_of_end(whose: str, ends: datetime) -> Finding:
    left = ends - datetime.now(UTC)
    if left <= timedelta(0):
        return fail(f"{whose}: the certificate ended on {ends:%Y-%m-%d}", "renew it")
    if left < SOON:
        return warn(f"{whose}: the certificate ends on {ends:%Y-%m-%d}, in {left.days} days", "renew it now")
    return ok(f"{whose}: the certificate is good until {ends:%Y-%m-%d}")
