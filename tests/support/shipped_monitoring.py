"""The rules and the dashboard that are shipped, and what their expressions speak of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CONFIG = Path(__file__).resolve().parents[2] / "config"
PROMETHEUS, DASHBOARD = CONFIG / "prometheus", CONFIG / "grafana" / "skycap.json"

_VARIABLES = {"$__rate_interval": "5m", "$queue": ".*", "$instance": ".*"}
"""What Grafana puts in the place of each."""

_SELECTOR = re.compile(r"\b((?:skycap|process|python)_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')


def alerts() -> dict[str, str]:
    """The text of each rule by its name."""
    _, *rules = re.split(r"^ +- alert: ", (PROMETHEUS / "alerts.yml").read_text(), flags=re.MULTILINE)
    return {rule.partition("\n")[0]: rule.partition("\n")[2] for rule in rules}


def expression(rule: str) -> str:
    """What a rule asks for: its text before ``for`` or ``labels``."""
    found = re.search(r"expr:(.*?)^ +(?:for|labels):", rule, re.MULTILINE | re.DOTALL)
    assert found is not None, rule
    return found[1]


def panels() -> list[dict[str, Any]]:
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def dashboard_expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def as_grafana_asks(expression: str) -> str:
    text = expression
    for variable, value in _VARIABLES.items():
        text = text.replace(variable, value)
    assert "$" not in text
    return text


def selectors(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Each metric that an expression names, with the labels by which it chooses; those after it in braces."""
    for name, matchers in _SELECTOR.findall(text):
        yield name, dict(_MATCHER.findall(matchers))
