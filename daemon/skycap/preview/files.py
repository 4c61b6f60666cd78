"""Files of previews: the mails as they would leave, and what of them can be opened on its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from skycap.preview.previews import Preview


def named(previews: Iterable[Preview], *, by_sample: bool = True) -> dict[str, Preview]:
    """``KIND.SAMPLE.LOCALE`` (or ``KIND.LOCALE``) → preview; the second mail of one job ends in ``.2``."""
    found: dict[str, Preview] = {}
    for preview in previews:
        parts = (preview.kind, preview.sample if by_sample else None, preview.locale)
        first = name = ".".join(part for part in parts if part)
        number = 1
        while name in found:
            number += 1
            name = f"{first}.{number}"
        found[name] = preview
    return found


def write(preview: Preview, folder: Path, *, name: str) -> list[Path]:
    """Writes ``NAME.eml``, ``NAME.html``, ``NAME.txt`` and ``NAME-FILE`` for each attachment, over what is there."""
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for file, content in _contents(preview, name):
        path = folder / file
        path.write_bytes(content)
        written.append(path)
    return written


def _contents(preview: Preview, name: str) -> Iterator[tuple[str, bytes]]:
    yield f"{name}.eml", preview.message
    yield f"{name}.html", preview.page.encode()
    yield f"{name}.txt", preview.text.encode()
    for attachment in preview.attachments:
        yield f"{name}-{Path(attachment.filename).name}", attachment.content
