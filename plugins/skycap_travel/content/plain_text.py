"""Plain text: the words of an HTML mail, for those whose mail program shows no HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

_NEW_LINE = "\v"
"""Begins a line unless one has just begun; no text has it, since it is a blank there."""

_MARKS = {
    "\n\n": re.compile("blockquote|dl|form|h[1-6]|hr|[ou]l|p|pre|table"),
    "\n": re.compile("br"),
    _NEW_LINE: re.compile(
        "address|article|aside|body|center|d[dt]|div|fieldset|fig(caption|ure)|footer|header|li|main|nav|section|tr"
    ),
}
_VOID = re.compile("area|base|br|col|embed|hr|img|input|link|meta|source|wbr")
_UNREAD = {
    name: re.compile(rf"</{name}[\s/>]", re.IGNORECASE) for name in ("script", "style", "svg", "template", "title")
}
# Possessive, and never asked twice about one place: whatever somebody writes, the time is linear in its length.
_TAG = re.compile(r"""<(/?+)([a-zA-Z][^\s/>]*+)((?:=\s*+(?:"[^"]*+"|'[^']*+')|[^>])*+)>""")
_ATTRIBUTE = re.compile(r"""([^\s=]++)(?:\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|(\S*+)))?+""")
_TAG_BEGINS = re.compile("</?[a-zA-Z]")
_BLANKS = re.compile(r"\s+")
_LINK = re.compile("(?:https?://|mailto:|tel:)", re.IGNORECASE)
_HIDDEN = re.compile(r"display\s*:\s*none", re.IGNORECASE)


def plain_text(source: str) -> str:
    """The words of HTML, its links as ``words <address>``; "" when it has none. Any text is some HTML, as in a browser.

    Ours, since a library costs more than it gives here: html2text is GPL and writes Markdown, inscriptis brings lxml
    and requests, and Python's html.parser takes quadratic time for some broken HTML.
    """
    words = _Words()
    place = 0
    while (start := source.find("<", place)) >= 0:
        words.text(source[place:start])
        place = _read_markup(source, start, words)
        if place < 0:  # the rest is inside something that never ends
            return words.whole()
    words.text(source[place:])
    return words.whole()


def _read_markup(source: str, start: int, words: _Words) -> int:
    """Where the markup that begins at ``start`` ends; -1 when it never does."""
    if source.startswith("<!--", start):
        return _after(source, "-->", start + 4)
    if not _TAG_BEGINS.match(source, start):
        if source.startswith(("<!", "<?", "</"), start):
            return _after(source, ">", start)
        words.text("<")
        return start + 1
    tag = _TAG.match(source, start)
    if tag is None:
        return -1
    name = tag[2].lower()
    if not tag[1] and name in _UNREAD:
        end = _UNREAD[name].search(source, tag.end())
        return end.start() if end else -1
    words.tag(name, tag[3], is_end=bool(tag[1]))
    return tag.end()


def _after(source: str, mark: str, start: int) -> int:
    end = source.find(mark, start)
    return -1 if end < 0 else end + len(mark)


class _Words:
    """Takes the texts and tags of a document one after the other."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._link: tuple[str, int] | None = None
        self._hidden, self._depth = "", 0

    def text(self, text: str) -> None:
        if not self._hidden:
            self._parts.append(_BLANKS.sub(" ", html.unescape(text)))

    def tag(self, name: str, attributes: str, *, is_end: bool) -> None:
        found = {} if is_end or not attributes else dict(_attributes(attributes))
        if self._hidden:
            self._depth += (-1 if is_end else 1) if name == self._hidden else 0
            self._hidden = self._hidden if self._depth else ""
        elif not _VOID.fullmatch(name) and ("hidden" in found or _HIDDEN.search(found.get("style", ""))):
            self._hidden, self._depth = name, 1
        else:
            self._parts.append(next((mark for mark, names in _MARKS.items() if names.fullmatch(name)), ""))
            self._open(name, found, is_end=is_end)

    def whole(self) -> str:
        self._end_link()
        pieces = (piece.strip(" ") for piece in "".join(self._parts).split(_NEW_LINE))
        lines = "\n".join(filter(None, pieces)).split("\n")
        lines = [" ".join(_CONTROL.sub(" ", line).split()) for line in lines]
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()

    def _open(self, name: str, found: dict[str, str], *, is_end: bool) -> None:
        if name == "a":
            self._end_link()
            self._link = (found["href"], len(self._parts)) if "href" in found else None
        elif name == "img":
            self.text(found.get("alt", ""))
        elif name in {"td", "th"}:
            self._parts.append(" ")
        elif name == "li" and not is_end:
            self._parts.append("- ")

    def _end_link(self) -> None:
        """Name the address after the words that lead there, unless they are the address."""
        href, start = self._link or ("", 0)
        self._link = None
        if _LINK.match(href):
            address = "".join(re.sub("^(?:mailto|tel):", "", href, flags=re.IGNORECASE).split())
            if "".join(self._parts[start:]).strip().rstrip("/") != address.rstrip("/"):
                self._parts.append(f" <{address}>")


def _attributes(source: str) -> Iterator[tuple[str, str]]:
    for name, *values in _ATTRIBUTE.findall(source):
        yield name.lower(), html.unescape("".join(values))
