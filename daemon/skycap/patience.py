"""Patience: an answer in time or none at all, for whoever shows how things stand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any, TypeVar

from skycap.errors import Unavailable

LONGEST = timedelta(seconds=1.5)

_T = TypeVar("_T")


async def in_time(answer: Awaitable[_T]) -> _T | None:
    """None where it takes longer than LONGEST, or what is asked is away."""
    asking = asyncio.ensure_future(answer)
    asking.add_done_callback(_take_note)
    try:
        await asyncio.wait((asking,), timeout=LONGEST.total_seconds())
    finally:
        if not asking.done():
            # Nobody waits until it has heeded that: a driver may first ask the server that does not answer.
            asking.cancel()
    if not asking.done() or asking.cancelled():
        return None
    try:
        return asking.result()
    except Unavailable:
        return None


def _take_note(asked: asyncio.Future[Any]) -> None:
    """Or asyncio would tell of an error that nobody waits for any more."""
    if not asked.cancelled():
        asked.exception()
