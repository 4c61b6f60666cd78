"""What the control group of this process allows it, as systemd and containers set it; only /proc/self is needed."""

from __future__ import annotations

from pathlib import Path

_GROUP = Path("/proc/self/cgroup")
_ALL = Path("/sys/fs/cgroup")


def memory_limit(group: Path = _GROUP, root: Path = _ALL) -> int | None:
    """The lower of MemoryMax and MemoryHigh in bytes; None where there is neither, or it cannot be read."""
    try:
        name = next(line for line in group.read_text().splitlines() if line.startswith("0::")).removeprefix("0::")
    except (OSError, StopIteration):
        return None
    folder = root / name.strip("/")
    return min((limit for each in ("memory.max", "memory.high") if (limit := _number(folder / each))), default=None)


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # "max" is no limit
        return None
