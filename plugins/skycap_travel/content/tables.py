"""Tables: rows written to a temporary file as CSV (RFC 4180), and what of it a mail can carry."""

from __future__ import annotations

import csv
import gzip
import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import datetime
from decimal import Decimal
from io import TextIOWrapper
from tempfile import TemporaryFile
from typing import IO, Final, Self

from skycap_travel.metadata.amounts import rounded

# A program for tables takes what begins so for a formula (OWASP, CSV Injection), the wide letters of Japanese, too.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001

Cell = str | int | datetime | None


class TooLarge(Exception):
    """The table is larger than a file may be, even packed."""


class Table:
    """A CSV file of its own, deleted when it is closed; it is never held in memory until a mail takes it."""

    def __init__(self) -> None:
        with ExitStack() as opened:
            self._file = opened.enter_context(TemporaryFile())
            self._text = TextIOWrapper(self._file, "utf-8", newline="", write_through=False)
            self._closing = opened.pop_all()
        self._rows = csv.writer(self._text, lineterminator="\r\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.close()

    def write(self, cells: Iterable[Cell]) -> None:
        self._rows.writerow([_written(cell) for cell in cells])

    def size(self) -> int:
        """In bytes."""
        self._text.flush()
        return self._file.tell()

    def content(self, *, most: int) -> bytes:
        """The file. Raises TooLarge beyond ``most`` bytes."""
        return _read(self._file, self.size(), most)

    def packed(self, *, most: int) -> bytes:
        """The file as gzip makes it, the same bytes each time. Raises TooLarge beyond ``most`` of them."""
        self._text.flush()
        self._file.seek(0)
        with TemporaryFile() as packed:
            with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as target:
                shutil.copyfileobj(self._file, target)
            return _read(packed, packed.tell(), most)


def plain_amount(amount: Decimal, currency: str) -> str:
    """With as many decimals as its currency has, or as are stored beyond these: 18450.00, 0.12345678."""
    if not amount.is_finite():
        return ""
    short = rounded(amount, currency)
    return f"{short:f}" if short == amount else f"{amount:f}".rstrip("0")


def _written(cell: Cell) -> str:
    match cell:
        case None:
            return ""
        case str():
            # As OWASP says, so that it is shown as text; an amount of ours has come as a text without blanks.
            return f"'{cell}" if cell.startswith(_FORMULA) and not _is_number(cell) else cell
        case datetime():
            return cell.isoformat(timespec="seconds")
        case _:
            return str(cell)


def _is_number(text: str) -> bool:
    """A sign and digits are harmless, and are no text."""
    return text[1:].replace(".", "", 1).isdecimal() and text[0] == "-" and text.isascii()


def _read(file: IO[bytes], size: int, most: int) -> bytes:
    if size > most:
        raise TooLarge
    file.seek(0)
    return file.read()
