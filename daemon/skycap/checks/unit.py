"""The systemd unit: as it was shipped, and in step with the configuration."""

from __future__ import annotations

import difflib
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from skycap.checks.access import problem_of_secret
from skycap.checks.finding import CannotLook, Finding, fail, ok, warn
from skycap.checks.group import Group
from skycap.checks.installation import Installation
from skycap.checks.systemd import Unit

MARGIN = timedelta(seconds=10)
"""How much longer than worker.grace_seconds systemd must wait: handing back takes a moment."""

_FEWEST_FILES = 65_536
_MOST_MEMORY = 0.9
_SHIPPED = (Path(sys.prefix) / "share/skycap/systemd", Path(__file__).resolve().parents[3] / "systemd")
"""Of an installed wheel, and of a checkout."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """The unit, and what it runs."""

    unit: Unit
    installation: Installation


@asynccontextmanager
async def _opened(installation: Installation) -> AsyncGenerator[Site]:
    if installation.unit is None:
        raise CannotLook("systemd does not run this host")
    yield Site(unit=installation.unit, installation=installation)


unit = Group("unit", _opened)


def _installed(site: Site) -> Unit:
    if not site.unit.is_installed:
        raise CannotLook(f"there is no unit {site.unit.name}")
    return site.unit


@unit.check
def installed(site: Site) -> Finding:
    """The unit file is where systemd finds it."""
    if not site.unit.is_installed:
        return warn(
            f"systemd knows no unit {site.unit.name}",
            "copy share/skycap/systemd/skycap* to /etc/systemd/system and run systemctl daemon-reload; or name another "
            "one with --unit",
        )
    state = site.unit["ActiveState"]
    if state == "failed":
        return fail(f"{site.unit.name} has failed", f"read why: journalctl --unit {site.unit.name} --lines 50")
    return ok(f"{site.unit.name} is {state}, from {site.unit['FragmentPath']}")


@unit.check
def shipped(site: Site) -> Finding:
    """The unit file is the one that came with this skycap; drop-ins are named."""
    file = Path(_installed(site)["FragmentPath"])
    drop_ins = site.unit["DropInPaths"].split()
    beside = f", with {', '.join(drop_ins)}" if drop_ins else ""
    ours = next((folder / file.name for folder in _SHIPPED if (folder / file.name).exists()), None)
    if ours is None:
        raise CannotLook(f"this skycap came without a {file.name}")
    difference = [
        line
        for line in difflib.unified_diff(_lines(ours), _lines(file), lineterm="", n=0)
        if line[:1] in {"+", "-"} and line[:3] not in {"+++", "---"}
    ]
    if difference:
        return warn(
            f"{file} differs from the shipped one in {len(difference)} lines, as in {difference[0]!r}",
            f"copy {ours} over it, and put what is your own into a drop-in: systemctl edit {site.unit.name}",
        )
    return ok(f"as shipped{beside}")


@unit.check
def enabled(site: Site) -> Finding:
    """It starts with the host."""
    if _installed(site)["UnitFileState"].startswith("enabled"):
        return ok("starts with the host")
    return warn("does not start with the host", f"systemctl enable {site.unit.name}")


@unit.check
def reloaded(site: Site) -> Finding:
    """Systemd has read the unit file as it is now."""
    if _installed(site)["NeedDaemonReload"] == "yes":
        return warn("the unit was changed after systemd read it", "systemctl daemon-reload, then restart the daemon")
    return ok("systemd has read it as it is")


@unit.check
def stop(site: Site) -> Finding:
    """TimeoutStopSec leaves running jobs worker.grace_seconds and 10 s more."""
    allowed = _installed(site).duration("TimeoutStopUSec")
    needed = timedelta(seconds=site.installation.require_settings().worker.grace_seconds) + MARGIN
    if allowed is not None and allowed < needed:
        return warn(
            f"a stop is cut off after {allowed.total_seconds():g} s, and a drain may take {needed.total_seconds():g} s",
            f"TimeoutStopSec={needed.total_seconds():.0f} in a drop-in, or a smaller worker.grace_seconds",
        )
    return ok(f"a drain of {needed.total_seconds():g} s fits")


@unit.check
def watchdog(site: Site) -> Finding:
    """A daemon that hangs is restarted."""
    every = _installed(site).duration("WatchdogUSec")
    if not every:
        return warn("WatchdogSec is not set: a daemon that hangs stays", "WatchdogSec=30")
    return ok(f"a daemon that hangs for {every.total_seconds():g} s is restarted")


@unit.check
def restarts(site: Site) -> Finding:
    """It was not restarted after a failure since it was started."""
    number = _installed(site).number("NRestarts") or 0
    if number:
        return warn(f"was restarted {number} times after a failure", f"read why: journalctl --unit {site.unit.name}")
    return ok("was not restarted after a failure")


@unit.check
def files(site: Site) -> Finding:
    """LimitNOFILE leaves room for connections."""
    limit = _installed(site).number("LimitNOFILE")
    if limit is not None and limit < _FEWEST_FILES:
        return warn(f"may open {limit} files", f"LimitNOFILE={_FEWEST_FILES}: each connection is one")
    return ok(f"may open {limit or 'any number of'} files")


@unit.check
def memory(site: Site) -> Finding:
    """MemoryMax leaves room above what is used."""
    limit, used = _installed(site).number("MemoryMax"), site.unit.number("MemoryCurrent")
    if limit is None:
        return ok("no MemoryMax: the host's memory is the limit")
    if used is not None and used > _MOST_MEMORY * limit:
        return warn(f"uses {used >> 20} MiB of the {limit >> 20} that MemoryMax allows", "a larger MemoryMax=")
    return ok(f"MemoryMax is {limit >> 20} MiB")


@unit.check
def credentials(site: Site) -> list[Finding]:
    """What LoadCredential= names is there, and for root alone."""
    sources = _installed(site).credentials
    found = [problem_of_secret(path) for source in sources for path in _all_of(source)]
    problems = [each for each in found if each is not None]
    absent = [warn(f"{source} is not there", f"install -d -m 0700 {source}") for source in sources if not _is(source)]
    return [*absent, *problems] or [ok(f"{', '.join(map(str, sources)) or 'nothing'} is loaded")]


@unit.check
def environment_files(site: Site) -> list[Finding]:
    """What EnvironmentFile= names is there, and for root alone."""
    files = _installed(site).environment_files
    problems = [each for each in map(problem_of_secret, files) if each is not None]
    return problems or [ok(f"{', '.join(map(str, files)) or 'none'}")]


def _all_of(source: Path) -> list[Path]:
    try:
        return [source, *sorted(source.iterdir())] if source.is_dir() else [source] if source.exists() else []
    except PermissionError:
        return [source]


def _is(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:  # a folder above it is closed to us, so it is there
        return True


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError as error:
        raise CannotLook(f"{file} cannot be read: {error.strerror}") from error
