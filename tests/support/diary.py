"""An installation whose jobs keep a diary of their starts and ends, which outlives the daemons that write it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from skycap import Payload
from skycap.demo.daemon import DaemonProcess
from tests.support.daemons import Site
from tests.support.workers import eventually

CONCURRENCY = 8
LEASE_SECONDS = 1.0

_PLUGIN = '''
import asyncio
import os
import time
from pathlib import Path
from typing import Self

from skycap import Context, Payload, Plugin

plugin = Plugin("diary")
FOLDER = Path({folder!r})
DIARY = os.open(FOLDER / "diary", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def note(word, ctx):
    os.write(DIARY, f"{{word}} {{ctx.job.id}} {{os.getpid()}} {{time.monotonic()}}\\n".encode())


class Work(Payload, kind="work"):
    seconds: float = 0
    fails_once: bool = False


class SyncWork(Work, kind="sync-work"):
    pass


class Gated(Payload, kind="gated"):
    pass


@plugin.job()
async def work(ctx: Context, payload: Work) -> str:
    note("start", ctx)
    await asyncio.sleep(payload.seconds)
    if payload.fails_once and ctx.job.attempt == 1:
        raise ConnectionError("the first attempt fails")
    note("end", ctx)
    return type(asyncio.get_running_loop()).__module__


@plugin.job()
def sync_work(ctx: Context, payload: SyncWork) -> None:
    note("start", ctx)
    time.sleep(payload.seconds)
    if payload.fails_once and ctx.job.attempt == 1:
        raise ConnectionError("the first attempt fails")
    note("end", ctx)


@plugin.job()
async def gated(ctx: Context, payload: Gated) -> int:
    """Ends when there is a file with its process's number; the result is that number."""
    note("start", ctx)
    while not (FOLDER / str(os.getpid())).exists():
        await asyncio.sleep(0.01)
    note("end", ctx)
    return os.getpid()
'''


class Work(Payload, kind="work"):
    """A job that notes its start, lasts some time and notes its end."""

    seconds: float = 0
    fails_once: bool = False


class SyncWork(Work, kind="sync-work"):
    """The same in a thread."""


class Gated(Payload, kind="gated"):
    """A job that ends when the test says so: see ``CrashSite.let_end``."""


class Victim(DaemonProcess):
    """A daemon that may be stopped or killed."""

    @property
    def pid(self) -> int:
        return self._started.pid


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A line of the diary; ``at`` is in seconds of the machine's monotonic clock."""

    word: str
    job_id: str
    pid: int
    at: float


@dataclass(kw_only=True)
class CrashSite:
    """An installation whose jobs keep a diary."""

    folder: Path
    redis_url: str

    def __post_init__(self) -> None:
        plugins = self.folder / "plugins"
        plugins.mkdir()
        (plugins / "diary.py").write_text(_PLUGIN.format(folder=str(self.folder)))
        self.site = Site(
            folder=self.folder,
            redis_url=self.redis_url,
            plugins_dir=plugins,
            extra={
                "worker": {"lease_seconds": LEASE_SECONDS},
                "queues.default": {"concurrency": CONCURRENCY, "backoff_seconds": 0.1},
            },
        )
        self.config = self.site.config

    def daemon(self, environ: Mapping[str, str] | None = None) -> Victim:
        return Victim(self.site.log, "--config", str(self.config), environ=environ)

    def diary(self) -> list[Entry]:
        path = self.folder / "diary"
        lines = path.read_text().splitlines() if path.exists() else []
        return [
            Entry(word=word, job_id=job_id, pid=int(pid), at=float(at))
            for word, job_id, pid, at in (line.split(" ") for line in lines)
        ]

    def entries(self, word: str, job_id: str) -> list[Entry]:
        return [entry for entry in self.diary() if (entry.word, entry.job_id) == (word, job_id)]

    async def started(self, job_id: str, *, times: int = 1) -> Entry:
        """The newest start of the job, once it was started so often."""

        async def often_enough() -> bool:
            return len(self.entries("start", job_id)) >= times

        await eventually(often_enough)
        return self.entries("start", job_id)[-1]

    def let_end(self, pid: int) -> None:
        """Let the Gated jobs of this process end."""
        (self.folder / str(pid)).touch()


def environment_without_uvloop(folder: Path) -> dict[str, str]:
    """For a daemon that is to find no uvloop, installed or not."""
    (folder / "sitecustomize.py").write_text('import sys\nsys.modules["uvloop"] = None\n')
    return {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])}
