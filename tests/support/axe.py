"""axe-core: the accessibility rules of WCAG as a script, run in the page that a browser shows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

from tests.support.browser import Page

CONTRAST: Final = ("color-contrast", "link-in-text-block")
"""The rules that another light can break; the other ones are about structure."""

_RUN: Final = """
    axe.run(document, {options}).then(result => result.violations.flatMap(rule =>
        rule.nodes.map(node => [rule.id, node.impact || rule.impact, node.html, node.failureSummary])))
"""


@dataclass(frozen=True)
class Finding:
    """One element that breaks one rule; ``impact`` is minor, moderate, serious or critical."""

    rule: str
    impact: str
    element: str
    advice: str

    @property
    def is_grave(self) -> bool:
        return self.impact in {"serious", "critical"}

    def __str__(self) -> str:
        return f"{self.rule} ({self.impact}): {self.element[:200]}: {' '.join(self.advice.split())[:300]}"


def audit(page: Page, *, only: tuple[str, ...] = ()) -> list[Finding]:
    """What breaks axe's rules in the document that ``page`` shows; ``only`` names the rules to ask."""
    # The script lives as long as the tab, not the document.
    if not page.evaluate("'axe' in window"):
        page.evaluate(f"{_script()}; 0")
    # Experimental in this version of axe, and serious: a link in a sentence that only its colour tells from the rest.
    options: dict[str, Any] = {
        "resultTypes": ["violations"],
        "preload": False,
        "rules": {"link-in-text-block": {"enabled": True}},
    }
    if only:
        options["runOnly"] = list(only)
    return [Finding(*found) for found in page.evaluate(_RUN.replace("{options}", json.dumps(options)))]


@cache
def _script() -> str:
    return (files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8")
