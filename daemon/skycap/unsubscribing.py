"""Unsubscribing: what a plugin does when a guest has had enough of one of its mails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from skycap.context import UnsubscribeContext

Unsubscribe = Callable[[UnsubscribeContext[Any], Mapping[str, str]], Awaitable[None]]
"""``async def stop(ctx, who)``: ``who`` is what the mail's ``unsubscribe`` was. Called again, it changes nothing."""


@dataclass(frozen=True, kw_only=True)
class Unsubscriber:
    """One plugin's answer; ``settings`` are the plugin's own, known when it is loaded."""

    plugin: str
    stop: Unsubscribe
    settings: object = None
