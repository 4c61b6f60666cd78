"""What this process takes of its host. Reads nothing but /proc/self, which is all that ``ProcSubset=pid`` leaves.

prometheus_client's own collector takes the time of boot from /proc/stat, and says nothing at all without it.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from skycap.observe.families import Family, counter, number

_SELF = Path("/proc/self")
_AFTER_NAME = 3
"""/proc/self/stat counts its fields from 1, and the third is the first behind the name, which may have spaces in it."""


def of_process() -> Iterator[Family]:
    """Nothing, where there is no /proc."""
    try:
        fields = (_SELF / "stat").read_text().rpartition(")")[2].split()
        open_files = len(os.listdir(_SELF / "fd"))  # noqa: PTH208 - one that is closed meanwhile is no Path any more
    except OSError:
        return

    def field(place: int) -> int:
        return int(fields[place - _AFTER_NAME])

    ticks = os.sysconf("SC_CLK_TCK")
    most_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield counter(
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        (),
        [((), (field(14) + field(15)) / ticks)],
    )
    yield number(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        _started_at(field(22) / ticks),
    )
    yield number("process_virtual_memory_bytes", "Virtual memory size in bytes.", field(23))
    yield number("process_resident_memory_bytes", "Resident memory size in bytes.", field(24) * resource.getpagesize())
    yield number("process_open_fds", "Number of open file descriptors.", open_files)
    yield number("process_max_fds", "Maximum number of open file descriptors.", most_files)
    yield number("process_threads", "Number of threads.", field(20))


@cache
def _started_at(seconds_after_boot: float) -> float:
    # Once: whoever corrects the host's clock later has not restarted the process.
    return round(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + seconds_after_boot, 2)
