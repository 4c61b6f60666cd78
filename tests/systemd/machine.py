"""A machine for units: this one's systemd, booted once more, with skycap installed as README.md in systemd/ says."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from skycap.embedded.binaries import find_programs

ROOT = Path(__file__).resolve().parents[2]
BOOT = Path(__file__).with_name("boot.sh")
PLUGIN = Path(__file__).parent / "plugins" / "trouble.py"
SYSTEMD = Path("/lib/systemd/systemd")
README = (ROOT / "systemd" / "README.md").read_text()

PASSWORD = "a-secret-that-must-not-show"
INNER_REDIS_URL = f"unix://:{PASSWORD}@/shared/valkey.sock"
PATIENCE_SECONDS = 20
"""A bound on what must happen; never a pause."""
COMMAND_SECONDS = 90
"""The same for a command: making a virtual environment takes half a minute where other tests are busy."""

_PYTHON, _ENVIRONMENT = "/opt/python", "/opt/environment"
"""Where the machine has this Python, and the environment of this test, out of which only libraries are taken."""

_VALKEY = f"""
port 0
unixsocket /shared/valkey.sock
unixsocketperm 777
requirepass {PASSWORD}
save ""
"""


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


class Machine:
    """Runs commands as its root.

    ``folder`` is /shared in there, ``init`` its first process and ``cgroup`` the name of its cgroup as seen outside.
    """

    def __init__(self, folder: Path, *, init: int, cgroup: str) -> None:
        self.folder = folder
        self.init = init
        self.cgroup = cgroup

    @property
    def redis_url(self) -> str:
        """Valkey's, as it is called outside."""
        return f"unix://:{PASSWORD}@{self.folder}/valkey.sock"

    async def run(self, command: str, *, stdin: str = "", check: bool = True) -> Said:
        """Run a command of bash; fails with what it printed unless it succeeds, or need not."""
        process = await asyncio.create_subprocess_exec(
            *("nsenter", f"--target={self.init}", "--all", "--root", "bash", "-euc", f"cd / && {command}"),
            env=_ENVIRON,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                out, err = await process.communicate(stdin.encode())
        except TimeoutError:
            process.kill()
            await process.wait()
            last_words = await self.run("journalctl --lines 30 --output cat", check=False)
            raise AssertionError(f"{command}: is not done after {COMMAND_SECONDS} s\n{last_words.out}") from None
        assert process.returncode is not None
        said = Said(code=process.returncode, out=out.decode(), err=err.decode())
        if check and said.code:
            last_words = await self.run("journalctl --lines 30 --output cat", check=False)
            raise AssertionError(f"{command}: {said}\n{last_words.out}")
        return said

    async def write(self, path: str, text: str) -> None:
        await self.run(f"install -D -m 0644 /dev/stdin {path}", stdin=text)

    async def show(self, unit: str) -> Mapping[str, str]:
        """The unit's properties."""
        lines = (await self.run(f"systemctl show {unit}")).out.splitlines()
        return dict(line.split("=", 1) for line in lines)

    async def journal(self, unit: str) -> str:
        await self.run("journalctl --sync")
        return (await self.run(f"journalctl --unit {unit} --output cat --no-pager")).out

    @asynccontextmanager
    async def daemon(
        self, name: str, *, config: str = "", drop_in: str = "", start: bool = True
    ) -> AsyncGenerator[str]:
        """The unit of a daemon with this configuration and drop-in; it is stopped at the end."""
        unit = f"skycap@{name}.service"
        await self.write(f"/etc/skycap/{name}.toml", config)
        if drop_in:
            await self.write(f"/etc/systemd/system/{unit}.d/test.conf", f"[Service]\n{drop_in}\n")
            await self.run("systemctl daemon-reload")
        if start:
            await self.run(f"systemctl start {unit}")
        try:
            yield unit
        finally:
            await self.run(f"systemctl kill --signal=SIGKILL {unit}; systemctl stop {unit}", check=False)
            await self.run(f"systemctl reset-failed {unit}", check=False)

    async def install(self) -> None:
        """skycap, its plugin for tests, and a Valkey that asks for a password."""
        await self.run(f"ldconfig {_PYTHON}/lib")  # where a Python that is not the system's has its own library
        for command in readme_commands("Install"):
            if "requirements.lock" not in command:  # that would take a package index; libraries.pth is instead of it
                await self.run(f"cd /shared && {command}")
            if "venv" in command:
                libraries = sysconfig.get_path("purelib", vars={"base": _ENVIRONMENT})
                site = sysconfig.get_path("purelib", vars={"base": "/opt/skycap"})
                await self.write(f"{site}/libraries.pth", libraries)
        await self.write("/etc/skycap/plugins/trouble.py", PLUGIN.read_text())
        await self._start_valkey()

    async def _start_valkey(self) -> None:
        program = find_programs(redis=True, database=False).valkey
        assert program
        if program.is_relative_to(sys.prefix):
            program = _ENVIRONMENT / program.relative_to(sys.prefix)
        await self.write("/etc/valkey.conf", _VALKEY)
        until_it_listens = "/bin/sh -c 'until test -S /shared/valkey.sock; do sleep 0.02; done'"
        service = f"[Service]\nExecStart={program} /etc/valkey.conf\nExecStartPost={until_it_listens}\n"
        await self.write("/etc/systemd/system/valkey-server.service", service)
        await self.run("systemctl daemon-reload && systemctl start valkey-server")
        await self.run("install -d -m 0700 /etc/skycap/credentials")
        await self.run("install -m 0600 /dev/stdin /etc/skycap/credentials/redis_url", stdin=INNER_REDIS_URL)


_ENVIRON = {"PATH": f"{_PYTHON}/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "PIP_NO_INDEX": "1"}


def readme_commands(section: str) -> list[str]:
    """What an admin types in one section of systemd/README.md, as root."""
    return re.findall(r"^\$ (?:sudo )?(.+)$", _section(section), re.MULTILINE)


def readme_toml(section: str) -> str:
    (text,) = re.findall(r"^```toml\n(.*?)^```$", _section(section), re.MULTILINE | re.DOTALL)
    return str(text)


def _section(name: str) -> str:
    (text,) = re.findall(rf"^## {name}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    return str(text)


def obstacle() -> str | None:
    """Why this machine cannot boot another one."""
    if os.geteuid() != 0:
        return "only root can boot a systemd"
    if not SYSTEMD.exists():
        return "there is no systemd on this machine"
    mount = 'mkdir "$0/probe" && mount -t cgroup2 none "$0/probe" && test -w "$0/probe/cgroup.procs"'
    with tempfile.TemporaryDirectory() as folder:
        namespaces = ["--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--fork"]
        tried = subprocess.run(
            ["unshare", *namespaces, "sh", "-c", mount, folder], capture_output=True, text=True, check=False
        )
    return f"this root may not make namespaces: {tried.stderr.strip()}" if tried.returncode else None


@contextmanager
def booted(wheel: Path) -> Generator[Machine]:
    """A machine with the wheel in /shared."""
    folder = Path(tempfile.mkdtemp(prefix="skycap-boot-"))  # short: it is part of the path of a socket
    shared = folder / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    folder.chmod(0o755)
    shutil.copy(wheel, shared)
    mounts = (f"{sys.base_prefix}:{_PYTHON}", f"{sys.prefix}:{_ENVIRONMENT}")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices, (folder / "log").open("wb") as log:
            notices.bind(str(shared / "notify"))
            notices.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            notices.settimeout(PATIENCE_SECONDS)
            process = subprocess.Popen(
                # It is to end with the test, even if that is killed.
                ["setpriv", "--pdeathsig=TERM", BOOT, folder, *mounts],
                env={"PATH": os.environ["PATH"], "NOTIFY_SOCKET": "/shared/notify"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            try:
                init = _ready(notices, folder / "log")
                # systemd goes on to tell, and would stop for good when nobody takes what it tells.
                notices.close()
                try:
                    yield Machine(shared, init=init, cgroup=f"skycap-boot-{process.pid}")
                finally:
                    os.kill(init, signal.SIGKILL)
                    process.wait(PATIENCE_SECONDS)
            finally:
                process.terminate()
                process.wait(PATIENCE_SECONDS)
    finally:
        shutil.rmtree(folder)


def _ready(notices: socket.socket, log: Path) -> int:
    """Return the process that said it is ready: the machine's init, as it is called outside."""
    try:
        while True:
            message, ancillary, _, _ = notices.recvmsg(4096, socket.CMSG_SPACE(12))
            if b"READY=1" in message:
                return int(struct.unpack("3i", ancillary[0][2])[0])
    except TimeoutError:
        raise AssertionError(f"the machine did not boot: {log.read_text()}") from None
