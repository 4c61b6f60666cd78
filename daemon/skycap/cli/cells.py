"""What a value looks like in a table: its text, how many columns that takes on a terminal, its colour."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import click

_KIBI = 1024
_AGES = (
    ("d", timedelta(days=1)),
    ("h", timedelta(hours=1)),
    ("m", timedelta(minutes=1)),
    ("s", timedelta(seconds=1)),
)
_OLDEST = timedelta(days=100)
_NUMBER = re.compile(r"-?[\d,]+(\.\d+)?( ?(%|B|KiB|MiB|GiB|TiB|ms|s))?", re.ASCII)
_COLOURS = {
    **dict.fromkeys(("discarded", "failed", "unknown", "firing", "open", "missing", "invalid", "broken"), "red"),
    **dict.fromkeys(("retryable", "deferred", "pending", "half open", "paused", "building", "off"), "yellow"),
    **dict.fromkeys(("completed", "sent", "ok", "closed", "on", "present", "loaded"), "green"),
    "running": "cyan",
}
"""Of the states of jobs, mails, alarms, breakers, indexes, schedules and plugins: red is what somebody must look at."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Text in a colour, which only a terminal shows."""

    text: str
    colour: str | None = None

    def shown(self, text: str) -> str:
        return click.style(text, fg=self.colour) if self.colour and text else text


def cell_of(value: object) -> Cell:
    """The cell of any value; None is a dash, and moments are as long ago, or as far off, as people say it."""
    if isinstance(value, Cell):
        return value
    if value is None:
        return Cell(text="-")
    return Cell(text=age_text(value) if isinstance(value, datetime) else on_one_line(str(value)))


def state_cell(state: str, text: str | None = None) -> Cell:
    """A state in its colour, with other words for it if they are given."""
    return Cell(text=text or state, colour=_COLOURS.get(state.lower().replace("_", " ")))


def on_one_line(text: str) -> str:
    """Without what would break a table, or speak to the terminal: text of jobs and partners may hold anything."""
    return text if text.isprintable() else "".join(each if each.isprintable() else " " for each in text)


def is_number(cell: Cell) -> bool:
    """Whether it belongs to the right of its column."""
    return _NUMBER.fullmatch(cell.text) is not None


def width_of(text: str) -> int:
    """The columns of a terminal that ``text`` takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def shortened(text: str, width: int) -> str:
    """Its beginning, with an ellipsis, if it takes more than ``width`` columns."""
    if width_of(text) <= width:
        return text
    kept, used = "", 1
    for character in text:
        used += _columns(character)
        if used > width:
            break
        kept += character
    return f"{kept.rstrip()}…"


def age_text(moment: datetime, now: datetime | None = None) -> str:
    """``3 m ago``, ``in 2 h``; a day where that is far off."""
    age = (now or datetime.now(UTC)) - (moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    if abs(age) >= _OLDEST:
        return f"{moment:%Y-%m-%d}"
    if abs(age) < timedelta(seconds=1):
        return "now"
    unit, length = next((unit, length) for unit, length in _AGES if abs(age) >= length)
    number = abs(age) // length
    return f"{number} {unit} ago" if age > timedelta(0) else f"in {number} {unit}"


def size_text(size: int | None) -> str | None:
    """Bytes as one reads them: ``712 B``, ``8.2 MiB``."""
    if size is None:
        return None
    number, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if number < _KIBI:
            break
        number, unit = number / _KIBI, larger
    return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"


def _columns(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1
