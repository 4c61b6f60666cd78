"""A machine for units: this one's systemd, booted once more, with skycap installed as systemd/README.md says."""

from __future__ import annotations

import asyncio
import os
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
from functools import cache
from pathlib import Path

from skycap.embedded.binaries import find_programs
from tests.systemd import page

ROOT = Path(__file__).resolve().parents[2]
BOOT = Path(__file__).with_name("boot.sh")
PLUGINS = Path(__file__).parent / "plugins"
SYSTEMD = Path("/lib/systemd/systemd")

PASSWORD = "a-secret-that-must-not-show"
INNER_REDIS_URL = f"unix://:{PASSWORD}@/shared/valkey.sock"
DATABASE_URL = f"postgresql://fleet:{PASSWORD}@/travel?host=/shared"
SHARED, NEIGHBOUR = "/shared", "/neighbour"
"""What lies in the first, a machine that was booted beside this one sees in the second."""
PATIENCE_SECONDS = 20
"""A bound on what must happen; never a pause."""
COMMAND_SECONDS = 90
"""The same for a command: making a virtual environment takes half a minute where other tests are busy."""

_PYTHON, _ENVIRONMENT = "/opt/python", "/opt/environment"
"""Where the machine has this Python, and the environment of this test, out of which only libraries are taken."""

_CLUSTER = "/etc/postgresql/15/main"
DEBIAN_PYTHON = Path("/usr/bin/python3")
ASYNC_TIMEOUT = Path("/usr/lib/python3/dist-packages/async_timeout")
"""Which redis-py needs there, and not in this test's environment: Debian 12 has Python 3.11.2."""

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

    async def run(self, command: str, *, stdin: str = "", check: bool = True, seconds: int = COMMAND_SECONDS) -> Said:
        """Run a command of bash; fails with what it printed unless it succeeds, or need not."""
        process = await asyncio.create_subprocess_exec(
            *("nsenter", f"--target={self.init}", "--all", "--root", "bash", "-euc", f"cd / && {command}"),
            env=_ENVIRON,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(seconds):
                out, err = await process.communicate(stdin.encode())
        except TimeoutError:
            process.kill()
            await process.wait()
            last_words = await self.run("journalctl --lines 30 --output cat", check=False)
            raise AssertionError(f"{command}: is not done after {seconds} s\n{last_words.out}") from None
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

    async def install(self, *, as_typed: bool = False) -> None:
        """Do what the page says, and add the plugins of these tests.

        What would take a package index is not done; libraries.pth is instead of it. Unless all is to be ``as_typed``,
        the environment has no pip of its own, which takes most of the time that it takes.
        """
        await self.run(f"ldconfig {_PYTHON}/lib")  # where a Python that is not the system's has its own library
        for typed in page.commands("Install"):
            if not typed.takes_a_network:
                await self.run(f"cd /shared && {typed.command if as_typed else _without_pip(typed.command)}")
            if "-m venv" in typed.command:
                libraries = sysconfig.get_path("purelib", vars={"base": _ENVIRONMENT})
                site = sysconfig.get_path("purelib", vars={"base": "/opt/skycap"})
                await self.write(f"{site}/libraries.pth", libraries)
                if _uses_debian_python():
                    await self.run(f"ln -s {ASYNC_TIMEOUT} {site}")
        for plugin in PLUGINS.glob("*.py"):
            await self.write(f"/etc/skycap/plugins/{plugin.name}", plugin.read_text())

    async def start_valkey(self) -> None:
        """One that asks for a password; the credentials of all daemons lead to it."""
        program = find_programs(redis=True, database=False).valkey
        assert program
        if program.is_relative_to(sys.prefix):
            program = _ENVIRONMENT / program.relative_to(sys.prefix)
        await self.write("/etc/valkey.conf", _VALKEY)
        until_it_listens = "/bin/sh -c 'until test -S /shared/valkey.sock; do sleep 0.02; done'"
        service = f"[Service]\nExecStart={program} /etc/valkey.conf\nExecStartPost={until_it_listens}\n"
        await self.write("/etc/systemd/system/valkey-server.service", service)
        await self.run("systemctl daemon-reload && systemctl start valkey-server")
        await self.credential("redis_url", INNER_REDIS_URL)

    async def start_postgres(self) -> None:
        """Debian's cluster, listening in /shared too, where a role with a password has a database."""
        await self.write(f"{_CLUSTER}/conf.d/shared.conf", "unix_socket_directories = '/var/run/postgresql, /shared'\n")
        await self.run(f"sed -i '1i local travel fleet scram-sha-256' {_CLUSTER}/pg_hba.conf && chmod 1777 /shared")
        await self.run("systemctl start postgresql@15-main")
        await self.psql(f"CREATE ROLE fleet LOGIN PASSWORD '{PASSWORD}'", "CREATE DATABASE travel OWNER fleet")

    async def psql(self, *statements: str, database: str = "postgres") -> str:
        """Have the superuser run them; what the last one printed, one row a line."""
        return (
            await self.run(
                f"runuser -u postgres -- psql -qAt -v ON_ERROR_STOP=1 {database}", stdin=";\n".join((*statements, ""))
            )
        ).out

    async def credential(self, name: str, secret: str) -> None:
        await self.run(
            f"install -d -m 0700 /etc/skycap/credentials && install -m 0600 /dev/stdin /etc/skycap/credentials/{name}",
            stdin=secret,
        )


def _without_pip(command: str) -> str:
    """A command of the page that makes the same environment sooner."""
    uv = f"{_ENVIRONMENT}/bin/uv pip install --offline --no-cache --compile-bytecode --python /opt/skycap/bin/python"
    return command.replace("-m venv", "-m venv --without-pip").replace("/opt/skycap/bin/pip install", uv)


@cache
def _uses_debian_python() -> bool:
    """Whether it is there, and the libraries of this test's environment fit it."""
    said = subprocess.run(
        [DEBIAN_PYTHON, "-c", "import ensurepip, sys; print(*sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=False,
    )
    fits = said.stdout.split() == [str(part) for part in sys.version_info[:2]]
    return fits and ASYNC_TIMEOUT.exists()


_PROGRAMS = "/usr/sbin:/usr/bin:/sbin:/bin"
_ENVIRON = {
    "PATH": _PROGRAMS if _uses_debian_python() else f"{_PYTHON}/bin:{_PROGRAMS}",
    "LANG": "C.UTF-8",
    "PIP_NO_INDEX": "1",
}


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
def booted(wheel: Path, *, neighbour: Machine | None = None) -> Generator[Machine]:
    """A machine with the wheel in /shared, and what its neighbour shares in /neighbour."""
    folder = Path(tempfile.mkdtemp(prefix="skycap-boot-"))  # short: it is part of the path of a socket
    shared = folder / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    folder.chmod(0o755)
    shutil.copy(wheel, shared)
    mounts = [f"{sys.base_prefix}:{_PYTHON}", f"{sys.prefix}:{_ENVIRONMENT}"]
    if neighbour is not None:
        mounts.append(f"{neighbour.folder}:/neighbour")
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
