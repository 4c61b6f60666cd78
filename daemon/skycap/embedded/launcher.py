"""Turns itself into a server that dies with the process that started it. A script of its own: it imports no skycap.

    launcher.py PARENT DEATH_SIGNAL WAY UID GID PROGRAM [ARGUMENT…]
    launcher.py PARENT DEATH_SIGNAL WAY UID GID reaches PATH…

WAY is how it first becomes UID and GID: ``same`` (it is), ``namespace`` (in its own eyes) or ``account`` (for good).
``reaches`` starts nothing: it exits with 0 if, after that, every PATH can be entered or run.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

# linux/prctl.h, linux/capability.h, linux/sched.h
_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522
_CLONE_NEWUSER = 0x10000000

_libc = ctypes.CDLL(None, use_errno=True)


def main(parent: int, death_signal: int, way: str, owner: tuple[int, int], command: list[str]) -> None:
    if way == "namespace":
        _enter_namespace(*owner)
    elif way == "account":
        _become(*owner)
    _die_with(parent, death_signal)  # last: a change of identity clears it
    if command[0] == "reaches":
        sys.exit(not all(os.access(path, os.X_OK) for path in command[1:]))
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # what the parent's thread blocks, the server must not
    os.execv(command[0], command)  # noqa: S606 - to run a program is what this script is for


def _die_with(parent: int, death_signal: int) -> None:
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent:  # it died before we asked to be told
        sys.exit("the process that started this one is gone")


def _enter_namespace(uid: int, gid: int) -> None:
    """Be ``uid`` in our own eyes, and on disk who we were: no account, no chown, no capability is needed."""
    outside_uid, outside_gid = os.geteuid(), os.getegid()
    if _libc.unshare(_CLONE_NEWUSER) != 0:
        sys.exit(f"unshare: {os.strerror(ctypes.get_errno())}")
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")  # else the kernel refuses our gid_map
    Path("/proc/self/uid_map").write_text(f"{uid} {outside_uid} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{gid} {outside_gid} 1", encoding="ascii")


def _become(uid: int, gid: int) -> None:
    """Give up root for ``uid``, but still pass folders that only root may enter, such as a data folder below /root."""
    _libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    only = 1 << _CAP_DAC_OVERRIDE
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    effective_permitted_inheritable = (ctypes.c_uint32 * 6)(only, only, only, 0, 0, 0)
    # Where even root lacks the capability there is none to keep; the server then says which folder it cannot enter.
    if _libc.capset(header, effective_permitted_inheritable) == 0:
        _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], (int(sys.argv[4]), int(sys.argv[5])), sys.argv[6:])
