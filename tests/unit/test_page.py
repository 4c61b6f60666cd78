"""The status page as HTML: what it says of a frozen fleet, and that nothing in it can act."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from skycap.display.page import POLICY, page
from tests.support.golden import assert_golden
from tests.support.situations import HOSTILE, SITUATIONS, TROUBLED, UNDER_ATTACK, WELL


class Elements(HTMLParser):
    """All elements of a document with their attributes, and the text of its style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("name", SITUATIONS)
def test_the_page_is_as_somebody_last_saw_it(name: str) -> None:
    html = page(SITUATIONS[name], refresh_seconds=10)
    # Its style is a file of its own.
    assert_golden(f"http/page.{name}.html", re.sub(r"<style>.*</style>", "<style></style>", html, flags=re.DOTALL))


def test_what_others_have_named_is_text_and_nothing_else() -> None:
    usual = {tag for tag, _ in Elements(page(TROUBLED, refresh_seconds=10)).found}
    html = page(UNDER_ATTACK, refresh_seconds=10)
    elements = Elements(html).found
    assert {tag for tag, _ in elements} <= usual
    assert "script" not in usual
    known = {"aria-label", "aria-labelledby", "aria-current", "class", "content", "d", "data-label", "colspan"}
    known |= {
        "charset",
        "height",
        "href",
        "id",
        "lang",
        "name",
        "rel",
        "role",
        "scope",
        "viewbox",
        "width",
        "preserveaspectratio",
    }
    assert {attribute for _, attributes in elements for attribute in attributes} <= known
    assert html.count("&lt;script&gt;") > 20
    assert HOSTILE not in html


def test_a_browser_may_use_the_pages_own_style_alone() -> None:
    (style,) = re.findall(r"<style>(.*?)</style>", page(WELL, refresh_seconds=10), re.DOTALL)
    assert f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'" in POLICY
    assert POLICY.startswith("default-src 'none';")
    assert "unsafe" not in POLICY


def test_its_links_stay_where_a_proxy_has_put_it() -> None:
    links = [
        str(attributes["href"]) for tag, attributes in Elements(page(WELL, refresh_seconds=10)).found if tag == "a"
    ]
    assert [link for link in links if not re.fullmatch(r"\?refresh=\d+|(api|metrics)[a-z/.-]*", link)] == []


def test_the_chosen_refresh_is_marked() -> None:
    html = page(WELL, refresh_seconds=0)
    assert re.findall(r'<a href="([^"]+)" aria-current="true">', html) == ["?refresh=0"]


@pytest.mark.parametrize(
    ("is_watched", "said"), [(True, "<p>No alarm fires.</p>"), (False, "Nobody would be told: neither")]
)
def test_it_says_when_nobody_would_be_told(is_watched: bool, said: str) -> None:
    assert said in page(replace(WELL, is_watched=is_watched), refresh_seconds=10)
