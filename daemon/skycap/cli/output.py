"""How commands print: a table for people, one JSON document for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])

_KIBI = 1024


def json_option(command: _F) -> _F:
    """The ``--json`` of every command that prints."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


def print_json(document: object) -> None:
    click.echo(json.dumps(document, ensure_ascii=False, indent=2, default=_plain))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns as wide as their widest cell; an empty table is only its head."""
    cells = [list(columns), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    for row in cells:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def print_fields(fields: Mapping[str, object]) -> None:
    """One ``name  value`` a line."""
    width = max(len(name) for name in fields)
    for name, value in fields.items():
        click.echo(f"{name.ljust(width)}  {_cell(value)}")


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


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    return str(value)


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
