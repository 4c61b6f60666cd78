"""What is bad for a daemon. It tells systemd's socket what it does, in order with what the daemon says itself.

The variable TROUBLE names what begins without a job: hurried, late, never-started, never-stopped.
"""

from __future__ import annotations

import asyncio
import errno
import importlib
import mmap
import os
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from skycap import Context, Payload, Plugin, hookimpl
from skycap.backoff import fixed
from skycap.engine.queue import Queue
from skycap.engine.schedule_book import ScheduleBook
from skycap.maintenance import clock as clock_module
from skycap.observe import pulse as pulse_module
from skycap.supervisor import life as life_module
from skycap.supervisor import memory as memory_module
from skycap.worker import consumer as consumer_module

TROUBLE = os.environ.get("TROUBLE", "").split()

plugin = Plugin("trouble")

if "hurried" in TROUBLE:  # what takes seconds takes a fraction of one, so that a test of it does, too
    pulse_module.PATIENCE = timedelta(seconds=0.5)
    life_module.REPORT_INTERVAL = timedelta(seconds=0.1)
    life_module.ASK_AGAIN = timedelta(seconds=0.1)
    memory_module.LOOK = timedelta(seconds=0.1)
    clock_module.LONGEST_SLEEP = timedelta(seconds=0.1)
    for name, value in {"IDLE_TURN": timedelta(seconds=0.1), "_REDIS_AWAY": fixed(seconds=0.1, attempts=1)}.items():
        setattr(consumer_module, name, value)


class Misbehave(Payload, kind="misbehave"):
    """``how`` is the name of a function below."""

    how: str


@plugin.job()
async def misbehave(ctx: Context, payload: Misbehave) -> Any:
    say("begin")
    result = await globals()[payload.how]()
    say("end")
    return result


@hookimpl
async def daemon_started() -> None:
    if "late" in TROUBLE:
        await asyncio.sleep(0.5)
        (state_directory() / "started").touch()
    if "never-started" in TROUBLE:
        say("starting")
        await take_long()


@hookimpl
async def daemon_stopping() -> None:
    if "never-stopped" in TROUBLE:
        say("stopping")
        await take_long()


_leaked: list[bytearray] = []


async def leak() -> None:
    _leaked.append(bytearray(os.urandom(1)) * (40 * 1024 * 1024))
    await asyncio.sleep(0.2)


async def ask_for_too_much() -> None:
    bytearray(1 << 60)


async def do_nothing() -> None:
    pass


async def block_the_loop() -> None:
    time.sleep(1)  # noqa: ASYNC251 - this is the trouble


async def block_the_loop_for_long() -> None:
    time.sleep(60)  # noqa: ASYNC251


async def block_the_loop_once() -> int:
    if is_first_time():
        await block_the_loop_for_long()
    return os.getpid()


async def take_long_once() -> int:
    if is_first_time():
        await take_long()
    return os.getpid()


def is_first_time() -> bool:
    """Of this daemon, whatever became of its process."""
    mark = state_directory() / "first-time"
    if mark.exists():
        return False
    mark.touch()
    return True


async def wedge_the_consumers() -> None:
    Queue.step = _never  # type: ignore[method-assign]  # it is to go wrong
    await take_a_while()


async def wedge_the_clock() -> None:
    ScheduleBook.known = _never  # type: ignore[method-assign]  # it is to go wrong
    await take_a_while()


async def break_the_consumers() -> None:
    Queue.step = _fail  # type: ignore[method-assign]  # it is to go wrong
    await take_long()


async def take_a_while() -> None:
    await asyncio.sleep(1)
    say("middle")
    await asyncio.sleep(1)


async def take_a_moment() -> None:
    await asyncio.sleep(1)


async def take_long() -> None:
    await asyncio.sleep(60)


async def resist() -> None:
    try:
        await take_long()
    except asyncio.CancelledError:
        await take_long()


async def use_a_thread() -> None:
    await asyncio.to_thread(time.sleep, 60)


async def look_around() -> dict[str, Any]:
    """What a handler can do where this daemon runs; for what it cannot, the name of the error."""
    state = state_directory()
    credentials = Path(os.environ["CREDENTIALS_DIRECTORY"])
    return {
        "pid": os.getpid(),
        "write": {
            "state": tried(lambda: (state / "written").write_text("x")),
            "runtime": tried(lambda: Path(os.environ["RUNTIME_DIRECTORY"], "written").write_text("x")),
            "tmp": tried(lambda: Path("/tmp/written").write_text("x")),  # noqa: S108 - a private one
            "etc": tried(lambda: Path("/etc/skycap/written").write_text("x")),
            "opt": tried(lambda: Path("/opt/skycap/written").write_text("x")),
            "credentials": tried(lambda: (credentials / "written").write_text("x")),
        },
        "read": {
            "credential": tried((credentials / "skycap_redis_url").read_text),
            "its source": tried(Path("/etc/skycap/credentials/redis_url").read_text),
            "home": tried(lambda: list(Path("/root").iterdir())),
            "other processes": tried(lambda: list(Path("/proc/1").iterdir())),
        },
        "import": {name: tried(partial(importlib.import_module, name)) for name in COMPILED},
        "inline css": tried(
            lambda: importlib.import_module("css_inline").inline("<style>p {color: red}</style><p>x</p>")
        ),
        "writable code": tried(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)),
        "raw socket": tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)),
        "root": os.getuid() == 0,
    }


COMPILED = ("hiredis.hiredis", "asyncpg.protocol.protocol", "aiohttp._http_parser", "css_inline.css_inline", "ssl")


def tried(action: Callable[..., object]) -> str:
    try:
        action()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "ok"


def state_directory() -> Path:
    return Path(os.environ["STATE_DIRECTORY"])


async def _never(*_: object, **__: object) -> NoReturn:
    await asyncio.Event().wait()
    raise AssertionError


async def _fail(*_: object, **__: object) -> NoReturn:
    raise ZeroDivisionError


def say(word: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to_systemd:
        to_systemd.sendto(f"X_TEST={word}".encode(), os.environ["NOTIFY_SOCKET"])
