"""CallRate: how often somebody may ask, written as ``100/1s``."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, TypeAlias

from pydantic import AfterValidator

_RATE = re.compile(r"(?P<number>[1-9][0-9]{0,6})/(?P<seconds>[0-9]{1,5}(?:\.[0-9]{1,3})?)s")


def call_rate(text: str) -> tuple[int, timedelta]:
    """How many, in what time. Raises ValueError with the fix."""
    match = _RATE.fullmatch(text)
    if match is None or not float(match["seconds"]):
        raise ValueError("is no rate; write it as 100/1s: so many in so many seconds")
    return int(match["number"]), timedelta(seconds=float(match["seconds"]))


def _checked(text: str) -> str:
    call_rate(text)
    return text


CallRate: TypeAlias = Annotated[str, AfterValidator(_checked)]
