"""What is measured, in processes of its own: a private Redis, and daemons that tell how much CPU time they took."""

from __future__ import annotations

import json
import os
import platform
import signal
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from skycap.demo.daemon import DaemonProcess
from skycap.embedded.binaries import find_programs
from skycap.embedded.privileges import Identity
from skycap.embedded.process import Child, Place
from tests.support.redis import redis_at
from tests.support.redis_servers import free_port

_LIMIT = timedelta(seconds=10)
_PLUGINS = Path(__file__).with_name("plugins_own")


@asynccontextmanager
async def private_redis(folder: Path, program: Path | None = None) -> AsyncGenerator[str]:
    """The address of a server that keeps nothing on disk: ``program``, or the Valkey of the extra ``embedded``."""
    program = program or find_programs(redis=True, database=False).valkey
    assert program is not None
    uid, gid, port = os.geteuid(), os.getegid(), free_port()
    identity = Identity(way="same", uid=uid, gid=gid, owner=(uid, gid))
    options = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder)
    lock = os.open(folder, os.O_RDONLY)
    try:
        place = Place(folder=folder, sockets=folder, identity=identity, lock=lock)
        server = Child(program, *options, place=place, log=folder / "redis.log", stop_signal=signal.SIGKILL)
    finally:
        os.close(lock)
    url = f"redis://127.0.0.1:{port}"

    async def answers() -> bool:
        async with redis_at(url) as client:
            try:
                return bool(await client.ping())
            except RedisError:
                return False

    try:
        await server.until_ready(answers, limit=_LIMIT)
        yield url
    finally:
        await server.stop(limit=_LIMIT)


class MeasuredDaemon(DaemonProcess):
    """A real ``skycap run`` with the plugin of plugins_own. Linux only: the CPU time is what /proc says."""

    @property
    def cpu_seconds(self) -> float:
        """User and system time since its start, to a hundredth of a second."""
        fields = Path(f"/proc/{self._started.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured_daemon(
    folder: Path, number: int, *, redis_url: str, queues: Mapping[str, Mapping[str, int]]
) -> MeasuredDaemon:
    """The daemon ``number`` of those that share ``folder``."""
    tables: dict[str, Mapping[str, Any]] = {
        "redis": {"url": redis_url},
        "http": {"bind": f"unix:{folder}/http-{number}.sock"},
        "log": {"level": "warning"},
        **{f"queues.{name}": settings for name, settings in queues.items()},
    }
    lines = [f"plugins_dir = {json.dumps(str(_PLUGINS))}", 'load_plugins = ["noop"]']
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    config = folder / f"skycap-{number}.toml"
    config.write_text("\n".join(lines) + "\n")
    return MeasuredDaemon(folder / f"daemon-{number}.log", "--config", str(config))


def cores() -> int:
    """The CPU cores that this process, and what it starts, may use."""
    return len(os.sched_getaffinity(0))


async def surroundings(redis: Any) -> str:
    """On what the figures were taken."""
    server = await redis.info("server")
    name = server.get("server_name", "redis")
    version = server.get(f"{name}_version", server["redis_version"])
    return f"{name} {version}, Python {platform.python_version()}, {cores()} CPU cores"
