"""Ink: lines of coloured words, cut to a width, with and without colours; and tables of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Ink(StrEnum):
    """As terminals number them; all of them can be read on light and dark."""

    PLAIN = ""
    BOLD = "1"
    FAINT = "2"
    GOOD = "32"
    WARN = "33"
    BAD = "1;31"
    HEAD = "7"


@dataclass(frozen=True)
class Span:
    """A piece of a line."""

    text: str
    ink: Ink = Ink.PLAIN


Line = tuple[Span, ...]


@dataclass(frozen=True, kw_only=True)
class Column:
    """``weight`` says which are left out first where there is no room for all: the heaviest stay."""

    name: str
    is_number: bool = True
    weight: int = 9


def wants_colour(*, is_terminal: bool) -> bool:
    """See no-color.org."""
    return is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def line(text: str, ink: Ink = Ink.PLAIN) -> Line:
    return (Span(text, ink),)


def table(columns: Sequence[Column], rows: Iterable[Sequence[Span]], *, width: int) -> list[Line]:
    """A head and a line for each row. The first column gets the room that is left."""
    cells = [[Span(column.name, Ink.FAINT) for column in columns], *map(list, rows)]
    widths = [max(len(row[place].text) for row in cells) for place in range(len(columns))]
    kept = list(range(len(columns)))
    while len(kept) > 1 and _total(widths, kept) > width:
        kept.remove(min(kept[1:], key=lambda place: (columns[place].weight, -place)))
    return [_row(row, columns, widths, kept) for row in cells]


def shown(spans: Line, *, width: int, in_colour: bool) -> str:
    """The line for a terminal. Whatever would steer that terminal is made visible instead."""
    parts: list[str] = []
    left = width
    for span in spans:
        text = "".join(each if each.isprintable() else "?" for each in span.text)[:left]
        left -= len(text)
        parts.append(f"\x1b[{span.ink}m{text}\x1b[0m" if in_colour and span.ink and text else text)
    return "".join(parts)


_GAP = 2


def _total(widths: Sequence[int], kept: Sequence[int]) -> int:
    return sum(widths[place] for place in kept) + _GAP * (len(kept) - 1)


def _row(row: Sequence[Span], columns: Sequence[Column], widths: Sequence[int], kept: Sequence[int]) -> Line:
    spans: list[Span] = []
    for place in kept:
        text, wide = row[place].text, widths[place]
        padded = text.rjust(wide) if columns[place].is_number else text.ljust(wide)
        spans += [Span(padded, row[place].ink), Span(" " * _GAP)]
    return tuple(spans[:-1])
