"""Screenshots of the status page: ``python -m tests.support.page_pictures OUT``.

OUT gets a PNG of each situation (well, troubled, without Redis, hostile names), wide and narrow, light and dark.
"""

# ruff: noqa: T201 - it reports on a terminal

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from skycap.display.page import page
from tests.support.browser import SHADES, browser, find_chromium
from tests.support.situations import SITUATIONS

WIDTHS: Final = {"window": 1200, "phone": 360}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.page_pictures", description=__doc__)
    parser.add_argument("out", type=Path, help="the folder for the pictures")
    arguments = parser.parse_args()
    program = find_chromium()
    if program is None:
        parser.error("there is no chromium on PATH")
    arguments.out.mkdir(parents=True, exist_ok=True)
    with browser(program) as started:
        shown = started.page()
        for name, situation in SITUATIONS.items():
            html = page(situation, refresh_seconds=10)
            for window, width in WIDTHS.items():
                for shade in SHADES:
                    shown.show(html, width=width, shade=shade)
                    file = arguments.out / f"{name}.{window}.{shade}.png"
                    file.write_bytes(shown.screenshot(width=width))
                    print(file)


if __name__ == "__main__":
    main()
