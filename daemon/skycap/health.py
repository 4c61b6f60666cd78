"""Health: what a check answers about one dependency."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Health:
    """``degraded`` still works; ``down`` does not. ``reason`` is for the admin and names no address or secret."""

    state: Literal["ok", "degraded", "down"]
    reason: str = ""


def ok() -> Health:
    return Health(state="ok")


def degraded(reason: str) -> Health:
    return Health(state="degraded", reason=reason)


def down(reason: str) -> Health:
    return Health(state="down", reason=reason)


@dataclass(frozen=True, kw_only=True)
class HealthCheck:
    """A named check; given 2 s, and counted as down when it takes longer or raises."""

    name: str
    plugin: str
    check: Callable[[], Awaitable[Health]]
