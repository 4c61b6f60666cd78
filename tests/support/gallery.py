"""Screenshots of all mails: ``python -m tests.support.gallery OUT [--locale tr --locale ar] [--width 360]``.

OUT gets a PNG of each mail in light and dark, and for each locale and shade a contact sheet with all of them.
"""

# ruff: noqa: T201 - it reports on a terminal

from __future__ import annotations

import argparse
import base64
from html import escape
from pathlib import Path

from tests.support.browser import SHADES, Page, browser, find_chromium
from tests.support.previews import all_previews

PHONE = 360
SHEET_COLUMNS = 6


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.gallery", description=__doc__)
    parser.add_argument("out", type=Path, help="the folder for the pictures")
    parser.add_argument("--locale", action="append", help="again for more; all if not given")
    parser.add_argument("--width", type=int, default=PHONE, help="of the window, in CSS pixels")
    parser.add_argument("--kind", help="only this one")
    arguments = parser.parse_args()
    program = find_chromium()
    if program is None:
        parser.error("there is no chromium on PATH")
    arguments.out.mkdir(parents=True, exist_ok=True)
    with browser(program) as started:
        take_all(started.page(), arguments.out, locales=arguments.locale, width=arguments.width, kind=arguments.kind)


def take_all(page: Page, folder: Path, *, locales: list[str] | None, width: int, kind: str | None) -> None:
    sheets: dict[str, list[tuple[str, bytes]]] = {}
    for name, preview in all_previews().items():
        if kind not in {None, preview.kind} or (locales and preview.locale not in {None, *locales}):
            continue
        for shade in SHADES:
            page.show(preview.page, width=width, shade=shade)
            picture = page.screenshot(width=width)
            (folder / f"{name}.{width}.{shade}.png").write_bytes(picture)
            sheets.setdefault(f"{preview.locale or 'as-written'}.{width}.{shade}", []).append((name, picture))
            print(f"{name}.{width}.{shade}.png")
    for sheet, pictures in sheets.items():
        show_sheet(page, sheet, pictures, width)
        (folder / f"sheet.{sheet}.png").write_bytes(page.screenshot(width=SHEET_COLUMNS * (width + 16) + 16))
        print(f"sheet.{sheet}.png")


def show_sheet(page: Page, title: str, pictures: list[tuple[str, bytes]], width: int) -> None:
    figures = "".join(
        f'<figure><figcaption>{escape(name)}</figcaption><img width="{width}" '
        f'src="data:image/png;base64,{base64.b64encode(picture).decode()}"></figure>'
        for name, picture in pictures
    )
    style = (
        "body { margin: 16px; font: 12px sans-serif; background: #999; columns: 6; column-gap: 16px }"
        "figure { margin: 0 0 16px; break-inside: avoid } img { display: block }"
    )
    page.show(
        f"<!doctype html><title>{escape(title)}</title><style>{style}</style>{figures}",
        width=SHEET_COLUMNS * (width + 16) + 16,
    )


if __name__ == "__main__":
    main()
