"""Group: the checks of one noun, which share one look at it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Generic, TypeVar

from skycap.checks.finding import Finding
from skycap.checks.installation import Installation

View = TypeVar("View")

Answer = Finding | Sequence[Finding]
"""Of a check; a list where it looks at several things, and then not an empty one."""


@dataclass(frozen=True, kw_only=True)
class Check(Generic[View]):
    """``look`` may be a coroutine function. What it raises becomes a finding, too."""

    name: str
    looks_at: str
    look: Callable[[View], Answer | Awaitable[Answer]]


class Group(Generic[View]):
    """``opened`` gives what the checks look at. Where it raises, the first check says so, and the rest are skipped."""

    def __init__(self, name: str, opened: Callable[[Installation], AbstractAsyncContextManager[View]]) -> None:
        self.name = name
        self.opened = opened
        self.checks: list[Check[View]] = []

    def check(self, look: Callable[[View], Answer | Awaitable[Answer]]) -> Callable[[View], Answer | Awaitable[Answer]]:
        """Add a function, by its own name; the first line of its docstring is what config/CHECKS.md says of it."""
        name = look.__name__.replace("_", "-")
        looks_at = (look.__doc__ or "").partition("\n")[0]
        self.checks.append(Check(name=name, looks_at=looks_at, look=look))
        return look
