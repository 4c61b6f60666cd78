"""Every mail of every plugin in every locale, as a real browser lays it out: on a phone, in a window, in the dark."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from skycap.preview.previews import Preview
from tests.support.axe import CONTRAST, Finding, audit
from tests.support.browser import Page, browser, find_chromium
from tests.support.previews import all_previews
from tests.support.skips import skip

pytestmark = pytest.mark.timeout(120)

PHONE, WINDOW = 360, 600
RIGHT_TO_LEFT = {"ar", "fa", "he", "ur"}

WIDTH = "document.scrollingElement.scrollWidth"

LARGE_SURFACES = """
    (() => {
        const whole = document.documentElement.scrollWidth * document.documentElement.scrollHeight;
        const surfaces = [...document.querySelectorAll("body, body *")].filter(element => {
            const box = element.getBoundingClientRect();
            return box.width * box.height > whole / 10;
        });
        const colors = surfaces.map(element => getComputedStyle(element).backgroundColor.match(/[0-9.]+/g).map(Number));
        return colors.filter(color => color.length === 3 || color[3] > 0.5).map(([red, green, blue]) =>
            (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255);
    })()
"""
"""How bright each opaque background is that covers a tenth of the page or more, from 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What there is to see of one mail."""

    preview: Preview
    findings: list[Finding]
    findings_in_the_dark: list[Finding]
    widths: dict[int, int]
    """Of the window → of the document, in CSS pixels."""
    requests: list[str]
    language: str
    direction: str
    brightness: list[float]
    brightness_in_the_dark: list[float]


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    program = find_chromium()
    if program is None:
        skip("there is no chromium on PATH (Debian's package of that name)")
    with browser(program) as started:
        yield started.page()


@pytest.fixture(scope="module")
def looks(page: Page) -> dict[str, Look]:
    previews = all_previews()
    assert len({preview.kind for preview in previews.values()}) >= 5
    return {name: look_at(preview, page) for name, preview in previews.items()}


def look_at(preview: Preview, page: Page) -> Look:
    page.show(preview.page, width=WINDOW, shade="light")
    widths = {WINDOW: int(page.evaluate(WIDTH))}
    findings, brightness = audit(page), page.evaluate(LARGE_SURFACES)
    language, direction = page.evaluate("[document.documentElement.lang, getComputedStyle(document.body).direction]")
    page.look(width=PHONE, shade="dark")
    widths[PHONE] = int(page.evaluate(WIDTH))
    return Look(
        preview=preview,
        findings=findings,
        findings_in_the_dark=audit(page, only=CONTRAST),
        widths=widths,
        requests=page.requests,
        language=language,
        direction=direction,
        brightness=brightness,
        brightness_in_the_dark=page.evaluate(LARGE_SURFACES),
    )


def test_axe_finds_nothing_serious_or_critical(looks: dict[str, Look]) -> None:
    found = {
        f"{name}, {shade}": [str(finding) for finding in findings if finding.is_grave]
        for name, look in looks.items()
        for shade, findings in (("light", look.findings), ("dark", look.findings_in_the_dark))
    }
    assert {name: findings for name, findings in found.items() if findings} == {}


def test_nothing_has_to_be_scrolled_sideways(looks: dict[str, Look]) -> None:
    too_wide = {
        f"{name}, {window} px": document
        for name, look in looks.items()
        for window, document in look.widths.items()
        if document > window
    }
    assert too_wide == {}


def test_no_mail_asks_the_network_for_anything(looks: dict[str, Look]) -> None:
    assert {name: look.requests for name, look in looks.items() if look.requests} == {}


def test_every_mail_says_its_language_and_runs_in_its_direction(looks: dict[str, Look]) -> None:
    ours = {name: look for name, look in looks.items() if look.preview.locale is not None}
    said = {name: (look.language, look.direction) for name, look in ours.items()}
    assert said == {
        name: (look.preview.locale, "rtl" if look.preview.locale in RIGHT_TO_LEFT else "ltr")
        for name, look in ours.items()
    }


def test_the_dark_is_dark_and_the_light_is_light(looks: dict[str, Look]) -> None:
    ours = {name: look for name, look in looks.items() if look.preview.locale is not None}
    assert {name: look.brightness for name, look in ours.items() if min(look.brightness) < 0.8} == {}
    in_the_dark = {name: look.brightness_in_the_dark for name, look in ours.items()}
    assert {name: brightness for name, brightness in in_the_dark.items() if max(brightness) > 0.25} == {}


def test_gmail_cuts_none_of_them(looks: dict[str, Look]) -> None:
    sizes = {name: len(look.preview.html.encode()) for name, look in looks.items()}
    assert {name: size for name, size in sizes.items() if size > 80 * 1024} == {}


def test_a_bad_mail_would_be_noticed(page: Page) -> None:
    page.show(
        """<!doctype html><html><head><title>Bad</title></head><body style="background: #ffffff; height: 100vh">
        <p style="color: #cccccc">Pale</p><img src="https://tracker.example.com/pixel.gif" width="700" height="1">
        </body></html>""",
        width=WINDOW,
        shade="dark",
    )
    assert {finding.rule for finding in audit(page) if finding.is_grave} == {
        "color-contrast",
        "html-has-lang",
        "image-alt",
    }
    assert int(page.evaluate(WIDTH)) > 700
    assert page.requests == ["https://tracker.example.com/pixel.gif"]
    assert max(page.evaluate(LARGE_SURFACES)) > 0.99


def test_what_one_mail_asked_for_is_not_held_against_the_next(page: Page) -> None:
    page.show('<img src="https://tracker.example.com/pixel.gif" alt="">', width=PHONE)
    page.show("<p>Nothing</p>", width=PHONE)
    assert page.requests == []
