"""The status page as a real browser lays it out: well, in trouble, without Redis and under attack; wide and narrow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from skycap.display.page import page as page_of
from tests.support.axe import CONTRAST, Finding, audit
from tests.support.browser import Page, browser, find_chromium
from tests.support.situations import SITUATIONS
from tests.support.skips import skip

pytestmark = pytest.mark.timeout(120)

PHONE, WINDOW = 360, 1200
WIDTH = "document.scrollingElement.scrollWidth"
BRIGHTNESS = """
    getComputedStyle(document.body).backgroundColor.match(/[0-9.]+/g).slice(0, 3).map(Number)
        .reduce((one, other) => one + other) / 765
"""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What there is to see of one situation."""

    findings: list[Finding]
    widths: dict[int, int]
    """Of the window → of the document, in CSS pixels."""
    requests: list[str]
    scripts: int
    brightness: dict[str, float]
    small_targets: list[str]


SMALL_TARGETS = """
    [...document.querySelectorAll("a")].filter(link => link.getBoundingClientRect().height < 24
        && !link.closest("footer")).map(link => link.outerHTML)
"""
"""Of 24 CSS pixels at least, as WCAG 2.2 has it; those of the footer stand in sentences."""


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    program = find_chromium()
    if program is None:
        skip("there is no chromium on PATH (Debian's package of that name)")
    with browser(program) as started:
        yield started.page()


@pytest.fixture(scope="module")
def looks(page: Page) -> dict[str, Look]:
    return {name: look_at(page_of(situation, refresh_seconds=10), page) for name, situation in SITUATIONS.items()}


def look_at(html: str, page: Page) -> Look:
    page.show(html, width=WINDOW, shade="light")
    requests = page.requests
    findings, brightness = audit(page), {"light": float(page.evaluate(BRIGHTNESS))}
    widths = {WINDOW: int(page.evaluate(WIDTH))}
    page.look(width=PHONE)
    findings += audit(page)
    widths[PHONE] = int(page.evaluate(WIDTH))
    page.look(width=PHONE, shade="dark")
    findings += audit(page, only=CONTRAST)
    brightness["dark"] = float(page.evaluate(BRIGHTNESS))
    return Look(
        findings=findings,
        widths=widths,
        requests=requests,
        scripts=int(page.evaluate("document.scripts.length")),
        brightness=brightness,
        small_targets=page.evaluate(SMALL_TARGETS),
    )


def test_axe_finds_nothing(looks: dict[str, Look]) -> None:
    found = {name: [str(finding) for finding in look.findings] for name, look in looks.items()}
    assert {name: findings for name, findings in found.items() if findings} == {}


def test_nothing_has_to_be_scrolled_sideways(looks: dict[str, Look]) -> None:
    assert {name: look.widths for name, look in looks.items() if look.widths != {WINDOW: WINDOW, PHONE: PHONE}} == {}


def test_it_has_no_script_and_asks_for_nothing(looks: dict[str, Look]) -> None:
    assert [name for name, look in looks.items() if look.scripts or look.requests] == []


def test_the_dark_is_dark_and_the_light_is_light(looks: dict[str, Look]) -> None:
    for look in looks.values():
        assert look.brightness["light"] > 0.9
        assert look.brightness["dark"] < 0.2


def test_a_finger_can_hit_what_is_to_be_hit(looks: dict[str, Look]) -> None:
    assert {name: look.small_targets for name, look in looks.items() if look.small_targets} == {}
