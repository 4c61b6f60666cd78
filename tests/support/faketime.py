"""Processes that are told another time, by libfaketime."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from tests.support.skips import skip


def clock_file(file: Path) -> dict[str, str]:
    """The variables of a process whose time is as the file says, also when it is changed later."""
    return _preloaded() | {"FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_CACHE_DURATION": "1"}


def clock_off_by(offset: timedelta) -> dict[str, str]:
    """The variables of a process whose time is the true one and so much more."""
    return _preloaded() | {"FAKETIME": f"{offset.total_seconds():+.0f}"}


def _preloaded() -> dict[str, str]:
    # Not through the command faketime: it gives up where a killed one of the same process id left its semaphore.
    return {"LD_PRELOAD": str(_library()), "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def _library() -> Path:
    found = [*Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), *Path("/usr/lib").glob("faketime/libfaketime.so.1")]
    if not found:
        skip("there is no libfaketime (Debian's package libfaketime)")
    return found[0]
