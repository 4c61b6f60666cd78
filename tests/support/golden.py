"""Golden files: what something looked like when a person last looked at it."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

import pytest

_FOLDER = Path(__file__).parents[1] / "golden"


def assert_golden(name: str, actual: str) -> None:
    """Fail with a diff unless ``tests/golden/NAME`` holds ``actual``; SKYCAP_UPDATE_GOLDEN=1 writes it instead."""
    path = _FOLDER / name
    if os.environ.get("SKYCAP_UPDATE_GOLDEN") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(actual, encoding="utf-8")
        return
    expected = path.read_text(encoding="utf-8") if path.exists() else ""
    if actual != expected:
        diff = difflib.unified_diff(expected.splitlines(), actual.splitlines(), name, "now", lineterm="", n=1)
        pytest.fail("\n".join([*diff, "SKYCAP_UPDATE_GOLDEN=1 accepts the change"]), pytrace=False)
