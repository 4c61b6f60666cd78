"""Shades: a mail as a program in light or dark mode shows it, whatever mode the browser is in."""

from __future__ import annotations

import re
from typing import Literal

Shade = Literal["light", "dark"]

SHADES: tuple[Shade, ...] = ("light", "dark")

_DARK_QUERY = re.compile(r"\(\s*prefers-color-scheme\s*:\s*dark\s*\)")
_BOTH = re.compile(r"\blight dark\b")


def in_shade(html: str, shade: Shade) -> str:
    """``html`` with its dark styles in force, or out of it."""
    # Not "all" and "not all", which cannot be joined to other conditions by "and".
    decided = _DARK_QUERY.sub("(min-width: 0)" if shade == "dark" else "(max-width: 0)", html)
    head, body, rest = decided.partition("<body")
    return _BOTH.sub(shade, head) + body + rest
