"""PDF: lays out simple HTML on A4, archivable (PDF/A-2a) and accessible (PDF/UA-1), in any of the mails' languages.

The layout is ``pdf.typ``, set by typst; the words are handed to it as data, so that none of them can be markup.
"""

from __future__ import annotations

import importlib
import json
import re
import unicodedata
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, cast

from babel import Locale

from skycap.errors import PermanentError, SkycapError

if TYPE_CHECKING:
    from typst import Fonts, PDFStandard

_FONTS: Final = ("FiraGO_Regular", "FiraGO_Bold")
"""Latin with Turkish, Cyrillic, Arabic, Hebrew, and every currency sign from ₺ to ₽, in one design (SIL OFL 1.1)."""

_COLOR = re.compile("#[0-9a-fA-F]{6}")
_INK: Final = "#2e2521"
_BLANKS = re.compile("[ \t\n]+")
_STRONG = frozenset({"L", "R", "AL"})
_VOID = frozenset({"br", "hr", "img", "meta"})
_UNSEEN = frozenset({"head", "script", "style", "title"})
_OF_BLOCKS = frozenset({"", "html", "body", "header", "footer", "dl", "table", "thead", "tbody", "tfoot", "tr"})


class PdfUnavailable(SkycapError):
    """The libraries that make PDFs are not installed: they are the extra ``pdf``."""


def pdf(html: str, *, title: str, locale: str, created: datetime) -> bytes:
    """``html`` as a PDF; equal arguments give equal bytes. ``created`` has a zone. Takes about 10 ms after the first.

    Of HTML it knows ``header``, ``footer``, ``h1``, ``h2``, ``p``, ``dl`` (labels and values), ``table`` (the last
    column holds amounts), ``b``, ``br`` and ``bdi``; of other elements it keeps the text. ``class="small"`` is
    smaller, ``class="strong"`` bold; ``<meta name="theme-color" content="#9a3f26">`` colours the header and lines.
    Raises PdfUnavailable without the extra, and PermanentError for what cannot be laid out.
    """
    reader = _Reader()
    reader.feed(html)
    reader.close()
    source = {
        "title": title,
        "lang": locale.partition("-")[0].lower(),
        "dir": Locale.parse(locale, sep="-").text_direction,
        "color": reader.color,
        "body": _plain(reader.root),
    }
    typst = _typst()
    with suppress(typst.TypstError):
        return _laid_out(source, created, ["a-2a", "ua-1"])
    # A letter that no font has is a box, which no standard allows; the rest is still worth having.
    try:
        return _laid_out(source, created, [])
    except typst.TypstError as error:
        raise PermanentError(f"the PDF cannot be laid out: {error}") from error


def _laid_out(source: Mapping[str, object], created: datetime, standards: list[PDFStandard]) -> bytes:
    # A new one each time: it forgets a layout that is no file after its first use.
    compiler = _typst().Compiler(_layout(), font_paths=_fonts(), sys_inputs={"document": json.dumps(source)})
    made = compiler.compile(
        format="pdf", timestamp=created.astimezone(UTC).replace(microsecond=0), pdf_standards=standards
    )
    return cast("bytes", made)  # one file without a path is bytes


@dataclass(kw_only=True)
class _Element:
    tag: str
    style: str = ""
    children: list[_Element | str] = field(default_factory=list["_Element | str"])


class _Reader(HTMLParser):
    """The elements of a document; one that is not closed ends with its parent."""

    def __init__(self) -> None:
        super().__init__()
        self.root = _Element(tag="")
        self.color = _INK
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "meta" and given.get("name") == "theme-color" and _COLOR.fullmatch(given.get("content") or ""):
            self.color = given["content"] or _INK
        element = _Element(tag=tag, style=given.get("class") or "")
        self._open[-1].children.append(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        depth = next((index for index in range(len(self._open) - 1, 0, -1) if self._open[index].tag == tag), None)
        if depth is not None:
            del self._open[depth:]

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(_BLANKS.sub(" ", data))


def _plain(element: _Element) -> dict[str, object]:
    """For JSON; without what is not seen, and without the line breaks between blocks."""
    children: list[object] = []
    for child in element.children:
        if isinstance(child, _Element):
            if child.tag not in _UNSEEN:
                children.append(_plain(child))
        elif element.tag not in _OF_BLOCKS or child.strip():
            children.append(child)
    style = _direction(element) if element.tag == "bdi" else element.style
    return {"tag": element.tag, "class": style, "children": _trimmed(children)}


def _direction(element: _Element) -> str:
    """That of the first letter, as ``bdi`` has it; blank when there is none."""
    text = "".join(child for child in element.children if isinstance(child, str))
    kinds = (unicodedata.bidirectional(character) for character in text)
    return next(("ltr" if kind == "L" else "rtl" for kind in kinds if kind in _STRONG), "")


def _trimmed(children: list[object]) -> list[object]:
    """Without blanks at both ends: a template's indentation."""
    if children and isinstance(children[0], str):
        children[0] = children[0].lstrip(" ")
    if children and isinstance(children[-1], str):
        children[-1] = children[-1].rstrip(" ")
    return children


@cache
def _layout() -> bytes:
    return files("skycap.services").joinpath("pdf.typ").read_bytes()


@cache
def _fonts() -> Fonts:
    """The fonts, in memory. typst takes folders only, and reads a font when a text first needs it; here one does."""
    typst = _typst()
    with _font_folder() as folder:
        fonts: Fonts = typst.Fonts(include_system_fonts=False, font_paths=[str(folder)])
        typst.Compiler(b'#set text(font: "FiraGO")\na *b*', font_paths=fonts).compile(format="pdf")
    return fonts


@contextmanager
def _font_folder() -> Generator[Path]:
    with TemporaryDirectory(prefix="skycap-fonts-") as folder:
        for name in _FONTS:
            content = cast("bytes", _imported(f"pymupdf_fonts.{name}").fontbuffer)
            Path(folder, f"{name}.ttf").write_bytes(content)
        yield Path(folder)


def _typst() -> Any:
    return _imported("typst")


def _imported(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise PdfUnavailable(f"{error.name} is missing; install skycap[pdf] to attach PDFs to mails") from error
