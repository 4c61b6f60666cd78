"""MemorySize: an amount of memory, written as systemd's MemoryMax is: ``512M``, ``1G``, or ``1GiB``."""

from __future__ import annotations

import re
from typing import Annotated, TypeAlias

from pydantic import AfterValidator

_SIZE = re.compile(r"(?P<number>[0-9]{1,6}(?:\.[0-9]{1,3})?)(?P<unit>[MG])(?:iB)?")
_BYTES = {"M": 1024**2, "G": 1024**3}

_LEAST = 64 * _BYTES["M"]


def memory_bytes(text: str) -> int | None:
    """How many; None for "off". Raises ValueError with the fix."""
    if text == "off":
        return None
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError("is no amount of memory; write it as 512MiB or 1.5GiB, or off")
    size = int(float(match["number"]) * _BYTES[match["unit"]])
    if size < _LEAST:
        raise ValueError("is less than a daemon needs; give at least 64MiB, or off")
    return size


def _checked(text: str) -> str:
    memory_bytes(text)
    return text


MemorySize: TypeAlias = Annotated[str, AfterValidator(_checked)]
