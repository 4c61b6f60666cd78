"""Who may read a file that holds a secret."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from skycap.checks.finding import Finding, fail, misconfigured, warn

_OTHERS = 0o007
_GROUP = 0o070


def problem_of_secret(path: Path) -> Finding | None:
    """What is wrong with who may read ``path``; None where only its owner may, who is root or we."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return misconfigured(f"{path} is not there", "correct the path, or create it")
    except OSError as error:
        return warn(f"{path} cannot be looked at: {error.strerror}", "give this command as root")
    closed = "0700" if stat.S_ISDIR(status.st_mode) else "0600"
    mode = stat.S_IMODE(status.st_mode)
    if mode & _OTHERS:
        return fail(f"{path} is open to everybody on this host ({mode:04o})", f"chmod {closed} {path}")
    if mode & _GROUP:
        return warn(f"{path} is open to a group ({mode:04o})", f"chmod {closed} {path}, unless the group is meant")
    if status.st_uid not in {0, os.geteuid()}:
        return warn(f"{path} belongs to the user {status.st_uid}", f"chown root: {path}")
    return None


def is_for_all(path: Path) -> bool:
    """Whether everybody on this host may read it."""
    try:
        return bool(path.stat().st_mode & _OTHERS)
    except OSError:
        return False
