"""The data folder of the embedded servers: who holds it, where the sockets are, and how others find them."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from skycap.embedded.binaries import EmbeddedUnavailable
from skycap.embedded.waiting import until

_LOCK = "lock"
_ADDRESSES = "embedded.json"

_SOCKET_PATH_BYTES = 103
"""sun_path of sys/un.h, without its closing NUL: 103 on macOS, 107 on Linux."""
_LONGEST_SOCKET_NAME = ".s.PGSQL.5432.lock"

_PATIENCE = timedelta(milliseconds=200)
"""``read_addresses`` holds the lock for microseconds to see if it is free."""
_FAREWELL = timedelta(seconds=30)
"""How long the servers of a killed run may take to write down what they hold in memory."""


class FolderInUse(EmbeddedUnavailable):
    """Another process runs its embedded servers in this data folder."""


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Where the embedded servers answer; None for one that was not wanted."""

    redis_url: str | None
    database_url: str | None


def read_addresses(folder: Path) -> Addresses | None:
    """Where the servers that run in ``folder`` answer, for another process; None when none run or are not yet ready."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        if _locks(lock, fcntl.LOCK_SH):
            return None
        return Addresses(**json.loads((folder / _ADDRESSES).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    finally:
        os.close(lock)


class DataFolder:
    """A folder that one process at a time holds.

    Two locks: ``lock`` is ours alone; ``servers.lock`` is also held by every process of the servers, so that it is
    free only when none is left, which no process id in a file could say (it may be someone else's by now).
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.sockets = self.path / "run"
        self.servers_lock = -1
        self._lock = -1

    async def claim(self) -> None:
        """Hold the folder; it is made if there is none. Raises FolderInUse while another process holds it."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = await self._take_lock()
        except OSError as error:
            raise EmbeddedUnavailable(
                f"{self.path} cannot be the data folder: {error.filename}: {error.strerror}; "
                "run as its owner, or choose another one"
            ) from error
        try:
            self.withdraw()  # what a killed run has published
            self.servers_lock = await self._take_servers_lock()
            self._make_socket_folder()
        except BaseException:
            self.release()
            raise

    def publish(self, addresses: Addresses) -> None:
        """Let ``read_addresses`` find them: all at once, and only for our own user."""
        draft = self.path / f"{_ADDRESSES}.new"
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(asdict(addresses), file)
        draft.replace(self.path / _ADDRESSES)

    def withdraw(self) -> None:
        """Undo ``publish``. Does nothing when the folder is not ours."""
        if self._lock >= 0:
            (self.path / _ADDRESSES).unlink(missing_ok=True)

    def release(self) -> None:
        """Let the next one have the folder; the servers must have ended. Does nothing when it is not ours."""
        if self.servers_lock >= 0:
            self._remove_socket_folder()
            os.close(self.servers_lock)
        if self._lock >= 0:
            os.close(self._lock)
        self.servers_lock = self._lock = -1

    async def _take_lock(self) -> int:
        path = self.path / _LOCK
        try:
            lock = await _hold(path, limit=_PATIENCE)
        except TimeoutError:
            holder = path.read_text(encoding="ascii", errors="replace")
            raise FolderInUse(
                f"{self.path} is in use by process {holder}: stop that one, or choose another data folder"
            ) from None
        os.ftruncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        return lock

    async def _take_servers_lock(self) -> int:
        path = self.path / "servers.lock"
        try:
            return await _hold(path, limit=_FAREWELL)
        except TimeoutError:
            raise FolderInUse(
                f"servers of an earlier run still hold {path} after {_FAREWELL.total_seconds():g} s: "
                f"`fuser -v {path}` names them; end them, or choose another data folder"
            ) from None

    def _make_socket_folder(self) -> None:
        self._remove_socket_folder()
        path = self.path / "run"
        length = len(os.fsencode(path / _LONGEST_SOCKET_NAME))
        # Other characters would have to be quoted in one way for each server and in another for each URL.
        if length <= _SOCKET_PATH_BYTES and re.fullmatch(r"[A-Za-z0-9/._-]+", str(path)):
            path.mkdir(mode=0o700)
            self.sockets = path
        else:
            self.sockets = self._make_short_folder()
            path.symlink_to(self.sockets)

    def _make_short_folder(self) -> Path:
        """The same as before where servers are started again, so that who knows their address finds them."""
        if self.sockets != self.path / "run":
            with suppress(FileExistsError):  # somebody else has taken the name
                self.sockets.mkdir(mode=0o700)
                return self.sockets
        return Path(tempfile.mkdtemp(prefix="skycap-", dir="/tmp"))  # not TMPDIR: it may be long, too

    def _remove_socket_folder(self) -> None:
        """Also that of a killed run, whose leftovers would be in the way."""
        path = self.path / "run"
        if path.is_symlink():
            shutil.rmtree(path.readlink(), ignore_errors=True)  # may be gone: a restart of the machine empties /tmp
            path.unlink()
        elif path.exists():
            shutil.rmtree(path)


async def _hold(path: Path, *, limit: timedelta) -> int:
    """The descriptor of ``path``, locked until it is closed. Raises TimeoutError when another one holds it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)

    async def is_held() -> bool:
        return _locks(lock, fcntl.LOCK_EX)

    try:
        await until(is_held, limit=limit)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _locks(lock: int, kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
