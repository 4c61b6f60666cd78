"""Skipping: for what this machine lacks, and only where somebody may overlook it."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def skip(reason: str) -> NoReturn:
    """Skip the test, with the reason; with SKYCAP_NO_SKIP=1, where all tests are to run, fail it."""
    if os.environ.get("SKYCAP_NO_SKIP") == "1":
        pytest.fail(f"{reason}, and SKYCAP_NO_SKIP=1 is set", pytrace=False)
    pytest.skip(reason)
