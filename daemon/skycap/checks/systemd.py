"""Unit: what systemd says of the unit that runs a daemon."""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

_BOOTED = Path("/run/systemd/system")
"""As sd_booted(3) tells."""
_PATIENCE_SECONDS = 3
_PROPERTIES = (
    *("LoadState", "ActiveState", "UnitFileState", "FragmentPath", "DropInPaths", "NeedDaemonReload"),
    *("TimeoutStopUSec", "WatchdogUSec", "NRestarts", "Environment", "EnvironmentFiles", "LoadCredential"),
    *("LimitNOFILE", "MemoryMax", "MemoryCurrent", "ExecStart"),
)
_SPAN = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>us|ms|s|min|h|d|w)")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A unit as ``systemctl show`` prints it."""

    name: str
    properties: Mapping[str, str]

    @classmethod
    def parse(cls, name: str, shown: str) -> Unit:
        lines = (line.partition("=") for line in shown.splitlines())
        properties: dict[str, str] = {}
        for key, _, value in lines:
            properties[key] = f"{properties[key]}\n{value}" if key in properties else value
        return cls(name=name, properties=properties)

    @property
    def is_installed(self) -> bool:
        return self["LoadState"] == "loaded" and bool(self["FragmentPath"])

    @property
    def environment(self) -> dict[str, str]:
        """What the unit itself sets for the daemon; of its files, nothing."""
        return dict(word.split("=", 1) for word in shlex.split(self["Environment"]) if "=" in word)

    @property
    def environment_files(self) -> list[Path]:
        return [Path(line.partition(" (")[0]) for line in self["EnvironmentFiles"].splitlines() if line]

    @property
    def credentials(self) -> list[Path]:
        """The folders and files that LoadCredential= names outright."""
        sources = (word.partition(":")[2] for word in self["LoadCredential"].split())
        return [Path(source) for source in sources if source.startswith("/")]

    def duration(self, name: str) -> timedelta | None:
        """None where it is infinite, or not set."""
        parts = [(float(each["number"]), each["unit"]) for each in _SPAN.finditer(self[name])]
        return timedelta(seconds=sum(number * _SECONDS[unit] for number, unit in parts)) if parts else None

    def number(self, name: str) -> int | None:
        """None where it is infinite, or not known."""
        return int(self[name]) if self[name].isdecimal() and int(self[name]) < 2**63 else None

    def __getitem__(self, name: str) -> str:
        return self.properties.get(name, "")


def is_booted() -> bool:
    """Whether systemd runs this host."""
    return _BOOTED.is_dir() and shutil.which("systemctl") is not None


async def read_unit(name: str) -> Unit | None:
    """None where systemd does not run this host, or does not answer."""
    return await asyncio.to_thread(_read, name) if is_booted() else None


def _read(name: str) -> Unit | None:
    command = ("systemctl", "show", "--no-pager", f"--property={','.join(_PROPERTIES)}", "--", name)
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_PATIENCE_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return None
    return Unit.parse(name, done.stdout)
