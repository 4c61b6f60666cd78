"""The host: Python, clock, disk, memory, open files."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import shutil
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from skycap.checks.finding import CannotLook, Finding, fail, ok, warn
from skycap.checks.group import Group
from skycap.checks.installation import Installation

_FEWEST_FILES = 65_536
_GIB = 1 << 30
_LITTLE_DISK, _NO_DISK = _GIB, _GIB // 10
_LITTLE_MEMORY = 0.1
_TIMEX_BYTES = 512
"""More than struct timex of sys/timex.h has; all zero, it asks and changes nothing."""
_UNSYNCHRONISED = 5
"""TIME_ERROR."""


@asynccontextmanager
async def _opened(installation: Installation) -> AsyncGenerator[Installation]:
    yield installation


host = Group("host", _opened)


@host.check
def python(_: Installation) -> Finding:
    """The Python that skycap runs on is 3.11 to 3.13, which it was tested on."""
    version = platform.python_version()
    if sys.version_info >= (3, 14):
        return warn(f"Python {version} is newer than what skycap was tested on", "take 3.11, 3.12 or 3.13")
    return ok(f"Python {version}")


@host.check
def clock(_: Installation) -> Finding:
    """The clock is kept in time (NTP)."""
    state = _state_of_clock()
    if state < 0:
        raise CannotLook("this system does not say whether its clock is kept in time")
    if state == _UNSYNCHRONISED:
        fix = "timedatectl set-ntp true, or install chrony; in a container, on its host"
        return warn("nobody keeps this clock in time", fix)
    return ok("kept in time")


@host.check
def disk(installation: Installation) -> list[Finding]:
    """There is room where state and logs are written."""
    folders = dict.fromkeys(map(_existing, _folders(installation)))
    return [_room(folder) for folder in folders]


@host.check
def memory(_: Installation) -> Finding:
    """The host has memory left."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError as error:
        raise CannotLook("this system has no /proc/meminfo") from error
    kib = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}
    free, most = kib.get("MemAvailable", 0), kib["MemTotal"]
    says = f"{free >> 10} of {most >> 10} MiB are available"
    return ok(says) if free > _LITTLE_MEMORY * most else warn(says, "give the host more, or less to do")


@host.check
def files(installation: Installation) -> Finding:
    """A process may open as many files as a daemon wants: 65,536."""
    if installation.unit is not None and installation.unit.is_installed:
        raise CannotLook("the unit says it: unit.files")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _FEWEST_FILES:
        return warn(
            f"a process may open {hard} files", f"raise the hard limit to {_FEWEST_FILES} (limits.conf, LimitNOFILE=)"
        )
    return ok("a process may open enough files")


def _state_of_clock() -> int:
    """As adjtimex(2) returns it; below zero where it cannot be asked."""
    adjtimex: Callable[[object], int] | None = getattr(ctypes.CDLL(None), "adjtimex", None)
    return -1 if adjtimex is None else adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))


def _folders(installation: Installation) -> Iterator[Path]:
    yield installation.require_settings().state_dir(installation.environ)
    yield Path("/var/log")


def _existing(path: Path) -> Path:
    """It, or the nearest folder above it that is there."""
    return next(each for each in (path, *path.absolute().parents) if os.path.lexists(each))


def _room(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    says = f"{folder}: {free / _GIB:.1f} GiB are free"
    if free < _NO_DISK:
        return fail(says, "make room")
    return ok(says) if free > _LITTLE_DISK else warn(says, "make room")
