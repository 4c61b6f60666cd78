"""Checks of the brand's colours: that they are some, and that words in them can be read (WCAG 2.2, 1.4.3)."""

from __future__ import annotations

import re

from skycap.settings.masking import quoted

_COLOR = re.compile("#[0-9a-fA-F]{6}")

_READABLE = 4.5
"""The contrast that WCAG asks of words of ordinary size, as a ratio of luminances."""


def checked_color(color: str, *, ground: str, lighter_or_darker: str) -> str:
    """``color`` if it is one, and can be read on ``ground``; else ValueError. Both are #rrggbb."""
    if not _COLOR.fullmatch(color):
        raise ValueError(f"{quoted(color)} is no colour; write it like #9a3f26")
    found = contrast(color, ground)
    if found < _READABLE:
        raise ValueError(
            f"{quoted(color)} has a contrast of {found:.1f} to the mails' ground {ground}, and words in it need "
            f"{_READABLE}; take a {lighter_or_darker} one"
        )
    return color


def contrast(one: str, other: str) -> float:
    """From 1 to 21 (WCAG 2.2, contrast ratio)."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: str) -> float:
    """Relative luminance (WCAG 2.2), from 0 to 1."""
    red, green, blue = (int(color[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return 0.2126 * _linear(red) + 0.7152 * _linear(green) + 0.0722 * _linear(blue)


_LINEAR_UP_TO = 0.04045
"""Of sRGB (IEC 61966-2-1): darker shares are not curved."""


def _linear(share: float) -> float:
    return share / 12.92 if share <= _LINEAR_UP_TO else ((share + 0.055) / 1.055) ** 2.4
