"""How commands print: a table for people, one JSON document for programs."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from skycap.cli.cells import Cell, age_text, cell_of, is_number, shortened, size_text, width_of
from skycap.cli.documents import json_text

__all__ = ["answer", "json_option", "print_fields", "print_json", "print_table", "size_text", "wants_color"]

_F = TypeVar("_F", bound=Callable[..., Any])

_GAP = "  "
_NARROWEST = 12
"""Columns that a text keeps where the terminal is too narrow for all."""


def json_option(command: _F) -> _F:
    """The ``--json`` of every command that prints."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


def wants_color() -> bool | None:
    """Whether to colour what is printed; None: where it is a terminal (no-color.org, force-color.org)."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") not in {"", "0"}:
        return True
    return False if os.environ.get("TERM") == "dumb" else None


def print_json(document: object) -> None:
    click.echo(json_text(document))


def answer(document: object, *lines: str, as_json: bool) -> None:
    """What a command has changed: the document for programs, the lines for people."""
    if as_json:
        print_json(document)
    else:
        click.echo("\n".join(lines))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str = "there are none") -> None:
    """Columns as wide as their widest cell, numbers to the right; ``empty`` is said on stderr if there are no rows.

    On a terminal that is too narrow, the longest texts are shortened; a pipe gets them whole.
    """
    cells = [[cell_of(value) for value in row] for row in rows]
    if not cells:
        click.echo(empty, err=True)
        return
    right = [_is_of_numbers([row[i] for row in cells]) for i in range(len(columns))]
    widths = [max(width_of(name), *(width_of(row[i].text) for row in cells)) for i, name in enumerate(columns)]
    widths = _fitting(widths, keep=[i == 0 or is_right for i, is_right in enumerate(right)])
    _print_row([Cell(text=name) for name in columns], widths, right, bold=True)
    for row in cells:
        _print_row(row, widths, right)


def print_fields(fields: Mapping[str, object]) -> None:
    """One ``name  value`` a line; moments exactly, and how long ago they are."""
    width = max(width_of(name) for name in fields)
    for name, value in fields.items():
        cell = Cell(text=_moment_text(value)) if isinstance(value, datetime) else cell_of(value)
        click.echo(f"{name}{' ' * (width - width_of(name))}{_GAP}{cell.shown(cell.text)}")


def _is_of_numbers(cells: Sequence[Cell]) -> bool:
    known = [cell for cell in cells if cell.text != "-"]
    return bool(known) and all(is_number(cell) for cell in known)


def _fitting(widths: list[int], *, keep: Sequence[bool]) -> list[int]:
    """The widths on this terminal: the widest one that may be is narrowed, until all fit or none can be any more."""
    if not sys.stdout.isatty():
        return widths
    room = shutil.get_terminal_size().columns - len(_GAP) * (len(widths) - 1)
    fitting = list(widths)
    while sum(fitting) > room:
        widest = max((i for i in range(len(fitting)) if not keep[i]), key=lambda i: fitting[i], default=None)
        if widest is None or fitting[widest] <= _NARROWEST:
            break
        fitting[widest] = max(_NARROWEST, fitting[widest] - (sum(fitting) - room))
    return fitting


def _print_row(row: Sequence[Cell], widths: Sequence[int], right: Sequence[bool], *, bold: bool = False) -> None:
    parts: list[str] = []
    for cell, width, is_right in zip(row, widths, right, strict=True):
        text = shortened(cell.text, width)
        space = " " * (width - width_of(text))
        shown = click.style(text, bold=True) if bold else cell.shown(text)
        parts.append(f"{space}{shown}" if is_right else f"{shown}{space}")
    click.echo(_GAP.join(parts).rstrip())


def _moment_text(moment: datetime) -> str:
    exact = moment if moment.tzinfo is None else moment.astimezone(UTC)
    return f"{exact:%Y-%m-%d %H:%M:%S} UTC ({age_text(moment)})"
