"""Screenshots of all mails: ``python -m tests.support.gallery OUT [--locale tr --locale ar] [--width 360]``.

OUT gets a PNG of each mail in light and dark, and for each locale and shade a contact sheet with all of them. With
``--strip FILE``, there is one picture instead: the one in templates/README.md.
"""

# ruff: noqa: T201 - it reports on a terminal

from __future__ import annotations

import argparse
import base64
from html import escape
from pathlib import Path

from tests.support.browser import SHADES, Page, Shade, browser, find_chromium
from tests.support.previews import all_previews

PHONE = 360
SHEET_COLUMNS = 6

STRIP: tuple[tuple[str, Shade], ...] = (
    ("send-booking-confirmation.hotel-confirmed.tr", "light"),
    ("send-payment-receipt.paid-with-lines.ar", "dark"),
    ("send-price-alert.target-reached.en", "light"),
)
STRIP_HEIGHT, STRIP_WIDTH = 820, 3 * 360 + 2 * 12


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.gallery", description=__doc__)
    parser.add_argument("out", type=Path, nargs="?", help="the folder for the pictures")
    parser.add_argument("--strip", type=Path, metavar="FILE", help="three mails in one picture, and nothing else")
    parser.add_argument("--locale", action="append", help="again for more; all if not given")
    parser.add_argument("--width", type=int, default=PHONE, help="of the window, in CSS pixels")
    parser.add_argument("--kind", help="only this one")
    arguments = parser.parse_args()
    program = find_chromium()
    if program is None:
        parser.error("there is no chromium on PATH")
    if (arguments.out is None) == (arguments.strip is None):
        parser.error("give a folder, or --strip FILE")
    with browser(program) as started:
        if arguments.strip is not None:
            arguments.strip.write_bytes(strip(started.page()))
            return
        arguments.out.mkdir(parents=True, exist_ok=True)
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


def strip(page: Page) -> bytes:
    """The beginnings of three mails, side by side."""
    previews = all_previews()
    pictures: list[str] = []
    for name, shade in STRIP:
        page.show(previews[name].page, width=PHONE, shade=shade)
        pictures.append(base64.b64encode(page.screenshot(width=PHONE)).decode())
    frames = "".join(f'<div><img width="{PHONE}" src="data:image/png;base64,{each}"></div>' for each in pictures)
    style = (
        f"body {{ margin: 0; display: flex; gap: 12px; background: #fff }}"
        f"div {{ width: {PHONE}px; height: {STRIP_HEIGHT}px; overflow: hidden }} img {{ display: block }}"
    )
    page.show(f"<!doctype html><title>mails</title><style>{style}</style>{frames}", width=STRIP_WIDTH)
    return page.screenshot(width=STRIP_WIDTH)


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
